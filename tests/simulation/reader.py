"""The reader of a simulated store, who looks after every change of what is to be seen."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from orchestrator.store.names import (
    AttemptFile,
    RowFile,
    SnapshotFile,
    WeightsFile,
    is_half,
    stored,
)
from orchestrator.store.schemas import OF_FIRST, SCHEMAS, result_columns
from tests.simulation.stand_ins import decoded
from trainers.checkpoint import checksum

if TYPE_CHECKING:
    from tests.simulation.scene import Scene


RESULTS = result_columns("trials")


class Reader:
    """Looks at each file that appears, changes or goes, and at what rows refer to."""

    def __init__(self, scene: Scene):
        self.scene = scene
        self.base = scene.root.removeprefix("s3://") + "/"
        self.spoilt: set[str] = set()
        """Paths that a fault damaged on purpose."""
        self.rows: dict[str, dict[str, Any]] = {}
        """Results of the complete trials that were seen, by id."""
        self.named: dict[str, str] = {}
        """Trials by the files that their present rows name."""
        self.excused: set[str] = set()
        """Trials whose rows a fault damaged at some time."""
        self.acknowledged: set[str] = set()
        """Trials of which a driver knows that they are complete."""
        self.problems: list[str] = []

    def content(self, path: str) -> bytes | None:
        """Return what is at a path now."""
        if self.scene.is_local:
            what = self.scene.room.disk.find(path)
            return getattr(what, "data", None)
        return self.scene.room.objects.objects.get(path, (None,))[0]

    def look(self, path: str) -> None:
        """Look at a path that has changed."""
        if not path.startswith(self.base):
            return
        name = path.removeprefix(self.base)
        if is_half(name):
            return
        data = self.content(path)
        if not stored(name):
            self.wrong(f"{name} is no file of a store")
        folder, _, last = name.rpartition("/")
        if data is None:
            self._gone(name)
            return
        if path in self.scene.room.objects.torn:
            return
        if path in self.spoilt:
            if flaw_of(folder, last, data):
                return
            self.spoilt.discard(path)  # it was written again
        if flaw := flaw_of(folder, last, data):
            self.wrong(f"{name} {flaw}")
        elif folder == "trials/complete":
            self._row(last, data)

    def wrong(self, problem: str) -> None:
        self.problems.append(f"{self.scene.world.now:.3f} s: {problem}")

    def _row(self, last: str, data: bytes) -> None:
        """Look at the row of a complete trial, and at the files that it names."""
        file = RowFile.parse(last)
        assert file is not None
        row = contents(data)
        results = {column: row[column] for column in RESULTS}
        if self.rows.setdefault(file.trial, results) != results:
            self.wrong(f"the row of {file.trial} changed")
        self.named = {path: id for path, id in self.named.items() if id != file.trial}
        attempt = AttemptFile(file.trial, row["attempt"]).name
        files = [f"curves/{attempt}", f"classes/{attempt}"]
        if row["treatment"] in ("base",):
            files.append(f"checkpoints/{file.trial}/{WeightsFile(row['checkpoint']).name}")
        for one in files:
            self.named[one] = file.trial
            path = self.base + one
            if path in self.spoilt or path in self.scene.room.objects.torn:
                continue
            there = self.content(path)
            if there is None:
                self.wrong(f"the row of {file.trial} names {one}, which is not there")
            elif flaw := flaw_of(one.rpartition("/")[0], one.rpartition("/")[2], there):
                self.wrong(f"the row of {file.trial} names {one}, which {flaw}")

    def _gone(self, name: str) -> None:
        """Look at what names a file that has gone."""
        path = self.base + name
        if path in self.spoilt or path in self.scene.room.objects.torn:
            return
        if name.startswith("trials/complete/"):
            self.wrong(f"{name} went away")
        if id := self.named.get(name):
            self.wrong(f"{name} went away, and the row of {id} names it")

    def look_for_acknowledged(self) -> None:
        """Look for the rows of which a driver was told."""
        for id in sorted(self.acknowledged - self.excused):
            if self.content(f"{self.base}trials/complete/{id}.parquet") is None:
                self.wrong(f"the row of {id} is not there, and a driver was told of it")

    def everything(self) -> list[str]:
        """Return the rows and records that are not whole, at the end."""
        paths = {path.removeprefix(self.base): data for path, data in self._all()}
        flaws = {
            name: flaw_of(*name.rpartition("/")[::2], data)
            for name, data in paths.items()
            if not is_half(name) and name.startswith(("trials/", "sweeps/"))
        }
        return [f"{name} {flaw}, at the end" for name, flaw in flaws.items() if flaw]

    def _all(self) -> Iterator[tuple[str, bytes]]:
        if self.scene.is_local:
            for path, file in self.scene.room.disk.files(self.base.rstrip("/")):
                yield path, file.data
        else:
            for key, (data, _) in self.scene.room.objects.objects.items():
                yield key, data

    def after_power_loss(self) -> None:
        """Look at everything: what a driver was told must be there."""
        self.named.clear()
        seen = self.rows
        disk, top = self.scene.room.disk, self.base.rstrip("/")
        self.rows = {}
        for path, _ in disk.files(top):
            if not is_half(path):
                self.look(path)
        self.look_for_acknowledged()
        self.rows = seen | self.rows


@functools.lru_cache(maxsize=20_000)
def flaw_of(folder: str, name: str, data: bytes) -> str:
    """Return the reason why a file is not whole; empty for a whole one."""
    if name.endswith(".safetensors"):
        snapshot, weights = SnapshotFile.parse(name), WeightsFile.parse(name)
        file = snapshot or weights
        assert file is not None
        return "" if checksum(data).startswith(file.sha256) else "has another hash than its name"
    if not name.endswith(".parquet"):
        return "" if data.strip().endswith(b"}") else "is half written"
    table = folder.partition("/")[0]
    if table not in SCHEMAS or table == "damaged":
        return ""
    read = decoded(data, schema_of(table))
    if isinstance(read, Exception):
        return "is no whole Parquet file"
    if table == "trials" and read[1]["id"].to_pylist() != [name.removesuffix(".parquet")]:
        return "holds another row than its name says"
    return ""


@functools.lru_cache(maxsize=20_000)
def contents(data: bytes) -> dict[str, Any]:
    """Return the one row of a file of `trials`."""
    read = decoded(data, schema_of("trials"))
    assert not isinstance(read, Exception)
    [row] = read[1].to_pylist()
    return row


@functools.cache
def schema_of(table: str) -> pa.Schema:
    """Return the schema with which the store reads a table."""
    schema = SCHEMAS[table]
    for was, now in OF_FIRST.items():
        if now in schema.names and was not in schema.names:
            schema = schema.append(pa.field(was, pa.string()))
    return schema
