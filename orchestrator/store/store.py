"""The store: every path, and writes that no reader sees half done.

rows/<id>-<outcome>-<attempt>-<digest>.json   all that an attempt recorded (`row_files.py`)
rows/<table>-…                              the same of study trials, measurements, extractions
trials/part-<token>-<digest>.parquet        rows of many trials, compacted (`parts.py`)
curves/part-…, classes/part-…               their learning curves and counts per class
studies/part-…                              rows of study trials
measurements/part-…                         the values of measurements of networks
extractions/part-…                          rows on the features of networks in `features/`
removed/<token>-<digest>.json               rows that were removed (`removals.py`)
checkpoints/<id>/<sha256>.safetensors       final weights, named by their content
progress/<id>/<step>-<attempt>-<sha256>.safetensors   to resume from; deleted after the row
sweeps/<name>.parquet                       which trials a sweep consists of
features/<extraction>-<sha256>/<subset>-<first>.parquet   outputs of layers, part by part
leases/<sweep>-<token>.json                 a run that uses the store now (`leases.py`)
running/<token>.json                        what a worker trains now (`under_way.py`)
damaged/…                                   files that could not be read, set aside (`damage.py`)
layerwise-store.json                        written when the store is made (`ownership.py`)

Versions before 2 wrote trials/<outcome>/<id>.parquet with curves/<id>-<attempt>.parquet and
classes/<id>-<attempt>.parquet. Those before 3 wrote studies/<series>-<number>.parquet,
measurements/<network>-<id>.parquet and extractions/<network>-<id>.parquet. These are read as they
are, until they are compacted.

The store is a folder or a prefix of an object store (`files.py`). Nothing rests on renaming, locks
or conditional writes. A file's name says what is in the file (`names.py`). A worker writes the row
file of a trial last, as one object: row, curve and counts are there together or not at all.
`compaction.py` moves them to parts. `kinds.py` says how rows of trials and others differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from orchestrator.errors import StoreError
from orchestrator.states import OUTCOMES, State
from orchestrator.store import kinds, row_files, table_files
from orchestrator.store.damage import Damage, DamagedError
from orchestrator.store.local_files import LocalFiles
from orchestrator.store.locations import open_files
from orchestrator.store.names import (
    SAFE,
    RowFile,
    SnapshotFile,
    SweepFile,
    WeightsFile,
    stored,
)
from orchestrator.store.node_cache import NodeCache
from orchestrator.store.ownership import claim
from orchestrator.store.row_files import Attempt
from orchestrator.store.row_tables import Checked, RowTables
from orchestrator.store.schemas import SCHEMAS, to_table
from trainers.checkpoint import CheckpointError, checksum, read_meta, verify
from trainers.spelling import hint

OF_DERIVED = [  # columns that all rows of one measurement or extraction share
    *("id", "outcome", "checkpoint", "other_checkpoint", "folder", "parts", "bytes"),
    "error_message",
]


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """Facts of a sweep, as its last run recorded them beside the members."""

    text: str = ""
    """The sweep file; `--set` changes follow as comments."""
    reference: str | None = None
    """Published results to draw beside its own; empty for none, None in records of old versions."""
    studies: Sequence[Mapping[str, Any]] = ()
    """`id`, `series`, `role` and `trials` of each study."""
    measurements: Sequence[str] = ()
    """Ids of the measurements that it asks for; empty in records of old versions."""
    extractions: Sequence[str] = ()
    """Ids of the features that it asks for."""
    forms: Sequence[str] | None = None
    """Forms that were laid over the sweep; None in records of old versions."""


class Store:
    """A folder or an object store with checkpoints and tables. Opening it creates nothing."""

    def __init__(self, root: str | Path):
        """`root` is a folder, or a URI such as `s3://bucket/prefix`. Raises `StoreError`."""
        self.files = open_files(root)
        self.root = self.files.root
        self.damage = Damage(self.files)
        self.row_tables = [RowTables(self.files, self.damage, kind) for kind in kinds.KINDS]
        """The tables of trials, study trials, measurements and extractions."""
        self.trials = self.row_tables[0]
        self.is_remote = not isinstance(self.files, LocalFiles)

    def exists(self) -> bool:
        """Return whether the folder or prefix exists."""
        return self.files.exists()

    def make(self) -> None:
        """Make the store and mark it as layerwise's, before a run writes to it.

        From then on no writer makes the folder of a local store: if it goes away, that is a failure
        of the store. Raises `StoreError`, also where another program's files have the places of
        layerwise's.
        """
        claim(self.files)

    def require(self) -> None:
        """Wait for a folder that should be there. Raises `StoreError` if it stays away."""
        self.files.require()

    # paths -----------------------------------------------------------------------------------

    def path(self, *parts: str) -> str:
        """Return a path below the root. Raises `StoreError` for a part that leads out of it."""
        for part in parts:
            if not SAFE.fullmatch(part):
                raise StoreError(f"{part!r} cannot name something in the store")
        return "/".join((self.files.base, *parts))

    def relative(self, path: str) -> str:
        """Return a path below the root without the root."""
        return path.removeprefix(f"{self.files.base}/")

    def sweep_path(self, sweep: str) -> str:
        return self.path("sweeps", SweepFile(sweep).name)

    def checkpoint_path(self, trial: str, sha256: str) -> str:
        return self.path("checkpoints", trial, WeightsFile(sha256).name)

    # bytes -----------------------------------------------------------------------------------

    def put(self, path: str, data: bytes | memoryview) -> None:
        """Write a whole file, or nothing. Raises `StoreError`."""
        self.files.put(path, data)

    def get(self, path: str) -> bytes:
        """Return a whole file. Raises `FileNotFoundError`, `StoreError`."""
        return self.files.get(path)

    def delete(self, path: str) -> None:
        """Remove a file. A file that is gone already is no error."""
        self.files.delete(path)

    def names(self, *parts: str) -> list[str]:
        """Return the sorted names in a folder; [] without the folder.

        Unfinished files are left out, and names that no file of a store has, such as those of
        copies.
        """
        return [name for name in self.files.names(self.path(*parts)) if SAFE.fullmatch(name)]

    def size(self, paths: Iterable[str]) -> int:
        """Return the sum of the sizes of these files, in bytes."""
        return self.files.size(paths)

    # tables ----------------------------------------------------------------------------------

    def write(self, table: str, path: str, rows: Sequence[Mapping[str, Any]], **meta: str) -> None:
        """Write rows as one Parquet file. `meta` goes into the schema's metadata."""
        self.put(path, table_files.encode(to_table(table, rows), **meta))

    def write_row(
        self,
        row: Mapping[str, Any],
        curve: Sequence[Mapping[str, Any]] = (),
        classes: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Write all that an attempt at a trial recorded, as one object.

        Its rows of other attempts stay; the best outcome counts, and of equal ones the latest.
        """
        self._put(row_files.encode(row, curve, classes))

    def _put(self, attempt: Attempt) -> None:
        if RowFile.parse(attempt.file.name) is None:
            raise StoreError(f"{attempt.file.name!r} cannot name something in the store")
        self.put(self.path("rows", attempt.file.name), attempt.data)

    def write_sweep(
        self, name: str, members: Sequence[Mapping[str, Any]], text: str, **meta: str
    ) -> None:
        """Record a sweep: its trials, the text of its file and, in `meta`, its other facts.

        See `SweepRecord`; `reference` is empty for none, and `studies` is JSON.
        """
        self.write("sweeps", self.sweep_path(name), members, sweep=text, **meta)

    def write_study_trial(self, row: Mapping[str, Any]) -> None:
        """Write the row of a study trial that has ended.

        Of several rows of one, the best outcome counts, and of equal ones the latest.
        """
        self._put(row_files.encode_rows(kinds.STUDIES, {"studies": [row]}))

    def study_trials(self, series: str, number: int | None = None) -> list[dict[str, Any]]:
        """Return the rows of a series by number; with `number`, at most the row of that one."""
        numbers = self.study_numbers().get(series, ()) if number is None else [number]
        return self._of("studies").rows([f"{series}-{one}" for one in numbers])

    def study_numbers(self) -> dict[str, list[int]]:
        """Return the numbers of the trials that have ended, by series. No row is read."""
        numbers: dict[str, list[int]] = {}
        for id in self._of("studies").look().outcomes():
            series, _, number = id.partition("-")
            numbers.setdefault(series, []).append(int(number))
        return {series: sorted(some) for series, some in numbers.items()}

    def write_derived(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of a measurement or extraction. Those of the latest attempt count."""
        self._put(row_files.encode_rows(kinds.MAIN[table], {table: rows}))

    def derived_ids(self, table: str) -> set[str]:
        """Return the ids of the measurements or extractions that have rows. No row is read."""
        return set(self._of(table).look().outcomes())

    def derived(self, table: str, ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """Return a row of each of these measurements or extractions that the store has, by id.

        It has the columns that all rows of one share.
        """
        columns = [name for name in OF_DERIVED if name in SCHEMAS[table].names]
        return {row["id"]: row for row in self._of(table).rows(ids, columns=columns)}

    def _of(self, table: str) -> RowTables:
        return next(tables for tables in self.row_tables if table in tables.kind.tables)

    def outcomes(self) -> dict[str, str]:
        """Return the outcome of every trial that has a row, by id.

        Row files are not opened. One that is known as damaged does not count; `check` reads them.
        """
        return self.trials.look().outcomes()

    def state(self, sweep: str) -> str | None:
        """Return a hash of a sweep's record, the rows that count and their counts per class.

        Tables are equal as long as it is. Row files and parts are not opened: they are taken for
        what their names say, as `check` finds them. None if there is no record, or if rows of
        versions before 2 count. Raises `StoreError`.
        """
        rows = self.trials.state()
        try:
            record = checksum(self.get(self.sweep_path(sweep)))
        except FileNotFoundError:
            return None
        return rows and checksum(f"{sweep} {record} {rows}".encode())

    def check(self, trials: Collection[str], *, curves: bool = False) -> Checked:
        """Read the rows of these trials, so that damaged ones are known and named.

        With `curves`, curves and class counts are read too, and damaged ones count as gone. Raises
        `StoreError`.
        """
        return self.trials.check(trials, curves=curves)

    def checkpoints(self, trials: Collection[str]) -> dict[str, str]:
        """Return the SHA-256 of the final weights of the complete ones of these trials, by id."""
        if not trials:
            return {}
        wanted = set(trials)
        read = self.table("trials", ["id", "checkpoint", "outcome"]).to_pylist()
        return {
            row["id"]: row["checkpoint"] or ""
            for row in read
            if row["id"] in wanted and row["outcome"] == State.COMPLETE
        }

    def check_weights(self, bases: Iterable[str | None]) -> dict[str, str]:
        """Return the complete ones of these trials whose checkpoint is gone, with its path."""
        lacking: dict[str, str] = {}
        for id, sha256 in self.checkpoints(list(dict.fromkeys(filter(None, bases)))).items():
            name = WeightsFile(sha256).name
            if name not in self.names("checkpoints", id):
                lacking[id] = self.files.shown(f"{self.path('checkpoints', id)}/{name}")
        return lacking

    def table(self, table: str, columns: list[str] | None = None) -> pa.Table:
        """Return a table: one row per trial, or the curves or classes of the rows' attempts.

        With `columns`, no other column is decoded. Raises `StoreError`.
        """
        if table != "sweeps":
            return self._of(table).read(table, columns)
        return self._steadily(self._sweep_paths, columns)

    def _steadily(
        self, paths: Callable[[], Sequence[str]], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Return the records of sweeps at the paths that `paths` lists. Raises `StoreError`."""
        for last in (False, False, True):
            try:
                return self._read(paths(), columns)
            except FileNotFoundError as error:  # deleted since the listing
                if last:
                    raise StoreError(f"table sweeps in {self.root} keeps changing") from error
        raise AssertionError("the last attempt returns or raises")

    def sweep_names(self) -> list[str]:
        """Return the names of the sweeps that the store has."""
        return [file.sweep for name in self.names("sweeps") if (file := SweepFile.parse(name))]

    def members(self, sweep: str, columns: list[str] | None = None) -> pa.Table:
        """Return the trials of a sweep, with these labels, all by default. Raises `StoreError`."""
        path = self.sweep_path(sweep)
        members = self._steadily(lambda: self._path_of(sweep), columns)
        if path in self.damage.reasons:
            raise StoreError(
                f"the record of sweep {sweep} in {self.root} is damaged; "
                "`layerwise run` with its file writes it again"
            )
        return members

    def _path_of(self, sweep: str) -> list[str]:
        """Return the path of a sweep's record. Raises `StoreError`."""
        names = self.sweep_names()
        if sweep not in names:
            known = ", ".join(names) or "none"
            near = hint(sweep, names)
            raise StoreError(f"no sweep {sweep!r} in {self.root}{near}; there: {known}")
        return [self.sweep_path(sweep)]

    def sweep_record(self, sweep: str) -> SweepRecord:
        """Return the facts that a sweep's record holds; an empty record if there is none."""
        try:
            data = self.get(self.sweep_path(sweep))
            metadata = table_files.metadata(data, self.root)
        except (FileNotFoundError, DamagedError):
            return SweepRecord()
        facts = {name.decode(): value.decode() for name, value in metadata.items()}
        return SweepRecord(
            text=facts.get("sweep", ""),
            reference=facts.get("reference"),
            studies=json.loads(facts.get("studies", "[]")),
            measurements=tuple(json.loads(facts.get("measurements", "[]"))),
            extractions=tuple(json.loads(facts.get("extractions", "[]"))),
            forms=json.loads(facts["forms"]) if "forms" in facts else None,
        )

    def row(
        self,
        trial: str,
        outcomes: Iterable[str] = OUTCOMES,
        columns: Sequence[str] | None = None,
    ) -> dict[str, Any] | None:
        """Return the row of one trial, if it has one of these outcomes.

        `columns`, by default all, contain `id` and `outcome`.
        """
        self.path(trial)
        rows = self.trials.rows([trial], list(outcomes), columns)
        return rows[0] if rows else None

    def keep_rows(self) -> None:
        """Let the rows that were seen stay, also after a loss of power.

        Who wrote one may have died before its name was flushed.
        """
        self.files.settle(f"{self.files.base}/rows")
        self.files.settle(self.files.base)

    def rows(self, trials: Sequence[str], outcome: str = State.COMPLETE) -> list[dict[str, Any]]:
        """Return the rows of these trials that have this outcome, by id."""
        for trial in trials:
            self.path(trial)
        return self.trials.rows(trials, [outcome])

    def _sweep_paths(self) -> list[str]:
        return [self.sweep_path(name) for name in self.sweep_names()]

    def _read(self, files: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """Read these records of sweeps; those that are damaged are named and left out."""

        def read(path: str) -> pa.Table:
            return table_files.decode("sweeps", self.get(path), self.root, columns)

        paths = {path: path for path in self.damage.without(files)}
        if tables := list(self.trials.viewer.read_all("sweeps", paths, read).values()):
            return pa.concat_tables(tables)
        empty = SCHEMAS["sweeps"].empty_table()
        return empty if columns is None else empty.select(columns)

    # checkpoints -----------------------------------------------------------------------------

    def put_checkpoint(self, trial: str, data: bytes) -> str:
        """Write the final weights of a trial. Return their SHA-256."""
        sha256 = checksum(data)
        self.put(self.checkpoint_path(trial, sha256), data)
        return sha256

    def get_checkpoint(self, trial: str, sha256: str, *, cached: bool = False) -> bytes:
        """Return the final weights with this hash. Raises `CheckpointError` if missing or damaged.

        With `cached`, weights of a remote store are kept on this node, so that it downloads them
        once.
        """
        path = self.checkpoint_path(trial, sha256)

        def read() -> bytes:
            try:
                return verify(self.get(path), sha256)
            except FileNotFoundError as error:
                shown = self.files.shown(path)
                raise CheckpointError(f"checkpoint {shown} is missing") from error

        return NodeCache.of_node().get(sha256, read) if cached and self.is_remote else read()

    def drop_checkpoints(self, trial: str) -> None:
        """Delete all final weights of a trial."""
        self._drop("checkpoints", trial)

    def put_progress(self, trial: str, attempt: str, step: int, data: bytes) -> bool:
        """Write a snapshot. Keep the one before it and delete older ones of this attempt.

        Return whether the one before it was there: whoever completes a trial drops its snapshots.
        """
        new = SnapshotFile(step, attempt, checksum(data))
        self.put(self.path("progress", trial, new.name), data)
        own = [file for file in self._snapshots(trial) if file.attempt == attempt]
        for old in own[:-2]:
            self.delete(self.path("progress", trial, old.name))
        return len(own) > 1

    def progress(self, trial: str) -> Iterator[bytes]:
        """Yield the intact snapshots of a trial, of all attempts, the latest step first."""
        for file in reversed(self._snapshots(trial)):
            try:
                yield verify(self.get(self.path("progress", trial, file.name)), file.sha256)
            except (CheckpointError, FileNotFoundError):
                continue  # damaged or deleted meanwhile: the one before it serves

    def latest_snapshot(self, trial: str) -> SnapshotFile | None:
        """Return the snapshot of a trial with the most steps. No file is opened."""
        return max(self._snapshots(trial), default=None)

    def snapshot_meta(self, trial: str, file: SnapshotFile) -> dict[str, Any] | None:
        """Return the JSON values of a snapshot, of which no tensor is read.

        None if it is gone meanwhile, or no snapshot.
        """
        try:
            with self.files.open(self.path("progress", trial, file.name)) as opened:
                return read_meta(opened)
        except (CheckpointError, FileNotFoundError):
            return None

    def _snapshots(self, trial: str) -> list[SnapshotFile]:
        return [f for name in self.names("progress", trial) if (f := SnapshotFile.parse(name))]

    def drop_progress(self, trial: str) -> None:
        """Delete all snapshots of a trial."""
        self._drop("progress", trial)

    def _drop(self, kind: str, trial: str) -> None:
        """Delete layerwise's own files in a trial's folder, and the folder if it is empty then."""
        folder = self.path(kind, trial)
        for entry in self.files.walk(folder):
            if stored(self.relative(entry.path)):
                self.delete(entry.path)
        self.files.drop(folder)
