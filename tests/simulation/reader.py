"""The reader of a simulated store, who looks after every change of what is to be seen.

He keeps account of the files that hold each row, so that he need not read the whole store after
each change. Now and then, and whenever a part appears, he reads it as every reader does.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from orchestrator.errors import StoreError
from orchestrator.states import State
from orchestrator.store import row_files, table_files
from orchestrator.store.damage import DamagedError
from orchestrator.store.names import (
    CompactFile,
    RemovalFile,
    RowFile,
    SnapshotFile,
    WeightsFile,
    is_half,
    stored,
)
from orchestrator.store.schemas import result_columns
from orchestrator.store.store import Store
from tests.simulation.parquet import PARQUET
from trainers.checkpoint import checksum

if TYPE_CHECKING:
    from tests.simulation.scene import Scene


RESULTS = result_columns("trials")
DECIDING = ("rows/", "trials/", "removed/")  # files by which it is decided which rows count


class Reader:
    """Looks at each file that appears, changes or goes, and at what rows refer to."""

    def __init__(self, scene: Scene):
        self.scene = scene
        self.base = scene.root.removeprefix("s3://") + "/"
        self.spoilt: set[str] = set()
        """Paths that a fault damaged on purpose."""
        self.spoilt_once: set[str] = set()
        """Likewise, also those that were written again: a loss of power may bring them back."""
        self.rows: dict[str, dict[str, Any]] = {}
        """Results of the complete trials that were seen, by id."""
        self.named: dict[str, str] = {}
        """Trials by the files that their present rows name."""
        self.excused: set[str] = set()
        """Trials whose rows a fault damaged at some time."""
        self.halved: set[str] = set()
        """Trials whose whole row an upload cut short has replaced, until they have one again."""
        self.acknowledged: set[str] = set()
        """Trials of which a driver knows that they are complete."""
        self.held: dict[str, Held] = {}
        """What the row files and the parts that are there hold, by their names."""
        self.holders: Counter[str] = Counter()
        """Number of files that hold a complete row, by trial."""
        self.digests: dict[str, set[str]] = {}
        """Digests of the complete rows that were ever written, by trial."""
        self.problems: list[str] = []
        self._decided: tuple[dict[str, bytes], dict[str, str]] = {}, {}
        """Files that decide which rows count, as they were at the last look, and what it found."""

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield the names and contents of the files in the store."""
        start = len(self.base)
        if self.scene.is_local:
            for path, file in self.scene.room.disk.files(self.base.rstrip("/")):
                yield path[start:], file.data
        else:
            for key, (data, _) in self.scene.room.objects.objects.items():
                yield key[start:], data

    def outcomes(self) -> dict[str, str]:
        """Return the outcome of each trial that has a row, as every reader sees it.

        The store is looked at again only if something has changed. Nobody acts meanwhile.
        """
        deciding = {name: data for name, data in self.files() if name.startswith(DECIDING)}
        if deciding != self._decided[0]:
            with self._outside():
                self._decided = deciding, Store(self.scene.root).outcomes()
        return self._decided[1]

    def content(self, path: str) -> bytes | None:
        """Return what is at a path now."""
        if self.scene.is_local:
            what = self.scene.room.disk.find(path)
            return getattr(what, "data", None)
        return self.scene.room.objects.objects.get(path, (None,))[0]

    def look_at(self, path: str) -> None:
        """Look at a path that has changed, in the middle of an operation of some process.

        An error of the reader is no fault of that process, which may take it for its own.
        """
        try:
            self.look(path)
        except Exception as error:
            self.wrong(f"the reader failed at {path}: {error!r}")
            raise

    def look(self, path: str) -> None:
        """Look at a path that has changed."""
        if not path.startswith(self.base):
            return
        name = path.removeprefix(self.base)
        if is_half(name) or name.startswith("damaged/"):
            return
        data = self.content(path)
        folder, _, last = name.rpartition("/")
        if data is None:
            self._gone(name)
            return
        if not stored(name):
            self.wrong(f"{name} is no file of a store")
        if path in self.scene.room.objects.torn:
            self._torn(name, RowFile.parse(last), data)
            return
        if path in self.spoilt:
            if flaw_of(folder, last, data):
                return
            self.spoilt.discard(path)  # it was written again
        if flaw := flaw_of(folder, last, data):
            self.wrong(f"{name} {flaw}")
        elif (row := RowFile.parse(last)) and row.outcome == State.COMPLETE:
            self._hold(name, Held(frozenset({row.id})))
            self._row(row, data)
        elif folder == "trials" and CompactFile.parse(last):
            self._part(name, data)

    def _torn(self, name: str, row: RowFile | None, data: bytes) -> None:
        """Forget a row that an upload cut short has replaced.

        The upload was repeated because its answer was lost, and its worker died meanwhile. If that
        worker had been frozen, another one may have found and reported the row before. Who reads
        lines misses nothing of a row that lacks only its last byte, their end.
        """
        if row and not flaw_of("rows", row.name, data + b"\n"):
            self.digests.setdefault(row.id, set()).add(row.digest)
        if row and self.holders[row.id] <= (name in self.held):
            self.rows.pop(row.id, None)
            self.halved |= {row.id} if name in self.held else set()
        self._hold(name, NOTHING)

    def wrong(self, problem: str) -> None:
        self.problems.append(f"{self.scene.world.now:.3f} s: {problem}")

    def _hold(self, name: str, held: Held) -> None:
        """Take note of what a file holds from now on."""
        before = self.held.pop(name, NOTHING)
        self.held |= {name: held} if held.trials else {}
        self.holders.update(held.trials)
        self.holders.subtract(before.trials)
        for id in sorted(before.trials - held.trials - self.excused):
            if not self.holders[id] and id in self.rows:
                self.wrong(f"the row of {id} went away with {name}")

    def in_part(self, name: str) -> frozenset[str]:
        """Return the trials of the parts that have this file; of none, all trials may be meant."""
        parts = [held for part, held in self.held.items() if name in (part, *held.named)]
        return frozenset().union(*(held.trials for held in parts)) or trials()

    def _part(self, name: str, data: bytes) -> None:
        """Look at a part that has appeared."""
        self._hold(name, held := held_by(data))
        for id, digest in held.digests:
            if digest not in self.digests.get(id, ()):
                self.wrong(f"{name} holds a row of {id} that nobody wrote")
        for other in held.named if held.trials - self.excused else ():
            if self.content(self.base + other) is None and self.base + other not in self.spoilt:
                self.wrong(f"{name} names {other}, which is not there")
        self._outcomes(is_new=True)

    def _row(self, file: RowFile, data: bytes) -> None:
        """Look at the row of a complete trial, and at the weights that it names."""
        row, results = contents(file, data)
        self.halved.discard(file.id)
        self.digests.setdefault(file.id, set()).add(file.digest)
        if self.rows.setdefault(file.id, results) != results:
            self.wrong(f"the row of {file.id} changed")
        if file.id not in keepers():
            return
        name = f"checkpoints/{file.id}/{WeightsFile(row['checkpoint']).name}"
        path = self.base + name
        self.named[name] = file.id
        if path in self.spoilt or path in self.scene.room.objects.torn:
            return
        there = self.content(path)
        if there is None:
            self.wrong(f"the row of {file.id} names {name}, which is not there")
        elif flaw := flaw_of(*name.rpartition("/")[::2], there):
            self.wrong(f"the row of {file.id} names {name}, which {flaw}")

    def _gone(self, name: str) -> None:
        """Look at what names a file that has gone."""
        path = self.base + name
        if path in self.spoilt or path in self.scene.room.objects.torn:
            return
        if name in self.held:
            self._hold(name, NOTHING)
        for part, held in self.held.items():
            if name in held.named and held.trials - self.excused:
                self.wrong(f"{name} went away, and {part} names it")
        if name.startswith(("rows/", "trials/", "curves/", "classes/")):
            self._outcomes()
        if (id := self.named.get(name)) and id not in self.excused:
            self.wrong(f"{name} went away, and the row of {id} names it")

    @contextlib.contextmanager
    def _outside(self) -> Iterator[None]:
        """Context in which the reader is no process: nobody acts meanwhile."""
        world = self.scene.world
        before, world.current = world.current, None
        try:
            yield
        finally:
            world.current = before

    def _outcomes(self, *, is_new: bool = False) -> None:
        """Read the store as every reader does, and miss nothing that was there."""
        if self.scene.is_hasty and self.scene.world.writes % 20:
            return
        complete = {id for id, outcome in self.outcomes().items() if outcome == State.COMPLETE}
        for id in sorted(self.rows.keys() - complete - self.excused):
            self.wrong(f"the row of {id} went away")
        if self.scene.world.writes % 60 == 0 or (is_new and not self.scene.is_hasty):
            with self._outside():
                self._tables()

    def _tables(self) -> None:
        """Read the tables, and compare them with all rows that were seen."""
        store = Store(self.scene.root)
        rows = store.table("trials", RESULTS).to_pylist()
        ids = [row["id"] for row in rows]
        if len(ids) != len(set(ids)):
            self.wrong("a trial has two rows")
        for row in rows:
            if row["outcome"] == State.COMPLETE and row != self.rows.get(row["id"], row):
                self.wrong(f"a reader sees another row of {row['id']}")
        complete = {row["id"] for row in rows if row["outcome"] == State.COMPLETE}
        for table in ("curves", "classes"):
            there = set(store.table(table, ["id"])["id"].to_pylist())
            for id in sorted(complete - there - self.excused):
                self.wrong(f"a reader sees the row of {id} without its {table}")

    def read(self) -> None:
        """Read the tables as a process of its own, while others act between any two operations."""
        known = set(self.rows)
        try:
            store = Store(self.scene.root)
            outcomes = store.outcomes()
            there = set(store.table("curves", ["id"])["id"].to_pylist())
        except StoreError as error:
            if not self.scene.weather:
                self.wrong(f"a reader met a failure: {error}")
            return
        for id in sorted(known - self.excused) if not self.scene.weather else ():
            if outcomes.get(id) != State.COMPLETE or id not in there:
                self.wrong(f"a reader misses the row or the curve of {id}")

    def damaged(self) -> list[str]:
        """Return the files of tables that are not whole. The notice to old versions is no row."""
        flaws = {
            name: flaw_of(*name.rpartition("/")[::2], data)
            for name, data in self.files()
            if name.startswith(("rows/", "trials/", "sweeps/"))
            and not is_half(name)
            and data  # an empty file is none
        }
        wrong = {name: flaw for name, flaw in flaws.items() if flaw and "/skipped/" not in name}
        return [f"{name} {flaw}, at the end" for name, flaw in wrong.items()]

    def look_for_acknowledged(self) -> None:
        """Look for the rows of which a driver was told."""
        outcomes = self.outcomes()
        for id in sorted(self.acknowledged - self.excused - self.halved):
            if outcomes.get(id) != State.COMPLETE:
                self.wrong(f"the row of {id} is not there, and a driver was told of it")

    def after_power_loss(self) -> None:
        """Look at everything: what a driver was told must be there."""
        self.named.clear()
        self.held.clear()
        self.holders.clear()
        self.spoilt |= self.spoilt_once
        outcomes = self.outcomes()
        self.rows = {id: row for id, row in self.rows.items() if id in outcomes}
        for path, _ in self.scene.room.disk.files(self.base.rstrip("/")):
            if not is_half(path):
                self.look(path)
        self.look_for_acknowledged()


