"""The store: every path, and writing that a reader never sees half done.

trials/<outcome>/<id>.parquet               one row, written last
curves/<id>-<attempt>.parquet               learning curve of one attempt
classes/<id>-<attempt>.parquet              counts of each class
checkpoints/<id>/<sha256>.safetensors       final weights, named by their content
progress/<id>/<step>-<attempt>-<sha256>.safetensors   to resume from; deleted after the row
sweeps/<name>.parquet                       which trials a sweep consists of
studies/<series>-<number>.parquet           one row a trial of a search

It is a folder or a prefix of an object store (`files.py`). Nothing rests on renaming, locks or
conditional writes: names say what is in a file, and the row, written last, says which files count.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from orchestrator.errors import StoreError
from orchestrator.files import LocalFiles, open_files
from orchestrator.node_cache import NodeCache
from orchestrator.tables import OUTCOMES, SCHEMA_VERSION, SCHEMAS, to_table
from trainers.checkpoint import CheckpointError, checksum, verify

HASH = 16  # hexadecimal digits of a SHA-256 in a file's name
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Store:
    """A folder or an object store with checkpoints and tables. Opening it creates nothing."""

    def __init__(self, root: str | Path):
        """`root` is a folder, or a URI such as `s3://bucket/prefix`. Raises `StoreError`."""
        self.files = open_files(root)
        self.root = self.files.root
        self.is_remote = not isinstance(self.files, LocalFiles)

    def exists(self) -> bool:
        return self.files.exists()

    # paths -----------------------------------------------------------------------------------

    def path(self, *parts: str) -> str:
        """A path below the root. No part can lead out of it."""
        for part in parts:
            if not SAFE.fullmatch(part):
                raise StoreError(f"{part!r} cannot name something in the store")
        return "/".join((self.files.base, *parts))

    def row_path(self, outcome: str, trial: str) -> str:
        return self.path("trials", outcome, f"{trial}.parquet")

    def checkpoint_path(self, trial: str, sha256: str) -> str:
        return self.path("checkpoints", trial, f"{sha256[:HASH]}.safetensors")

    # bytes -----------------------------------------------------------------------------------

    def put(self, path: str, data: bytes | memoryview) -> None:
        """Write a whole file, or nothing. Raises `StoreError`."""
        self.files.put(path, data)

    def get(self, path: str) -> bytes:
        """A whole file. Raises `FileNotFoundError`, `StoreError`."""
        return self.files.get(path)

    def delete(self, path: str) -> None:
        """Remove a file; one that is gone already is fine."""
        self.files.delete(path)

    def names(self, *parts: str) -> list[str]:
        """Names in a folder, sorted, unfinished files left out; empty if there is no folder."""
        return self.files.names(self.path(*parts))

    def size(self, paths: Iterable[str]) -> int:
        """Bytes of these files together."""
        return self.files.size(paths)

    def leftovers(self) -> list[str]:
        """Files that writers left half done when they were killed; no reader sees them."""
        return self.files.leftovers()

    # tables ----------------------------------------------------------------------------------

    def write(self, table: str, path: str, rows: Sequence[Mapping[str, Any]], **meta: str) -> None:
        """Write rows as one Parquet file. `meta` goes into the schema's metadata."""
        arrow = to_table(table, rows)
        arrow = arrow.replace_schema_metadata({**arrow.schema.metadata, **meta})
        sink = pa.BufferOutputStream()
        pq.write_table(arrow, sink, compression="zstd")
        self.put(path, memoryview(sink.getvalue()))

    def write_row(self, row: Mapping[str, Any]) -> None:
        """Write a trial's row, then drop the rows of worse outcomes that it had before."""
        self.write("trials", self.row_path(row["outcome"], row["id"]), [row])
        for worse in OUTCOMES[OUTCOMES.index(row["outcome"]) + 1 :]:
            self.delete(self.row_path(worse, row["id"]))

    def write_attempt(
        self, table: str, trial: str, attempt: str, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Write the curve or the classes of one attempt, before its row."""
        self.write(table, self.path(table, f"{trial}-{attempt}.parquet"), rows)

    def write_sweep(
        self, name: str, members: Sequence[Mapping[str, Any]], text: str, **meta: str
    ) -> None:
        """Record which trials a sweep consists of, its file's text, and its studies in `meta`."""
        self.write("sweeps", self.path("sweeps", f"{name}.parquet"), members, sweep=text, **meta)

    def write_study_trial(self, row: Mapping[str, Any]) -> None:
        """Write how a trial of a study ended."""
        self.write(
            "studies", self.path("studies", f"{row['series']}-{row['number']}.parquet"), [row]
        )

    def study_trials(self, series: str, number: int | None = None) -> list[dict[str, Any]]:
        """The rows of a study, by number; with `number` only this one, if it is there."""
        names = [n for n in self.names("studies") if n.rpartition("-")[0] == series]
        if number is not None:
            names = [name for name in names if name == f"{series}-{number}.parquet"]
        arrow = self._read("studies", [self.path("studies", name) for name in names])
        rows: list[dict[str, Any]] = arrow.to_pylist()
        return sorted(rows, key=lambda row: int(row["number"]))

    def outcomes(self) -> dict[str, str]:
        """The outcome of every trial that has a row: a listing, no file is opened."""
        found: dict[str, str] = {}
        for outcome in reversed(OUTCOMES):  # a better outcome replaces a worse one
            for name in self.names("trials", outcome):
                found[name.removesuffix(".parquet")] = outcome
        return found

    def table(self, table: str, columns: list[str] | None = None) -> pa.Table:
        """A whole table: of `trials` one row a trial, of `curves` and `classes` what they name.

        Reading takes two milliseconds a row of `trials`, with a few `columns` a quarter of it.
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

    def members(self, sweep: str) -> pa.Table:
        """Which trials a sweep consists of, with the sweep's labels. Raises `StoreError`."""
        if f"{sweep}.parquet" not in self.names("sweeps"):
            known = ", ".join(name.removesuffix(".parquet") for name in self.names("sweeps"))
            raise StoreError(f"no sweep {sweep!r} in {self.root}; there: {known or 'none'}")
        return self._read("sweeps", [self.path("sweeps", f"{sweep}.parquet")])

    def studies(self, sweep: str) -> list[dict[str, Any]]:
        """The studies of a sweep: `id`, `series`, `role` and `trials` of each."""
        try:
            data = self.get(self.path("sweeps", f"{sweep}.parquet"))
        except FileNotFoundError:
            return []
        metadata = pq.read_schema(pa.BufferReader(data)).metadata or {}
        found: list[dict[str, Any]] = json.loads(metadata.get(b"studies", b"[]"))
        return found

    def row(self, trial: str, outcomes: Iterable[str] = OUTCOMES) -> dict[str, Any] | None:
        """The row of one trial that has one of these outcomes."""
        found = self.files.present(self.row_path(outcome, trial) for outcome in outcomes)
        rows: list[dict[str, Any]] = self._read("trials", found[:1]).to_pylist()
        return rows[0] if rows else None

    def rows(self, trials: Sequence[str], outcome: str = "complete") -> list[dict[str, Any]]:
        """The rows of trials that all have this outcome."""
        found: list[dict[str, Any]] = self._read(
            "trials", [self.row_path(outcome, trial) for trial in trials]
        ).to_pylist()
        return found

    def _files(self, table: str) -> list[str]:
        if table != "trials":
            return [self.path(table, name) for name in self.names(table)]
        return [self.row_path(outcome, trial) for trial, outcome in self.outcomes().items()]

    def _read(self, table: str, files: list[str], columns: list[str] | None = None) -> pa.Table:
        schema = SCHEMAS[table]
        if not files:
            whole = schema.empty_table()
            return whole if columns is None else whole.select(columns)
        doing = f"read table {table} in {self.root}"
        return self.files.patiently(doing, lambda: self._scan(doing, schema, files, columns))

    def _scan(
        self, doing: str, schema: pa.Schema, files: list[str], columns: list[str] | None
    ) -> pa.Table:
        dataset = ds.dataset(files, format="parquet", filesystem=self.files.fs, schema=schema)
        try:
            arrow = dataset.to_table(columns=columns)
            self._refuse_newer(dataset)
        except (pa.ArrowException, ValueError) as error:
            with contextlib.suppress(pa.ArrowException, ValueError):
                self._refuse_newer(dataset)
            raise StoreError(f"cannot {doing}: {error}") from error
        return arrow

    def _refuse_newer(self, dataset: ds.Dataset) -> None:
        """Raise `StoreError` if a file is of a later schema. After reading this costs nothing."""
        for fragment in dataset.get_fragments():
            version = (fragment.physical_schema.metadata or {}).get(b"layerwise_schema", b"none")
            if int(version) > int(SCHEMA_VERSION):
                raise StoreError(
                    f"store {self.root} was written by a newer layerwise (schema "
                    f"{version.decode()}, this one knows {SCHEMA_VERSION}); upgrade layerwise"
                )

    # checkpoints -----------------------------------------------------------------------------

    def put_checkpoint(self, trial: str, data: bytes) -> str:
        """Keep final weights; their SHA-256."""
        sha256 = checksum(data)
        self.put(self.checkpoint_path(trial, sha256), data)
        return sha256

    def get_checkpoint(self, trial: str, sha256: str, *, cached: bool = False) -> bytes:
        """The final weights with this hash. Raises `CheckpointError` if missing or damaged.

        With `cached` those of a remote store are kept on this machine, so each node reads once.
        """
        path = self.checkpoint_path(trial, sha256)

        def read() -> bytes:
            try:
                return verify(self.get(path), sha256)
            except FileNotFoundError as error:
                shown = self.files.shown(path)
                raise CheckpointError(f"checkpoint {shown} is missing") from error

        return NodeCache.of_node().get(sha256, read) if cached and self.is_remote else read()

    def has_checkpoint(self, trial: str) -> bool:
        return bool(self.names("checkpoints", trial))

    def drop_checkpoints(self, trial: str) -> None:
        self.files.drop(self.path("checkpoints", trial))

    def put_progress(self, trial: str, attempt: str, step: int, data: bytes) -> None:
        """Keep a snapshot and the one before it; drop this attempt's older ones."""
        new = f"{step:010d}-{attempt}-{checksum(data)[:HASH]}.safetensors"
        self.put(self.path("progress", trial, new), data)
        own = [n for n in self.names("progress", trial) if n.split("-")[1] == attempt]
        for name in own[:-2]:
            self.delete(self.path("progress", trial, name))

    def progress(self, trial: str) -> Iterator[bytes]:
        """Snapshots of a trial that are whole, the furthest first, whoever wrote them."""
        for name in reversed(self.names("progress", trial)):
            try:
                yield verify(
                    self.get(self.path("progress", trial, name)),
                    name.removesuffix(".safetensors").rpartition("-")[2],
                )
            except (CheckpointError, FileNotFoundError):
                continue  # damaged or already cleaned up: the one before it serves

    def drop_progress(self, trial: str) -> None:
        self.files.drop(self.path("progress", trial))
