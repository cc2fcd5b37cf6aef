"""The tables of one kind of rows: of each id the attempt that counts, with its points.

Rows are read from wherever they lie (`view.py`). Of a part, only the columns that are asked for are
decoded, after every byte was compared with the checksum in its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from orchestrator.errors import StoreError
from orchestrator.states import State
from orchestrator.store import parts, row_files, table_files
from orchestrator.store.damage import Damage, DamagedError
from orchestrator.store.files import Files
from orchestrator.store.kinds import Kind
from orchestrator.store.names import AttemptFile, CompactFile, RowFile
from orchestrator.store.parts import Part
from orchestrator.store.row_files import TABLES
from orchestrator.store.schemas import SCHEMAS
from orchestrator.store.view import OldRow, View, Viewer, old_path, row_path

Answer = TypeVar("Answer")


class Checked(NamedTuple):
    """What a look at every byte of some trials' rows has found."""

    outcomes: Mapping[str, str]
    """Their outcomes, by id."""
    lacking: Mapping[str, str]
    """Complete ones whose curve or class counts are gone, by id, with the path of that file."""


class RowTables:
    """The tables of one kind of rows in one store. Damaged files are named and left out."""

    def __init__(self, files: Files, damage: Damage, kind: Kind):
        self.files, self.damage, self.kind = files, damage, kind
        self.viewer = Viewer(files, damage, kind)

    def look(self) -> View:
        """Return the rows that count now. Raises `StoreError`."""
        return self.viewer.look()

    def state(self) -> str | None:
        """Return the names of all that the tables are read from; they say what is in it.

        None if rows of versions before 2 count, whose names do not. Raises `StoreError`.
        """
        view = self.look()
        if view.old:
            return None
        beside = {name for part in view.parts for name in part.names}
        there = {n for table in TABLES[1:] for n in self.files.names(f"{self.files.base}/{table}")}
        places = {
            "rows": sorted(row.name for row in view.rows),
            "parts": sorted(
                [part.file.name, *part.names, sorted(view.hidden.get(part.file, ()))]
                for part in view.parts
            ),
            "gone": sorted(beside - there),
            "damaged": sorted(self.damage.reasons),
        }
        return json.dumps(places)

    def read(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return these columns of a table; all by default. Raises `StoreError`."""
        return self._steadily(lambda: self._read(self.look(), table, columns, None))

    def scan(self, table: str) -> ds.Dataset:
        """Return a table as a dataset, of which a reader decodes the columns that it needs.

        Parts are compared with their checksums now, and decoded when they are needed. If a
        compaction moves them meanwhile, that fails with `FileNotFoundError`. Raises `StoreError`.
        """
        return self._steadily(lambda: self._scan(self.look(), table))

    def _scan(self, view: View, table: str) -> ds.Dataset:
        there = [part for part in view.parts if table in part.files]
        whole = [part for part in there if not view.hidden.get(part.file)]
        files = {part.files[table]: part for part in whole}
        paths = {file: self.part_path(table, part) for file, part in files.items()}
        paths = {file: path for file, path in paths.items() if path not in self.damage.reasons}
        fragments = self.viewer.read_all(
            table, paths, lambda file: parts.fragment(self.files, table, file)
        )
        rest = replace(view, parts=[part for part in there if part not in whole])
        others = self._read(rest, table, None, None)
        schema = SCHEMAS[table].remove_metadata()
        datasets: list[ds.Dataset] = [ds.dataset(others.replace_schema_metadata())]
        if fragments:
            scanned = list(fragments.values())
            datasets.append(ds.FileSystemDataset(scanned, schema, scanned[0].format))
        return ds.dataset(datasets) if others.num_rows or not fragments else datasets[1]

    def rows(
        self,
        ids: Collection[str],
        outcomes: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Return the rows with these ids that have one of these outcomes, by the key.

        `columns`, by default all, contain the key, and the outcome if `outcomes` are given.
        """
        wanted = frozenset(ids)
        if not wanted:
            return []

        def read() -> list[dict[str, Any]]:
            view = self.viewer.look(wanted)
            if not (view.rows or view.old or view.parts):
                return []
            table = self._read(view, self.kind.main, columns, wanted)
            rows: list[dict[str, Any]] = table.to_pylist()
            if outcomes is not None:
                rows = [row for row in rows if row[self.kind.outcome] in outcomes]
            return sorted(rows, key=lambda row: [row[name] for name in self.kind.key])

        return self._steadily(read)

    def _steadily(self, read: Callable[[], Answer]) -> Answer:
        """Return what `read` returns, once no file is moved or known as damaged meanwhile."""
        for _ in range(5):
            known = len(self.damage.reasons)
            try:
                answer = read()
            except FileNotFoundError:  # a compaction moved it, or a better row replaced it
                continue
            if len(self.damage.reasons) == known:
                return answer
        raise StoreError(f"the rows in {self.files.root} keep changing")

    def _read(
        self,
        view: View,
        table: str,
        columns: Sequence[str] | None,
        wanted: frozenset[str] | None,
    ) -> pa.Table:
        """Return the rows that count; with `wanted`, those with these ids in the main table."""
        of_rows = [row for row in view.rows if wanted is None or row.id in wanted]
        of_old = [row for row in view.old if wanted is None or row.id in wanted]
        tables = [
            self._of_parts(view, table, columns, wanted),
            self.of_row_files(of_rows, table, columns),
            self._of_old(of_old, table, columns),
        ]
        return pa.concat_tables([one for one in tables if one.num_rows] or tables[:1])

    # Row files ----------------------------------------------------------------------------------

    def of_row_files(
        self, rows: Sequence[RowFile], table: str, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Return the rows of a table in these row files. Raises `FileNotFoundError`."""
        records = self.records(rows, [table])
        return row_files.to_tables(list(records.values()), {table: columns})[table]

    def records(
        self, rows: Sequence[RowFile], tables: Collection[str] | None = None
    ) -> dict[RowFile, row_files.Record]:
        """Return these tables of these row files. Raises `FileNotFoundError`, `StoreError`."""
        wanted = self.kind.tables if tables is None else tables

        def read(row: RowFile) -> row_files.Record:
            data = self.files.get(row_path(self.files, row))
            return row_files.decode(row, data, self.files.root, wanted)

        paths = {row: row_path(self.files, row) for row in rows}
        return self.viewer.read_all(self.kind.main, paths, read)

    # Parts --------------------------------------------------------------------------------------

    def _of_parts(
        self,
        view: View,
        table: str,
        columns: Sequence[str] | None,
        wanted: frozenset[str] | None,
    ) -> pa.Table:
        several = [part for part in view.parts if table in part.files]
        paths = {part.file: self.part_path(table, part) for part in several}
        paths = {f: path for f, path in paths.items() if path not in self.damage.reasons}
        by_file = {part.file: part for part in several}

        def read(file: Any) -> pa.Table:
            part = by_file[file]
            return self.of_part(view, table, part, columns, wanted, self.opened(table, part))

        tables = list(self.viewer.read_all(table, paths, read).values())
        empty = SCHEMAS[table].empty_table()
        return pa.concat_tables(tables or [empty if columns is None else empty.select(columns)])

    def part_path(self, table: str, part: Part) -> str:
        """Return the path of a part's file of a table that it has rows of."""
        return parts.path_of(self.files, table, part.files[table])

    def opened(self, table: str, part: Part) -> parts.Opened:
        """Return a part's file of a table, after a look at every byte. Raises as `parts.opened`."""
        try:
            return parts.opened(self.files, table, part.files[table])
        except FileNotFoundError:
            self._refuse_gone(table, part)
            raise

    def of_part(
        self,
        view: View,
        table: str,
        part: Part,
        columns: Sequence[str] | None,
        wanted: frozenset[str] | None,
        opened: parts.Opened,
    ) -> pa.Table:
        """Return the rows of an open part that count; with `wanted`, as `_read` does."""
        names = list(SCHEMAS[table].names if columns is None else columns)
        if table == self.kind.main:
            arrow = table_files.conformed(table, opened, names)
            mask = view.mask_of(part, wanted)
            return arrow if mask is None else _filtered(arrow, part.rows_of(mask))
        hidden = view.hidden_ids(part)
        needed = [*names, *({"id"} - set(names) if hidden else ())]
        arrow = table_files.conformed(table, opened, needed)
        if hidden:
            counts = pc.invert(pc.is_in(arrow["id"], pa.array(hidden, pa.string())))
            arrow = _filtered(arrow, counts.combine_chunks())
        return arrow if arrow.column_names == names else arrow.select(names)

    def _refuse_gone(self, table: str, part: Part) -> None:
        """Raise `DamagedError` if a file is gone whose part is there: no compaction moved it."""
        main = self.kind.main
        if table != main and self.files.present([self.part_path(main, part)]):
            raise DamagedError("it is gone, and its part is there")

    def verify(self) -> None:
        """Read every byte of the main files of parts, so that damaged ones are known and named."""
        self._steadily(lambda: self._verify(self.kind.main, self.look().parts))

    def _verify(self, table: str, several: Sequence[Part]) -> None:
        """Compare every byte of the parts' files of a table with their checksums."""
        files = {part.files[table]: part for part in several}
        paths = {file: self.part_path(table, part) for file, part in files.items()}
        unread = {file: path for file, path in paths.items() if path not in self.damage.reasons}

        def verify(file: CompactFile) -> None:
            try:
                parts.verify(self.files, table, file)
            except FileNotFoundError:
                self._refuse_gone(table, files[file])
                raise

        self.viewer.read_all(table, unread, verify)

    # Files of old versions ----------------------------------------------------------------------

    def _of_old(
        self, rows: Sequence[OldRow], table: str, columns: Sequence[str] | None
    ) -> pa.Table:
        if table == self.kind.main:
            tables = list(self.old_rows(rows, columns).values())
        else:
            attempts = self.old_attempts(rows).values()
            names = set(self.files.names(f"{self.files.base}/{table}")) if attempts else set()
            tables = self.old_points(table, [a for a in attempts if a.name in names], columns)
        empty = SCHEMAS[table].empty_table()
        return pa.concat_tables(tables or [empty if columns is None else empty.select(columns)])

    def old_rows(
        self, rows: Sequence[OldRow], columns: Sequence[str] | None = None
    ) -> dict[OldRow, pa.Table]:
        """Return the rows of old versions, a table for each file."""
        kind, main = self.kind, self.kind.main
        names = SCHEMAS[main].names if columns is None else list(columns)
        needed = [*names, *(name for name in (*kind.key, kind.outcome) if name not in names)]

        def read(row: OldRow) -> pa.Table:
            data = self.files.get(old_path(self.files, row))
            arrow = table_files.decode(main, data, self.files.root, needed)
            outcomes = set(arrow[kind.outcome].to_pylist())
            if (
                set(kind.ids(arrow).to_pylist()) != {row.id}
                or (row.outcome and outcomes != {row.outcome})
                or (len(arrow) > 1 and not kind.has_several)
            ):
                raise DamagedError("it holds another row than its name says")
            return arrow.select(names)

        return self.viewer.read_all(main, {r: old_path(self.files, r) for r in rows}, read)

    def old_attempts(self, rows: Sequence[OldRow]) -> dict[OldRow, AttemptFile]:
        """Return the names of the files of curves and counts beside these rows."""
        read = self.old_rows(rows, ["id", "attempt"])
        return {row: AttemptFile(row.id, t["attempt"][0].as_py()) for row, t in read.items()}

    def old_points(
        self, table: str, attempts: Sequence[AttemptFile], columns: Sequence[str] | None = None
    ) -> list[pa.Table]:
        """Return the curves or the counts of these attempts. Raises `FileNotFoundError`."""
        base = f"{self.files.base}/{table}"
        paths = {
            a: path for a in attempts if (path := f"{base}/{a.name}") not in self.damage.reasons
        }

        def read(attempt: AttemptFile) -> pa.Table:
            data = self.files.get(paths[attempt])
            return table_files.decode(table, data, self.files.root, columns)

        return list(self.viewer.read_all(table, paths, read).values())

    # What is lacking ----------------------------------------------------------------------------

    def check(self, trials: Collection[str], *, curves: bool) -> Checked:
        """Read the rows of these trials, so that damaged files are known and named. Of trials only.

        With `curves`, curves and class counts are read too, and damaged ones count as gone.
        """
        return self._steadily(lambda: self._check(self.look(), set(trials), curves=curves))

    def _check(self, view: View, trials: set[str], *, curves: bool) -> Checked:
        self.records([row for row in view.rows if row.id in trials], ())
        self._verify("trials", view.parts)
        lacking: dict[str, str] = {}
        names = {
            table: set(self.files.names(f"{self.files.base}/{table}"))
            for table in ("curves", "classes")
        }
        for table in ("curves", "classes"):
            of_table = [part for part in view.parts if table in part.others]
            if curves:
                self._verify(table, of_table)
            for part in of_table:
                path = self.part_path(table, part)
                if path in self.damage.reasons or part.others[table].name not in names[table]:
                    ids = part.index.filter(pc.equal(part.index["outcome"], State.COMPLETE))["id"]
                    gone = trials.intersection(ids.to_pylist()) - set(view.hidden_ids(part))
                    lacking |= dict.fromkeys(gone, self.files.shown(path))
        complete = [r for r in view.old if r.id in trials and r.outcome == State.COMPLETE]
        attempts = self.old_attempts([r for r in view.old if r.id in trials])
        wanted = {attempts[row].name: row.id for row in complete if row in attempts}
        for table in ("curves", "classes") if wanted else ():
            there = wanted.keys() & names[table]
            if curves:
                self.old_points(table, [a for a in attempts.values() if a.name in there])
            base = f"{self.files.base}/{table}"
            sound = {name for name in there if f"{base}/{name}" not in self.damage.reasons}
            for name in sorted(wanted.keys() - sound):
                lacking.setdefault(wanted[name], self.files.shown(f"{base}/{name}"))
        outcomes = view.outcomes()
        return Checked({id: x for id, x in outcomes.items() if id in trials}, lacking)


def _filtered(arrow: pa.Table, mask: pa.BooleanArray) -> pa.Table:
    """Return the rows where `mask` is true.

    `pa.Table.filter` takes ten times as long for a table of several chunks and many columns.
    """
    batches, start = [], 0
    for batch in arrow.to_batches():
        part = mask.slice(start, len(batch))
        start += len(batch)
        if part.true_count:
            batches.append(batch if part.true_count == len(batch) else batch.filter(part))
    return pa.Table.from_batches(batches, arrow.schema)
