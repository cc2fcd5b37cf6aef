"""The store: every path, and writes that no reader sees half done.

trials/<outcome>/<id>.parquet               one row, written last
curves/<id>-<attempt>.parquet               learning curve of one attempt
classes/<id>-<attempt>.parquet              counts per class of one attempt
checkpoints/<id>/<sha256>.safetensors       final weights, named by their content
progress/<id>/<step>-<attempt>-<sha256>.safetensors   to resume from; deleted after the row
sweeps/<name>.parquet                       which trials a sweep consists of
studies/<series>-<number>.parquet           one row per trial of a search
measurements/<id>-<measurement>.parquet     the values of one measurement of a network
extractions/<id>-<extraction>.parquet       one row on the features of a network in `features/`
features/<extraction>-<sha256>/<subset>-<first>.parquet   outputs of layers, part by part
leases/<sweep>-<token>.json                 a run that uses the store now (`leases.py`)
damaged/…                                   files that could not be read, set aside (`damage.py`)
layerwise-store.json                        written when the store is made (`ownership.py`)

The store is a folder or a prefix of an object store (`files.py`). Nothing rests on renaming, locks
or conditional writes. A file's name says what is in the file (`names.py`); a trial's row is written
last and says which of the trial's files count.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from orchestrator.errors import StoreError
from orchestrator.states import OUTCOMES, State
from orchestrator.store.damage import Damage, DamagedError, belongs, refuse_newer, schema_version
from orchestrator.store.local_files import LocalFiles
from orchestrator.store.locations import open_files
from orchestrator.store.names import (
    SAFE,
    AttemptFile,
    DerivedFile,
    RowFile,
    SnapshotFile,
    StudyFile,
    SweepFile,
    WeightsFile,
    stored,
)
from orchestrator.store.node_cache import NodeCache
from orchestrator.store.ownership import claim
from orchestrator.store.schemas import OF_FIRST, SCHEMAS, to_table
from trainers.checkpoint import CheckpointError, checksum, verify
from trainers.spelling import hint

FILES: dict[
    str, type[AttemptFile | SweepFile | StudyFile | DerivedFile]
] = {  # the files of each table
    "curves": AttemptFile,
    "classes": AttemptFile,
    "sweeps": SweepFile,
    "studies": StudyFile,
    "measurements": DerivedFile,
    "extractions": DerivedFile,
}
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

    def row_path(self, outcome: str, trial: str) -> str:
        return self.path("trials", outcome, RowFile(trial).name)

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
        arrow = to_table(table, rows)
        arrow = arrow.replace_schema_metadata({**arrow.schema.metadata, **meta})
        sink = pa.BufferOutputStream()
        pq.write_table(arrow, sink, compression="zstd")
        self.put(path, memoryview(sink.getvalue()))

    def write_row(self, row: Mapping[str, Any]) -> None:
        """Write a trial's row, then delete its rows of worse outcomes."""
        self.write("trials", self.row_path(row["outcome"], row["id"]), [row])
        for worse in OUTCOMES[OUTCOMES.index(row["outcome"]) + 1 :]:
            self.delete(self.row_path(worse, row["id"]))

    def write_attempt(
        self, table: str, trial: str, attempt: str, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Write the curve or the class counts of one attempt, before the trial's row."""
        self.write(table, self.path(table, AttemptFile(trial, attempt).name), rows)

    def write_sweep(
        self, name: str, members: Sequence[Mapping[str, Any]], text: str, **meta: str
    ) -> None:
        """Record a sweep: its trials, the text of its file and, in `meta`, its other facts.

        See `SweepRecord`; `reference` is empty for none, and `studies` is JSON.
        """
        self.write("sweeps", self.sweep_path(name), members, sweep=text, **meta)

    def write_study_trial(self, row: Mapping[str, Any]) -> None:
        """Write the row of a study trial that has ended."""
        file = StudyFile(row["series"], row["number"])
        self.write("studies", self.path("studies", file.name), [row])

    def study_trials(self, series: str, number: int | None = None) -> list[dict[str, Any]]:
        """Return the rows of a series by number; with `number`, at most the row of that one."""
        files = [
            file
            for file in self.study_files()
            if file.series == series and number in (None, file.number)
        ]
        arrow = self._read("studies", [self.path("studies", file.name) for file in sorted(files)])
        rows: list[dict[str, Any]] = arrow.to_pylist()
        return sorted(rows, key=lambda row: int(row["number"]))

    def study_files(self) -> list[StudyFile]:
        """List the study trials that have ended. No file is opened."""
        return [file for name in self.names("studies") if (file := StudyFile.parse(name))]

    def write_derived(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of a measurement or extraction, in place of those of earlier attempts."""
        file = DerivedFile(rows[0]["trial"], rows[0]["id"])
        self.write(table, self.path(table, file.name), rows)

    def derived(self, table: str, files: Collection[DerivedFile]) -> dict[str, dict[str, Any]]:
        """Return a row of each of these measurements or extractions that the store has, by id.

        It has the columns that all rows of one share.
        """
        if not files:
            return {}
        names = {file.name for file in files} & set(self.names(table))
        return self._derived(table, [self.path(table, name) for name in sorted(names)])

    def derived_row(self, table: str, file: DerivedFile) -> dict[str, Any] | None:
        """Return such a row of one measurement or extraction, or None. Nothing is listed."""
        paths = self.files.present([self.path(table, file.name)])
        return self._derived(table, paths).get(file.id)

    def _derived(self, table: str, paths: list[str]) -> dict[str, dict[str, Any]]:
        columns = [name for name in OF_DERIVED if name in SCHEMAS[table].names]
        rows = self._read(table, paths, columns).to_pylist()
        return {row["id"]: row for row in rows}

    def outcomes(self) -> dict[str, str]:
        """Return the outcome of every trial that has a row, by id. No file is opened.

        A row that is known as damaged does not count; `check` finds these.
        """
        outcomes: dict[str, str] = {}
        foreign = []
        for outcome in reversed(OUTCOMES):  # a better outcome replaces a worse one
            for name in self.files.names(self.path("trials", outcome)):
                file = RowFile.parse(name)
                if file is None:
                    foreign.append(f"{outcome}/{name}")
                elif self.row_path(outcome, file.trial) not in self.damage.reasons:
                    outcomes[file.trial] = outcome
        self.damage.name_foreign(self.path("trials"), foreign)
        return outcomes

    def check(self, trials: Collection[str], *, curves: bool = False) -> dict[str, str]:
        """Read the rows of these trials, so that damaged ones are known and named.

        Return the complete trials whose curve or class counts are gone, by id, with the path of the
        missing file. With `curves`, those files are read too, and damaged ones count as gone.
        """
        outcomes = self.outcomes()
        rows = [self.row_path(outcomes[id], id) for id in trials if id in outcomes]
        columns = None if curves else ["id", "attempt", "outcome"]
        read = self._read("trials", rows, columns).select(["id", "attempt", "outcome"])
        attempts = {
            AttemptFile(row["id"], row["attempt"]).name: row["id"]
            for row in read.to_pylist()
            if row["outcome"] == State.COMPLETE
        }
        lacking: dict[str, str] = {}
        for table in ("curves", "classes") if attempts else ():
            paths = {n: self.path(table, n) for n in attempts.keys() & set(self.names(table))}
            if curves:
                self._read(table, list(paths.values()))
            sound = {n for n, path in paths.items() if path not in self.damage.reasons}
            for name in sorted(attempts.keys() - sound):
                lacking.setdefault(attempts[name], self.files.shown(self.path(table, name)))
        return lacking

    def checkpoints(self, trials: Collection[str]) -> dict[str, str]:
        """Return the SHA-256 of the final weights of the complete ones of these trials, by id."""
        if not trials:
            return {}
        outcomes = self.outcomes()
        complete = [id for id in trials if outcomes.get(id) == State.COMPLETE]
        rows = [self.row_path(State.COMPLETE, id) for id in complete]
        read = self._read("trials", rows, ["id", "checkpoint", "outcome"]).to_pylist()
        return {row["id"]: row["checkpoint"] or "" for row in read}

    def check_weights(self, bases: Iterable[str | None]) -> dict[str, str]:
        """Return the complete ones of these trials whose checkpoint is gone, as `check` does."""
        lacking: dict[str, str] = {}
        for id, sha256 in self.checkpoints(list(dict.fromkeys(filter(None, bases)))).items():
            name = WeightsFile(sha256).name
            if name not in self.names("checkpoints", id):
                lacking[id] = self.files.shown(f"{self.path('checkpoints', id)}/{name}")
        return lacking

    def table(self, table: str, columns: list[str] | None = None) -> pa.Table:
        """Return a table: one row per trial, or the curves or classes of the rows' attempts.

        Reading takes two milliseconds per row of `trials`; with a few `columns`, a quarter of that.
        Raises `StoreError`.
        """
        for last in (False, False, True):
            try:
                return self._table(table, columns)
            except FileNotFoundError as error:  # a better row replaced one since the listing
                if last:
                    raise StoreError(f"table {table} in {self.root} keeps changing") from error
        raise AssertionError("the last attempt returns or raises")

    def _table(self, table: str, columns: list[str] | None) -> pa.Table:
        if table not in ("curves", "classes"):
            return self._read(table, self._files(table), columns)
        valid = self._read("trials", self._files("trials"), ["id", "attempt"])
        arrow = self._read(table, self._files(table))
        arrow = arrow.join(valid, ["id", "attempt"], join_type="inner")
        return arrow if columns is None else arrow.select(columns)

    def sweep_names(self) -> list[str]:
        """Return the names of the sweeps that the store has."""
        return [file.sweep for name in self.names("sweeps") if (file := SweepFile.parse(name))]

    def members(self, sweep: str) -> pa.Table:
        """Return the trials of a sweep, with the sweep's labels. Raises `StoreError`."""
        names = self.sweep_names()
        if sweep not in names:
            known = ", ".join(names) or "none"
            near = hint(sweep, names)
            raise StoreError(f"no sweep {sweep!r} in {self.root}{near}; there: {known}")
        path = self.sweep_path(sweep)
        members = self._read("sweeps", [path])
        if path in self.damage.reasons:
            raise StoreError(
                f"the record of sweep {sweep} in {self.root} is damaged; "
                "`layerwise run` with its file writes it again"
            )
        return members

    def sweep_record(self, sweep: str) -> SweepRecord:
        """Return the facts that a sweep's record holds; an empty record if there is none."""
        try:
            data = self.get(self.sweep_path(sweep))
            metadata = pq.read_schema(pa.BufferReader(data)).metadata or {}
        except (FileNotFoundError, pa.ArrowInvalid):
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

    def row(self, trial: str, outcomes: Iterable[str] = OUTCOMES) -> dict[str, Any] | None:
        """Return the row of one trial, if it has one of these outcomes."""
        paths = self.files.present(self.row_path(outcome, trial) for outcome in outcomes)
        rows: list[dict[str, Any]] = self._read("trials", paths[:1]).to_pylist()
        return rows[0] if rows else None

    def rows(self, trials: Sequence[str], outcome: str = State.COMPLETE) -> list[dict[str, Any]]:
        """Return the rows of trials that all have this outcome."""
        paths = [self.row_path(outcome, trial) for trial in trials]
        rows: list[dict[str, Any]] = self._read("trials", paths).to_pylist()
        return rows

    def read(self, table: str, paths: list[str], columns: list[str] | None = None) -> pa.Table:
        """Read these files of a table. Raises `FileNotFoundError` if one has gone."""
        return self._read(table, paths, columns)

    def _files(self, table: str) -> list[str]:
        if table == "trials":
            return [self.row_path(outcome, trial) for trial, outcome in self.outcomes().items()]
        return [self.path(table, n) for n in self.names(table) if FILES[table].parse(n)]

    def _read(self, table: str, files: list[str], columns: list[str] | None = None) -> pa.Table:
        """Read these files; those that are damaged are named and left out."""
        doing = f"read table {table} in {self.root}"
        while sound := self.damage.without(files):
            try:
                return self.files.patiently(doing, lambda: self._scan(table, sound, columns))
            except DamagedError as error:
                if not self.damage.find(table, sound):
                    raise StoreError(str(error)) from error
        empty = SCHEMAS[table].empty_table()
        return empty if columns is None else empty.select(columns)

    def _scan(self, table: str, files: list[str], columns: list[str] | None) -> pa.Table:
        schema = SCHEMAS[table]
        names = schema.names if columns is None else columns
        old = [(now, was) for was, now in OF_FIRST.items() if now in names and was not in names]
        for _, was in old:  # rows of old versions have this name
            schema = schema.append(pa.field(was, pa.string()))
        dataset = ds.dataset(files, format="parquet", filesystem=self.files.fs, schema=schema)
        try:
            arrow = dataset.to_table(columns=[*names, *(was for _, was in old)])
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, OSError) and (error.errno or self.files.transient(error)):
                raise  # the disk or the service failed, and no content is wrong
            raise DamagedError(f"cannot read table {table} in {self.root}: {error}") from error
        for fragment in dataset.get_fragments():  # after reading, this costs nothing
            version = schema_version(fragment.physical_schema)
            if version is None:
                raise DamagedError(f"{fragment.path} was not written by layerwise")
            refuse_newer(version, self.root)
        for now, was in old:
            at = arrow.column_names.index(now)
            either = pc.coalesce(arrow[now], arrow[was])
            arrow = arrow.set_column(at, arrow.field(at), either).drop_columns([was])
        if not belongs(table, files, arrow):
            raise DamagedError(f"table {table} in {self.root} holds rows under other names")
        return arrow

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

    def put_progress(self, trial: str, attempt: str, step: int, data: bytes) -> None:
        """Write a snapshot. Keep the one before it and delete older ones of this attempt."""
        new = SnapshotFile(step, attempt, checksum(data))
        self.put(self.path("progress", trial, new.name), data)
        own = [file for file in self._snapshots(trial) if file.attempt == attempt]
        for old in own[:-2]:
            self.delete(self.path("progress", trial, old.name))

    def progress(self, trial: str) -> Iterator[bytes]:
        """Yield the intact snapshots of a trial, of all attempts, the latest step first."""
        for file in reversed(self._snapshots(trial)):
            try:
                yield verify(self.get(self.path("progress", trial, file.name)), file.sha256)
            except (CheckpointError, FileNotFoundError):
                continue  # damaged or deleted meanwhile: the one before it serves

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
