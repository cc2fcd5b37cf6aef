"""Compaction: many row files, and files of old versions, become few parts of each kind of rows.

It copies the rows that count to new parts, reads these back, and deletes the files that it copied
last. So it may be interrupted anywhere and run beside other compactions, runs and readers: at every
moment each row that counts lies in some file, and where it lies in two, readers take one. Nothing
is deleted but what this compaction copied or what a better row replaced. A new part never has the
name of another one, so nobody deletes it for an older copy.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.errors import StoreError
from orchestrator.states import OUTCOMES, State
from orchestrator.store import kinds, parts, removals, row_files
from orchestrator.store.damage import DamagedError
from orchestrator.store.kinds import Kind
from orchestrator.store.names import AttemptFile, RowFile
from orchestrator.store.parts import DIGEST, Part
from orchestrator.store.row_tables import RowTables
from orchestrator.store.schemas import SCHEMAS
from orchestrator.store.store import Store
from orchestrator.store.view import OldRow, View, old_path, row_path

MOST = 1_000_000  # rows of a part's tables; a part that is larger than half of it is left alone
LOOSE = 500  # row files from which on a run compacts
ALIKE = 8  # parts of about the same size, from which on a run joins them
ATTEMPTS = 10
AT_ONCE = 250  # row files that are read at once

Tables = Mapping[str, pa.Table]


@dataclass
class Compacted:
    """The work of a compaction."""

    copied: Counter[str] = field(default_factory=Counter)
    """Number of attempts whose rows it copied, by the noun of their kind."""
    deleted: int = 0
    """Files that it deleted."""
    written: int = 0
    """Parts that it wrote."""


@dataclass
class _Copy:
    """Rows to write, and the files to delete once they are written."""

    tables: Tables
    attempts: int
    sources: list[str]

    @property
    def weight(self) -> int:
        return sum(table.num_rows for table in self.tables.values())


def compact(store: Store, *, everything: bool = True) -> Compacted:
    """Compact a store. Raises `StoreError`.

    With `everything`, each id has one attempt in one part afterwards, and few parts are small.
    Otherwise parts are joined when several of them are about as large, as during a run.
    """
    done, rows = Compacted(), store.names("rows")
    for tables in store.row_tables:
        if _has_files(store, tables.kind, rows):
            _compact(tables, everything, done)
    if store.names(removals.FOLDER):
        there = [tables.look().attempts().values() for tables in store.row_tables]
        removals.tidy(store.files, {key for ids in there for keys in ids for key in keys})
    return done


def _has_files(store: Store, kind: Kind, rows: Iterable[str]) -> bool:
    """Return whether a row file is of this kind, or a part or an old file of it is there."""
    loose = (file for name in rows if (file := RowFile.parse(name)))
    return any(file.table == kind.main for file in loose) or bool(store.names(kind.main))


def _compact(tables: RowTables, everything: bool, done: Compacted) -> None:
    for _ in range(ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):  # another compaction was faster
            return _Compaction(tables, everything, done).carry_out()
    raise StoreError(f"the rows in {tables.files.root} keep changing")


class _Compaction:
    def __init__(self, of: RowTables, everything: bool, done: Compacted):
        self.of, self.files, self.everything = of, of.files, everything
        self.kind, self.main, self.done = of.kind, of.kind.main, done

    def carry_out(self) -> None:
        view = self.of.look()
        chosen = self._chosen(view)
        copies: list[_Copy] = []
        for copy in self._copies(view, chosen):
            copies.append(copy)
            if sum(one.weight for one in copies) >= MOST:
                self._write(copies)
                copies = []
        self._write(copies)
        if view.superseded:
            self._keep()
        worse = [row for row in view.superseded if isinstance(row, RowFile)]
        self._delete([row_path(self.files, row) for row in worse])
        if self.everything and (old := [r for r in view.superseded if isinstance(r, OldRow)]):
            attempts = self._old_attempts(old)
            self._delete([p for r in old for p in self._files_of(r, attempts.get(r))])
        if self.everything and self.kind is kinds.TRIALS and (view.old or view.superseded):
            for outcome in OUTCOMES:
                self.files.drop(f"{self.files.base}/{self.main}/{outcome}")

    def _chosen(self, view: View) -> list[Part]:
        """Return the parts to copy, the smallest first."""
        small = [part for part in view.parts if part.weight < MOST // 2]
        if self.everything:
            stale = [part for part in view.parts if view.hidden.get(part.file)]
            fresh = [part for part in small if part not in stale]
            alone = not (view.rows or view.old or stale)
            few = len(fresh) < 2 and alone
            chosen = stale + ([] if few else fresh)
        else:
            levels: dict[int, list[Part]] = {}
            for part in small:
                levels.setdefault(int(math.log(part.weight or 1, 4)), []).append(part)
            chosen = [p for alike in levels.values() if len(alike) >= ALIKE for p in alike]
        return sorted(chosen, key=lambda part: part.weight)

    # Reading ------------------------------------------------------------------------------------

    def _copies(self, view: View, chosen: Sequence[Part]) -> Iterator[_Copy]:
        for part in chosen:
            if copy := self._of_part(view, part):
                yield copy
        for start in range(0, len(view.rows), AT_ONCE):
            yield self._of_row_files(view.rows[start : start + AT_ONCE])
        old = view.old if self.everything else []
        for start in range(0, len(old), AT_ONCE):
            yield self._of_old(old[start : start + AT_ONCE])

    def _of_row_files(self, rows: Sequence[RowFile]) -> _Copy:
        """Return the rows of row files. Those with columns of a later version stay as they are."""
        records = {
            row: record for row, record in self.of.records(rows).items() if row_files.knows(record)
        }
        tables = row_files.to_tables(list(records.values()), dict.fromkeys(self.kind.tables))
        digests = [
            row.digest
            for row, record in records.items()
            for _ in range(row_files.number_of_rows(record, self.kind))
        ]
        return self._copy(tables, digests, [row_path(self.files, row) for row in records])

    def _of_part(self, view: View, part: Part) -> _Copy | None:
        """Return the rows of a part that count; None if it is damaged or of a later version."""
        try:
            files = {table: self.of.opened(table, part) for table in part.files}
            if any(parts.has_unknown_columns(table, file) for table, file in files.items()):
                return None
            tables = {
                table: self.of.of_part(view, table, part, None, None, files[table])
                if table in files
                else SCHEMAS[table].empty_table()
                for table in self.kind.tables
            }
            digests = parts.digests_of(files[self.main])
        except DamagedError:  # a reader names it
            return None
        mask = view.mask(part)
        if mask is not None:
            digests = pa.array(digests, pa.string()).filter(part.rows_of(mask)).to_pylist()
        return self._copy(tables, digests, [self.of.part_path(table, part) for table in part.files])

    def _of_old(self, rows: Sequence[OldRow]) -> _Copy:
        """Return rows of old versions. A complete trial whose files are gone stays."""
        read = self.of.old_rows(rows)
        attempts = self._old_attempts(rows)
        points = self.kind.points
        there = {t: set(self.files.names(f"{self.files.base}/{t}")) for t in points}
        tables: dict[str, list[pa.Table]] = {table: [] for table in self.kind.tables}
        digests, sources = [], []
        for row in rows:
            if row not in read or (points and row not in attempts):
                continue
            of_row, paths = {self.main: read[row]}, self._files_of(row, attempts.get(row))
            for table in points:
                named = [attempts[row]] if attempts[row].name in there[table] else []
                some = self.of.old_points(table, named)
                if some or row.outcome != State.COMPLETE:
                    of_row[table] = some[0] if some else SCHEMAS[table].empty_table()
            if len(of_row) < len(tables):
                continue
            digests += [row_files.encode_tables(self.kind, of_row).file.digest] * len(read[row])
            sources += paths
            for table, arrow in of_row.items():
                tables[table].append(arrow)
        joined = {
            t: pa.concat_tables(many or [SCHEMAS[t].empty_table()]) for t, many in tables.items()
        }
        return self._copy(joined, digests, sources)

    def _old_attempts(self, rows: Sequence[OldRow]) -> Mapping[OldRow, AttemptFile]:
        """Return the names of the files of points beside these rows."""
        return self.of.old_attempts(rows) if self.kind.points else {}

    def _copy(self, tables: Tables, digests: Sequence[str], sources: list[str]) -> _Copy:
        """Return rows to write; `digests` has that of each row of the main table."""
        proven = tables[self.main].append_column(DIGEST, pa.array(digests, pa.string()))
        return _Copy({**tables, self.main: proven}, len(set(digests)), sources)

    def _files_of(self, row: OldRow, attempt: AttemptFile | None) -> list[str]:
        """Return the files of a row of an old version, that of the row first."""
        base = self.files.base
        beside = [f"{base}/{t}/{attempt.name}" for t in self.kind.points] if attempt else []
        return [old_path(self.files, row), *beside]

    # Writing ------------------------------------------------------------------------------------

    def _write(self, copies: Sequence[_Copy]) -> None:
        """Write one part of these rows, and delete their files."""
        if not copies:
            return
        tables = {t: pa.concat_tables([c.tables[t] for c in copies]) for t in self.kind.tables}
        if tables[self.main].num_rows:
            parts.write(self.files, self.kind, {t: self._sorted(t, x) for t, x in tables.items()})
            self.done.copied[self.kind.noun] += sum(copy.attempts for copy in copies)
            self.done.written += 1
        self._delete([path for copy in copies for path in copy.sources])

    def _sorted(self, table: str, arrow: pa.Table) -> pa.Table:
        """Return rows in the order of their ids. Those of an attempt keep their order."""
        ids = self.kind.ids(arrow) if table == self.main else arrow["id"]
        values = ids.to_pylist()
        if values == sorted(values):
            return arrow
        return arrow.combine_chunks().take(pc.sort_indices(ids))  # half the time of chunks

    def _keep(self) -> None:
        """Let the rows and parts that were seen stay, also after a loss of power.

        Who wrote one may have died before its name was flushed, and others are deleted for it.
        """
        for folder in ("rows", *self.kind.tables):
            self.files.settle(f"{self.files.base}/{folder}")
        self.files.settle(self.files.base)

    def _delete(self, paths: Sequence[str]) -> None:
        """Delete files, those of the main table first: they name the others.

        On a local disk they are gone for good before the next one is deleted. After a loss of power
        a part could come back otherwise, without the curves that it names.
        """
        folder = f"{self.files.base}/{self.main}"
        first = [path for path in paths if path.startswith(f"{folder}/")]
        for path in first:
            self.files.delete(path)
        if first:
            self.files.settle(folder)
        deleted = set(first)
        for path in (path for path in paths if path not in deleted):
            self.files.delete(path)
        self.done.deleted += len(paths)