@dataclass(frozen=True)
class Held:
    """What a row file or a part holds."""

    trials: frozenset[str] = frozenset()
    """Trials whose complete row it holds."""
    named: tuple[str, ...] = ()
    """Files of points that a part names."""
    digests: tuple[tuple[str, str], ...] = ()
    """Trial and digest of each complete row of a part."""


NOTHING = Held()


def held_by(data: bytes) -> Held:
    """Return what a part holds."""
    opened = PARQUET.ParquetFile(pa.BufferReader(data))
    columns = opened.read(["id", "outcome", "digest"]).to_pydict()
    rows = zip(columns["id"], columns["outcome"], columns["digest"], strict=True)
    complete = [(id, digest) for id, outcome, digest in rows if outcome == State.COMPLETE]
    meta = opened.metadata.metadata
    named = {table: meta.get(f"layerwise_{table}".encode()) for table in row_files.TABLES[1:]}
    return Held(
        frozenset(id for id, _ in complete),
        tuple(f"{table}/{file.decode()}" for table, file in named.items() if file),
        tuple(complete),
    )


@functools.cache
def trials() -> frozenset[str]:
    """Return all trials of the sweep."""
    from tests.simulation.scene import plan

    return frozenset(plan().trials)


@functools.cache
def keepers() -> frozenset[str]:
    """Return the trials whose weights are kept."""
    from tests.simulation.scene import plan

    return frozenset(id for id, trial in plan().trials.items() if trial.keep_checkpoint)


@functools.lru_cache(maxsize=4000)
def flaw_of(folder: str, name: str, data: bytes) -> str:
    """Return the reason why a file is not whole; empty for a whole one."""
    if file := SnapshotFile.parse(name) or WeightsFile.parse(name):
        return "" if checksum(data).startswith(file.sha256) else "has another hash than its name"
    if file := RowFile.parse(name) or CompactFile.parse(name) or RemovalFile.parse(name):
        return "" if checksum(data).startswith(file.digest) else "has another hash than its name"
    if not name.endswith(".parquet"):
        return "" if data.strip().endswith(b"}") else "is half written"
    try:
        table_files.decode(folder.partition("/")[0], data, "store")
    except DamagedError as error:
        return f"is damaged: {error}"
    return ""


@functools.lru_cache(maxsize=4000)
def contents(file: RowFile, data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a row, and its results."""
    row = row_files.decode(file, data, "store", ["trials"])["trials"]
    return row, {column: row.get(column) for column in RESULTS}
