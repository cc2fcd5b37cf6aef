"""The row that counts of each trial, in one look at a store that others change meanwhile.

Rows of a trial may lie in several files: row files (`row_files.py`), parts (`parts.py`), and files
of versions before 2. The best outcome counts; of equal ones the latest to end. Whoever moves rows
writes the new file first and deletes the old ones then. So files are listed in the order in which
rows move, and parts are listed twice: if both lists are equal, no row was between two parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.errors import StoreError
from orchestrator.states import OUTCOMES, State
from orchestrator.store import parts, removals, row_files, table_files
from orchestrator.store.damage import Damage, DamagedError
from orchestrator.store.files import Files
from orchestrator.store.names import HASH, CompactFile, OldRowFile, RemovalFile, RowFile
from orchestrator.store.parts import Part
from orchestrator.store.removals import AttemptKey

Key = TypeVar("Key")
Value = TypeVar("Value")

LOOKS = 20  # at parts, until two lists are equal
AT_ONCE = 16  # files that are read at the same time
FEW = 1000  # rows of parts up to which Python is faster than Arrow
EARLY = datetime(1, 1, 1, tzinfo=UTC)  # the end of rows without one


class OldRow(NamedTuple):
    """A row file of a version before 2: `trials/<outcome>/<id>.parquet`."""

    trial: str
    outcome: str


NOTICE = OldRow("0" * 16, State.SKIPPED)  # no row: older versions read it and say what it is


Place = RowFile | OldRow | tuple[Part, int]
"""A row: in its own file, or a row of a part by its number."""


@dataclass(frozen=True)
class View:
    """The rows of a store by the files that they lie in."""

    rows: Sequence[RowFile]
    """Row files whose row counts."""
    old: Sequence[OldRow]
    """Rows of versions before 2 that count."""
    parts: Sequence[Part]
    hidden: Mapping[CompactFile, frozenset[int]]
    """Numbers of the rows of parts that do not count."""
    superseded: Sequence[RowFile | OldRow] = ()
    """Files whose row does not count: a better one does, or it was removed."""
    removed: frozenset[AttemptKey] = frozenset()

    def mask(self, part: Part) -> pa.Array | None:
        """Return which rows of a part count; None if all of them do."""
        hidden = self.hidden.get(part.file)
        if not hidden:
            return None
        return pa.array([number not in hidden for number in range(len(part))])

    def mask_of(self, part: Part, wanted: frozenset[str] | None) -> pa.BooleanArray | None:
        """Return which rows of a part count and are of these trials; None if all of them do."""
        hidden = self.hidden.get(part.file, frozenset())
        if not hidden and wanted is None:
            return None
        if wanted is None or len(part) <= FEW:
            ids = part.ids if wanted is not None else [""] * len(part)
            return pa.array(
                [n not in hidden and (wanted is None or ids[n] in wanted) for n in range(len(part))]
            )
        ids = part.index["id"]
        mask = pc.is_in(ids, pa.array(sorted(wanted), pa.string()))
        if hidden:
            gone = pa.array(sorted(self.hidden_ids(part)), pa.string())
            mask = pc.and_not(mask, pc.is_in(ids, gone))
        return mask.combine_chunks()

    def hidden_ids(self, part: Part) -> list[str]:
        """Return the trials of a part whose row there does not count."""
        return [part.index["id"][n].as_py() for n in sorted(self.hidden.get(part.file, ()))]

    def indexes(self) -> Iterable[pa.Table]:
        """Yield the rows of parts that count, with the columns of their index."""
        for part in self.parts:
            mask = self.mask(part)
            yield part.index if mask is None else part.index.filter(mask)

    def attempts(self) -> dict[str, set[AttemptKey]]:
        """Return every row of each trial in row files and parts, by its id."""
        attempts: dict[str, set[AttemptKey]] = {}
        for row in (*self.rows, *self.superseded):
            if isinstance(row, RowFile):
                attempts.setdefault(row.trial, set()).add((row.trial, row.attempt))
        for part in self.parts:
            columns = (part.index[name].to_pylist() for name in ("id", "attempt"))
            for id, attempt in zip(*columns, strict=True):
                attempts.setdefault(id, set()).add((id, attempt))
        return attempts

    def outcomes(self) -> dict[str, str]:
        """Return the outcome of each trial by its id."""
        outcomes = {row.trial: row.outcome for row in self.rows}
        outcomes |= {row.trial: row.outcome for row in self.old}
        for index in self.indexes():
            outcomes |= zip(index["id"].to_pylist(), index["outcome"].to_pylist(), strict=True)
        return outcomes


def old_path(files: Files, row: OldRow) -> str:
    return f"{files.base}/trials/{row.outcome}/{OldRowFile(row.trial).name}"


def row_path(files: Files, file: RowFile) -> str:
    return f"{files.base}/rows/{file.name}"


class Viewer:
    """Looks at one store. Damaged files are named and left out."""

    def __init__(self, files: Files, damage: Damage):
        self.files, self.damage = files, damage

    def look(self, only: frozenset[str] | None = None) -> View:
        """Return the rows that count now; with `only`, of these trials. Raises `StoreError`."""
        for _ in range(LOOKS):
            known = len(self.damage.reasons)
            try:
                view = self._look(only)
            except FileNotFoundError:  # a compaction moved it
                continue
            if len(self.damage.reasons) == known:  # else a worse row counts
                return view
        raise StoreError(f"the rows in {self.files.root} keep changing")

    def _look(self, only: frozenset[str] | None = None) -> View:
        removed = self._removed()
        rows, foreign = self._row_files(only)
        before, old = None, []
        for _ in range(LOOKS):
            names = self.files.names(f"{self.files.base}/trials")
            if names == before:
                break
            before, old = names, self._old_rows(names, foreign, only)
        else:
            raise StoreError(f"the parts in {self.files.root} keep changing")
        if only is None:
            foreign |= {n for n in names if n not in OUTCOMES and not CompactFile.parse(n)}
            self.damage.name_foreign(f"{self.files.base}/trials", sorted(foreign))
        listed = self._parts([file for name in names if (file := CompactFile.parse(name))])
        gone = [row for row in rows if (row.trial, row.attempt) in removed] if removed else []
        rows = [row for row in rows if row not in gone] if gone else rows
        view = self._choose(rows, old, _with(listed, only), removed, only)
        return replace(view, superseded=(*view.superseded, *gone)) if gone else view

    def _removed(self) -> frozenset[AttemptKey]:
        removed: set[AttemptKey] = set()
        for name in self.files.names(f"{self.files.base}/{removals.FOLDER}"):
            path = f"{self.files.base}/{removals.FOLDER}/{name}"
            if (file := RemovalFile.parse(name)) and path not in self.damage.reasons:
                try:
                    removed |= removals.read(self.files, file)[1]
                except DamagedError as error:
                    self.damage.note(removals.FOLDER, {path: str(error)})
        return frozenset(removed)

    def _row_files(self, only: frozenset[str] | None) -> tuple[list[RowFile], set[str]]:
        names = _of(self.files.names(f"{self.files.base}/rows"), only)
        parsed = {name: RowFile.parse(name) for name in names}
        rows = [file for file in parsed.values() if file]
        sound = [row for row in rows if row_path(self.files, row) not in self.damage.reasons]
        return sound, {f"../rows/{name}" for name, file in parsed.items() if not file}

    def _old_rows(
        self, folders: Iterable[str], foreign: set[str], only: frozenset[str] | None
    ) -> list[OldRow]:
        """Return the rows of versions before 2, of each trial the one with the best outcome."""
        best: dict[str, OldRow] = {}
        there = set(folders)
        for outcome in (o for o in reversed(OUTCOMES) if o in there):
            for name in _of(self.files.names(f"{self.files.base}/trials/{outcome}"), only):
                file = OldRowFile.parse(name)
                if file is None:
                    foreign.add(f"{outcome}/{name}")
                    continue
                row = OldRow(file.trial, outcome)
                if row != NOTICE and old_path(self.files, row) not in self.damage.reasons:
                    best[row.trial] = row
        return list(best.values())

    def _parts(self, files: Sequence[CompactFile]) -> list[Part]:
        known = self.damage.reasons
        sound = [f for f in files if parts.path_of(self.files, "trials", f) not in known]
        read = self.read_all(
            "trials",
            {file: parts.path_of(self.files, "trials", file) for file in sound},
            lambda file: parts.look(self.files, file),
        )
        return list(read.values())

    def read_all(
        self, table: str, paths: Mapping[Key, str], read: Callable[[Key], Value]
    ) -> dict[Key, Value]:
        """Read files at the same time. Those that are damaged are named and left out.

        Raises `FileNotFoundError`, `StoreError`.
        """

        def tried(key: Key) -> Value | DamagedError:
            try:
                return read(key)
            except DamagedError as error:
                return error

        if len(paths) < 2:
            results = {key: tried(key) for key in paths}
        else:
            with ThreadPoolExecutor(min(AT_ONCE, len(paths))) as pool:
                results = dict(zip(paths, pool.map(tried, paths), strict=True))
        flaws = {paths[k]: str(x) for k, x in results.items() if isinstance(x, DamagedError)}
        self.damage.note(table, flaws)
        return {k: x for k, x in results.items() if not isinstance(x, DamagedError)}

    # Choosing ------------------------------------------------------------------------------------

    def _choose(
        self,
        rows: Sequence[RowFile],
        old: Sequence[OldRow],
        listed: Sequence[Part],
        removed: frozenset[AttemptKey],
        only: frozenset[str] | None,
    ) -> View:
        """Return the view of these rows, of each trial the one that counts."""
        hidden = _removed_numbers(listed, removed) if removed else {}
        several = _several([*(r.trial for r in rows), *(r.trial for r in old)], listed, only)
        if not several and not hidden:
            return View(rows, old, listed, {}, (), removed)
        alone: list[RowFile | OldRow] = [*rows, *old]
        places: dict[str, list[Place]] = {id: [] for id in several}
        for row in alone:
            if row.trial in places:
                places[row.trial].append(row)
        for part in listed if places else ():
            for number in _numbers(pc.is_in(part.index["id"], pa.array(several, pa.string()))):
                if number not in hidden.get(part.file, ()):
                    places[part.index["id"][number].as_py()].append((part, number))
        worse: list[RowFile | OldRow] = []
        for id in places:
            for place in self._sorted(places[id])[:-1]:
                if isinstance(place, RowFile | OldRow):
                    worse.append(place)
                else:
                    hidden.setdefault(place[0].file, set()).add(place[1])
        gone = set(worse)
        frozen = {file: frozenset(numbers) for file, numbers in hidden.items()}
        return View(
            [row for row in rows if row not in gone],
            [row for row in old if row not in gone],
            listed,
            frozen,
            worse,
            removed,
        )

    def _sorted(self, places: Sequence[Place]) -> Sequence[Place]:
        """Return the rows of one trial, the one that counts last. Its file may need a look."""
        if len(places) < 2:
            return places
        best = min(OUTCOMES.index(_outcome(place)) for place in places)
        ends: dict[int, tuple[Any, ...]] = {}
        for number, place in enumerate(places):
            if (rank := OUTCOMES.index(_outcome(place))) > best:
                ends[number] = (-rank,)
            else:
                ended, attempt = self._ended(place)
                ends[number] = (-rank, ended or EARLY, attempt, not isinstance(place, RowFile))
        return [places[number] for number in sorted(ends, key=ends.__getitem__)]

    def _ended(self, place: Place) -> tuple[datetime | None, str]:
        """Return the end and the attempt of a row. Raises `FileNotFoundError`, `StoreError`."""
        match place:
            case RowFile():
                path = row_path(self.files, place)
                try:
                    record = row_files.decode(
                        place, self.files.get(path), self.files.root, ["trials"]
                    )
                except DamagedError as error:
                    self.damage.note("trials", {path: str(error)})
                    return None, place.attempt
                table = row_files.to_tables([record], {"trials": ["ended"]})["trials"]
                return table["ended"][0].as_py(), place.attempt
            case OldRow():
                path = old_path(self.files, place)
                try:
                    data = self.files.get(path)
                    table = table_files.decode(
                        "trials", data, self.files.root, ["attempt", "ended"]
                    )
                except DamagedError as error:
                    self.damage.note("trials", {path: str(error)})
                    return None, ""
                [row] = table.to_pylist() or [{"ended": None, "attempt": ""}]
                return row["ended"], row["attempt"] or ""
            case (part, number):
                index = part.index
                return index["ended"][number].as_py(), index["attempt"][number].as_py() or ""


def _removed_numbers(
    listed: Sequence[Part], removed: frozenset[AttemptKey]
) -> dict[CompactFile, set[int]]:
    """Return the numbers of the rows of parts that were removed."""
    hidden: dict[CompactFile, set[int]] = {}
    attempts = pa.array(sorted({attempt for _, attempt in removed}))
    for part in listed:
        for number in _numbers(pc.is_in(part.index["attempt"], attempts)):
            if _key(part, number) in removed:
                hidden.setdefault(part.file, set()).add(number)
    return hidden


def _outcome(place: Place) -> str:
    if isinstance(place, RowFile | OldRow):
        return place.outcome
    outcome: str = place[0].index["outcome"][place[1]].as_py()
    return outcome


def _key(part: Part, number: int) -> AttemptKey:
    return part.index["id"][number].as_py(), part.index["attempt"][number].as_py()


def _numbers(mask: pa.ChunkedArray) -> list[int]:
    numbers: list[int] = pc.indices_nonzero(mask).to_pylist()
    return numbers


def _of(names: Sequence[str], only: frozenset[str] | None) -> Sequence[str]:
    """Return the names of rows of these trials: a name begins with the id."""
    if only is None:
        return names
    return [name for name in names if name[:HASH] in only]


def _with(listed: Sequence[Part], only: frozenset[str] | None) -> Sequence[Part]:
    """Return the parts that have rows of these trials."""
    if only is None or not listed:
        return listed
    if sum(map(len, listed)) <= FEW:
        return [part for part in listed if not only.isdisjoint(part.ids)]
    ids = pa.array(sorted(only), pa.string())
    return [part for part in listed if pc.any(pc.is_in(part.index["id"], ids)).as_py()]


def _several(
    ids: Sequence[str], listed: Sequence[Part], only: frozenset[str] | None = None
) -> list[str]:
    """Return the trials, or those of `only`, that have more than one row."""
    if sum(map(len, listed)) <= FEW:
        every = [*ids, *(id for part in listed for id in part.ids)]
        if len(set(every)) == len(every):
            return []
        counts = Counter(every)
        return [id for id, count in counts.items() if count > 1 and (only is None or id in only)]
    chunks = [chunk for part in listed for chunk in part.index["id"].chunks]
    if only is not None:
        wanted = pa.array(sorted(only), pa.string())
        chunks = [chunk.filter(pc.is_in(chunk, wanted)) for chunk in chunks]
    column = pa.chunked_array([pa.array(ids, pa.string()), *chunks], pa.string())
    if pc.count_distinct(column).as_py() == len(column):
        return []
    numbers = pc.value_counts(column)
    some = numbers.field("values").filter(pc.greater(numbers.field("counts"), 1))
    several: list[str] = some.to_pylist()
    return several
