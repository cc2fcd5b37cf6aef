"""The attempt that counts of each id, in one look at a store that others change meanwhile.

Rows with an id may lie in several files: row files (`row_files.py`), parts (`parts.py`), and files
of old versions. The best outcome counts; of equal ones the latest to end. Whoever moves rows writes
the new file first and deletes the old ones then. So files are listed in the order in which rows
move, and parts are listed twice: if both lists are equal, no row was between two parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.errors import StoreError
from orchestrator.states import OUTCOMES, State
from orchestrator.store import kinds, parts, removals, row_files, table_files
from orchestrator.store.damage import Damage, DamagedError
from orchestrator.store.files import Files
from orchestrator.store.kinds import Kind
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
    """A file of an old version: `trials/<outcome>/<id>.parquet`, and of other kinds `place`."""

    id: str
    outcome: str
    """Empty if the name does not say it."""
    place: str = ""
    """Path below the root; empty for trials."""


NOTICE = OldRow("0" * 16, State.SKIPPED)  # no row: older versions read it and say what it is


Place = RowFile | OldRow | tuple[Part, int]
"""An attempt: in its own file, or one of a part by its number."""


@dataclass(frozen=True)
class View:
    """The rows of a store by the files that they lie in."""

    rows: Sequence[RowFile]
    """Row files that count."""
    old: Sequence[OldRow]
    """Files of old versions that count."""
    parts: Sequence[Part]
    hidden: Mapping[CompactFile, frozenset[int]]
    """Numbers of the attempts in parts that do not count."""
    superseded: Sequence[RowFile | OldRow] = ()
    """Files that do not count: a better attempt does, or they were removed."""
    removed: frozenset[AttemptKey] = frozenset()

    def mask(self, part: Part) -> pa.Array | None:
        """Return which attempts of a part count; None if all of them do."""
        hidden = self.hidden.get(part.file)
        if not hidden:
            return None
        return pa.array([number not in hidden for number in range(len(part))])

    def mask_of(self, part: Part, wanted: frozenset[str] | None) -> pa.BooleanArray | None:
        """Return which attempts of a part count and have these ids; None if all of them do."""
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
        """Return the ids of a part whose attempt there does not count."""
        return [part.index["id"][n].as_py() for n in sorted(self.hidden.get(part.file, ()))]

    def indexes(self) -> Iterable[pa.Table]:
        """Yield the attempts of parts that count, with the columns of their index."""
        for part in self.parts:
            mask = self.mask(part)
            yield part.index if mask is None else part.index.filter(mask)

    def attempts(self) -> dict[str, set[AttemptKey]]:
        """Return every attempt at each id in row files and parts."""
        attempts: dict[str, set[AttemptKey]] = {}
        for row in (*self.rows, *self.superseded):
            if isinstance(row, RowFile):
                attempts.setdefault(row.id, set()).add((row.id, row.attempt))
        for part in self.parts:
            columns = (part.index[name].to_pylist() for name in ("id", "attempt"))
            for id, attempt in zip(*columns, strict=True):
                attempts.setdefault(id, set()).add((id, attempt))
        return attempts

    def outcomes(self) -> dict[str, str]:
        """Return the outcome of each id; empty where only the file of an old version says it."""
        outcomes = {row.id: row.outcome for row in self.rows}
        outcomes |= {row.id: row.outcome for row in self.old}
        for index in self.indexes():
            outcomes |= zip(index["id"].to_pylist(), index["outcome"].to_pylist(), strict=True)
        return outcomes


def old_path(files: Files, row: OldRow) -> str:
    return f"{files.base}/{row.place or f'trials/{row.outcome}/{OldRowFile(row.id).name}'}"


def row_path(files: Files, file: RowFile) -> str:
    return f"{files.base}/rows/{file.name}"


class Viewer:
    """Looks at the rows of one kind in a store. Damaged files are named and left out."""

    def __init__(self, files: Files, damage: Damage, kind: Kind):
        self.files, self.damage, self.kind = files, damage, kind
        self.folder = f"{files.base}/{kind.main}"

    def look(self, only: frozenset[str] | None = None) -> View:
        """Return what counts now; with `only`, of these ids. Raises `StoreError`."""
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
            names = self.files.names(self.folder)
            if names == before:
                break
            before, old = names, self._old_rows(names, foreign, only)
        else:
            raise StoreError(f"the parts in {self.files.root} keep changing")
        if only is None and self.kind is kinds.TRIALS:
            foreign |= {n for n in names if n not in OUTCOMES and not CompactFile.parse(n)}
            self.damage.name_foreign(self.folder, sorted(foreign))
        listed = self._parts([file for name in names if (file := CompactFile.parse(name))])
        gone = [row for row in rows if (row.id, row.attempt) in removed] if removed else []
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
        names = _of(self.files.names(f"{self.files.base}/rows"), only, self.kind.prefix)
        parsed = {name: RowFile.parse(name) for name in names}
        rows = [
            file
            for file in parsed.values()
            if file and file.table == self.kind.main and (only is None or file.id in only)
        ]
        sound = [row for row in rows if row_path(self.files, row) not in self.damage.reasons]
        return sound, {f"../rows/{name}" for name, file in parsed.items() if not file}

    def _old_rows(
        self, names: Iterable[str], foreign: set[str], only: frozenset[str] | None
    ) -> list[OldRow]:
        """Return the files of old versions, of each trial the one with the best outcome."""
        if self.kind is kinds.TRIALS:
            return self._old_trials(set(names), foreign, only)
        ids = {name: kinds.old_id(self.kind.main, name) for name in names}
        rows = [OldRow(id, "", f"{self.kind.main}/{name}") for name, id in ids.items() if id]
        return [
            row
            for row in rows
            if (only is None or row.id in only)
            and old_path(self.files, row) not in self.damage.reasons
        ]

    def _old_trials(
        self, folders: Collection[str], foreign: set[str], only: frozenset[str] | None
    ) -> list[OldRow]:
        best: dict[str, OldRow] = {}
        for outcome in (o for o in reversed(OUTCOMES) if o in folders):
            for name in _of(self.files.names(f"{self.folder}/{outcome}"), only):
                file = OldRowFile.parse(name)
                if file is None:
                    foreign.add(f"{outcome}/{name}")
                    continue
                row = OldRow(file.trial, outcome)
                if row != NOTICE and old_path(self.files, row) not in self.damage.reasons:
                    best[row.id] = row
        return list(best.values())

    def _parts(self, files: Sequence[CompactFile]) -> list[Part]:
        main = self.kind.main
        paths = {file: parts.path_of(self.files, main, file) for file in files}
        sound = {file: p for file, p in paths.items() if p not in self.damage.reasons}
        read = self.read_all(main, sound, lambda file: parts.look(self.files, self.kind, file))
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
        """Return the view of these rows, of each id the attempt that counts."""
        hidden = _removed_numbers(listed, removed) if removed else {}
        several = _several([*(r.id for r in rows), *(r.id for r in old)], listed, only)
        if not several and not hidden:
            return View(rows, old, listed, {}, (), removed)
        alone: list[RowFile | OldRow] = [*rows, *old]
        places: dict[str, list[Place]] = {id: [] for id in several}
        for row in alone:
            if row.id in places:
                places[row.id].append(row)
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
        """Return the attempts at one id, that which counts last. A file may need a look."""
        if len(places) < 2:
            return places
        ranks = [self.kind.rank(self._outcome(place)) for place in places]
        ends: dict[int, tuple[Any, ...]] = {}
        for number, (place, rank) in enumerate(zip(places, ranks, strict=True)):
            if rank > min(ranks):
                ends[number] = (-rank,)
            else:
                ended, attempt = self._ended(place)
                ends[number] = (-rank, ended or EARLY, attempt, not isinstance(place, RowFile))
        return [places[number] for number in sorted(ends, key=ends.__getitem__)]

    def _outcome(self, place: Place) -> str:
        match place:
            case RowFile():
                return place.outcome
            case OldRow():
                outcome = place.outcome or self._of_old(place).get(self.kind.outcome)
                return str(outcome or State.FAILED)  # damaged: it is looked at once more without it
            case (part, number):
                return str(part.index["outcome"][number].as_py())

    def _ended(self, place: Place) -> tuple[datetime | None, str]:
        """Return the end and the attempt of a row. Raises `FileNotFoundError`, `StoreError`."""
        match place:
            case RowFile():
                path, main = row_path(self.files, place), self.kind.main
                try:
                    record = row_files.decode(place, self.files.get(path), self.files.root, [main])
                except DamagedError as error:
                    self.damage.note(main, {path: str(error)})
                    return None, place.attempt
                table = row_files.to_tables([record], {main: ["ended"]})[main]
                return table["ended"][0].as_py(), place.attempt
            case OldRow():
                row = self._of_old(place)
                return row.get("ended"), row.get("attempt") or ""
            case (part, number):
                index = part.index
                return index["ended"][number].as_py(), index["attempt"][number].as_py() or ""

    def _of_old(self, row: OldRow) -> dict[str, Any]:
        """Return the first row in a file of an old version, with the columns that choose."""
        path, main = old_path(self.files, row), self.kind.main
        try:
            data = self.files.get(path)
            table = table_files.decode(main, data, self.files.root, self.kind.index_columns)
        except DamagedError as error:
            self.damage.note(main, {path: str(error)})
            return {}
        rows: list[dict[str, Any]] = table.slice(0, 1).to_pylist()
        return rows[0] if rows else {}


def _removed_numbers(
    listed: Sequence[Part], removed: frozenset[AttemptKey]
) -> dict[CompactFile, set[int]]:
    """Return the numbers of the attempts in parts that were removed."""
    hidden: dict[CompactFile, set[int]] = {}
    attempts = pa.array(sorted({attempt for _, attempt in removed}))
    for part in listed:
        for number in _numbers(pc.is_in(part.index["attempt"], attempts)):
            if _key(part, number) in removed:
                hidden.setdefault(part.file, set()).add(number)
    return hidden


def _key(part: Part, number: int) -> AttemptKey:
    return part.index["id"][number].as_py(), part.index["attempt"][number].as_py()


def _numbers(mask: pa.ChunkedArray) -> list[int]:
    numbers: list[int] = pc.indices_nonzero(mask).to_pylist()
    return numbers


def _of(names: Sequence[str], only: frozenset[str] | None, start: str = "") -> Sequence[str]:
    """Return the names that begin with `start`, and then with the hash of one of these ids."""
    if only is None:
        return names
    hashes = {id[:HASH] for id in only}
    at = len(start)
    return [name for name in names if name[at : at + HASH] in hashes and name.startswith(start)]


def _with(listed: Sequence[Part], only: frozenset[str] | None) -> Sequence[Part]:
    """Return the parts that have rows with these ids."""
    if only is None or not listed:
        return listed
    if sum(map(len, listed)) <= FEW:
        return [part for part in listed if not only.isdisjoint(part.ids)]
    ids = pa.array(sorted(only), pa.string())
    return [part for part in listed if pc.any(pc.is_in(part.index["id"], ids)).as_py()]


def _several(
    ids: Sequence[str], listed: Sequence[Part], only: frozenset[str] | None = None
) -> list[str]:
    """Return the ids, or those of `only`, at which there is more than one attempt."""
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
