"""Compaction: many row files, and rows of versions before 2, become few parts.

It copies the rows that count to new parts, reads these back, and deletes the files that it copied
last. So it may be interrupted anywhere and run beside other compactions, runs and readers: at every
moment each row that counts lies in some file, and where it lies in two, readers take one. Nothing
is deleted but what this compaction copied or what a better row replaced. A new part never has the
name of another one, so nobody deletes it for an older copy.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.errors import StoreError
from orchestrator.states import OUTCOMES, State
from orchestrator.store import parts, removals, row_files
from orchestrator.store.damage import DamagedError
from orchestrator.store.names import AttemptFile, CompactFile, RowFile
from orchestrator.store.parts import DIGEST, Part
from orchestrator.store.row_files import TABLES
from orchestrator.store.schemas import SCHEMAS
from orchestrator.store.trial_tables import TrialTables
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

    trials: int = 0
    """Trials whose rows it copied."""
    deleted: int = 0
    """Files that it deleted."""
    written: int = 0
    """Parts that it wrote."""


@dataclass
class _Copy:
    """Rows to write, and the files to delete once they are written."""

    tables: Tables
    sources: list[str]

    @property
    def weight(self) -> int:
        return sum(table.num_rows for table in self.tables.values())


def compact(trials: TrialTables, *, everything: bool = True) -> Compacted:
    """Compact a store. Raises `StoreError`.

    With `everything`, each trial has one row in one part afterwards, and few parts are small.
    Otherwise parts are joined when several of them are about as large, as during a run.
    """
    for _ in range(ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):  # another compaction was faster
            return _Compaction(trials, everything).carry_out()
    raise StoreError(f"the rows in {trials.files.root} keep changing")


class _Compaction:
    def __init__(self, trials: TrialTables, everything: bool):
        self.trials, self.files, self.everything = trials, trials.files, everything
        self.done = Compacted()

    def carry_out(self) -> Compacted:
        view = self.trials.look()
        chosen = self._chosen(view)
        copies: list[_Copy] = []
        for copy in self._copies(view, chosen):
            copies.append(copy)
            if sum(one.weight for one in copies) >= MOST:
                self._write(copies)
                copies = []
        self._write(copies)
        worse = [row for row in view.superseded if isinstance(row, RowFile)]
        self._delete([row_path(self.files, row) for row in worse])
        if self.everything and (old := [r for r in view.superseded if isinstance(r, OldRow)]):
            attempts = self.trials.old_attempts(old)
            self._delete([p for r in old for p in self._files_of(r, attempts.get(r))])
        if self.everything and (view.old or view.superseded):
            for outcome in OUTCOMES:
                self.files.drop(f"{self.files.base}/trials/{outcome}")
        if view.removed:
            there = self.trials.read("trials", ["id", "attempt"]).to_pylist()
            removals.tidy(self.files, {(row["id"], row["attempt"]) for row in there})
        return self.done

    def _chosen(self, view: View) -> list[Part]:
        """Return the parts to copy, the smallest first."""
        small = [part for part in view.parts if _weight(part) < MOST // 2]
        if self.everything:
            stale = [part for part in view.parts if view.hidden.get(part.file)]
            fresh = [part for part in small if part not in stale]
            alone = not (view.rows or view.old or stale)
            few = len(fresh) < 2 and alone
            chosen = stale + ([] if few else fresh)
        else:
            levels: dict[int, list[Part]] = {}
            for part in small:
                levels.setdefault(int(math.log(_weight(part) or 1, 4)), []).append(part)
            chosen = [p for alike in levels.values() if len(alike) >= ALIKE for p in alike]
        return sorted(chosen, key=_weight)

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
            row: record
            for row, record in self.trials.records(rows).items()
            if row_files.knows(record)
        }
        tables = row_files.to_tables(list(records.values()), dict.fromkeys(TABLES))
        digests = [row.digest for row in records]
        return _copy(tables, digests, [row_path(self.files, row) for row in records])

    def _of_part(self, view: View, part: Part) -> _Copy | None:
        """Return the rows of a part that count; None if it is damaged or of a later version."""
        try:
            files = {table: self.trials.opened(table, part) for table in self._tables_of(part)}
            if any(parts.has_unknown_columns(table, file) for table, file in files.items()):
                return None
            tables = {
                table: self.trials.of_part(view, table, part, None, None, files[table])
                if table in files
                else SCHEMAS[table].empty_table()
                for table in TABLES
            }
            digests = parts.digests_of(files["trials"])
        except DamagedError:  # a reader names it
            return None
        mask = view.mask(part)
        if mask is not None:
            digests = pa.array(digests, pa.string()).filter(mask).to_pylist()
        paths = [self.trials.part_path(table, part) for table in self._tables_of(part)]
        return _copy(tables, digests, paths)

    def _tables_of(self, part: Part) -> Mapping[str, CompactFile]:
        return {"trials": part.file, **part.others}

    def _of_old(self, rows: Sequence[OldRow]) -> _Copy:
        """Return rows of versions before 2. A complete trial whose files are gone stays."""
        read = self.trials.old_rows(rows)
        attempts = self.trials.old_attempts(rows)
        there = {t: set(self.files.names(f"{self.files.base}/{t}")) for t in TABLES[1:]}
        tables: dict[str, list[pa.Table]] = {table: [] for table in TABLES}
        digests, sources = [], []
        for row in rows:
            if row not in read or row not in attempts:
                continue
            of_row, paths = {"trials": read[row]}, self._files_of(row, attempts[row])
            for table in TABLES[1:]:
                named = [attempts[row]] if attempts[row].name in there[table] else []
                points = self.trials.old_points(table, named)
                if points or row.outcome != State.COMPLETE:
                    of_row[table] = points[0] if points else SCHEMAS[table].empty_table()
            if len(of_row) < len(TABLES):
                continue
            digests.append(row_files.encode_tables(of_row).file.digest)
            sources += paths
            for table, arrow in of_row.items():
                tables[table].append(arrow)
        joined = {
            t: pa.concat_tables(many or [SCHEMAS[t].empty_table()]) for t, many in tables.items()
        }
        return _copy(joined, digests, sources)

    def _files_of(self, row: OldRow, attempt: AttemptFile | None) -> list[str]:
        """Return the files of a row of a version before 2, that of the row first."""
        base = self.files.base
        beside = [f"{base}/{table}/{attempt.name}" for table in TABLES[1:]] if attempt else []
        return [old_path(self.files, row), *beside]

    # Writing ------------------------------------------------------------------------------------

    def _write(self, copies: Sequence[_Copy]) -> None:
        """Write one part of these rows, and delete their files."""
        if not copies:
            return
        tables = {t: pa.concat_tables([copy.tables[t] for copy in copies]) for t in TABLES}
        if number := tables["trials"].num_rows:
            parts.write(self.files, {t: _sorted(table) for t, table in tables.items()})
            self.done.trials += number
            self.done.written += 1
        self._delete([path for copy in copies for path in copy.sources])

    def _delete(self, paths: Sequence[str]) -> None:
        """Delete files, those of `trials` first: they name the others.

        On a local disk they are gone for good before the next one is deleted. After a loss of power
        a part could come back otherwise, without the curves that it names.
        """
        trials = [path for path in paths if f"{self.files.base}/trials/" in path]
        for path in trials:
            self.files.delete(path)
        if trials:
            self.files.settle(f"{self.files.base}/trials")
        deleted = set(trials)
        for path in (path for path in paths if path not in deleted):
            self.files.delete(path)
        self.done.deleted += len(paths)


def _sorted(table: pa.Table) -> pa.Table:
    """Return rows in the order of their ids, as row files are listed."""
    ids = table["id"].to_pylist()
    if ids == sorted(ids):
        return table
    return table.combine_chunks().take(pc.sort_indices(table["id"]))  # half the time of chunks


def _copy(tables: Tables, digests: Sequence[str], sources: list[str]) -> _Copy:
    proven = tables["trials"].append_column(DIGEST, pa.array(digests, pa.string()))
    return _Copy({**tables, "trials": proven}, sources)


def _weight(part: Part) -> int:
    return len(part) + part.points
