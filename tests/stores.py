"""Rows and files of stores, also in other forms: those of version 1, and row files of a trial."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from orchestrator.store import kinds, row_files, table_files
from orchestrator.store.names import MARKER, AttemptFile, OldRowFile, RowFile
from orchestrator.store.schemas import SCHEMAS, to_table
from orchestrator.store.store import Store
from orchestrator.store.view import NOTICE, old_path

OTHERS = ("sweeps", "studies", "measurements", "extractions")
ID, OTHER = "0123456789abcdef", "fedcba9876543210"


def row_file(store: Store, start: str) -> str:
    """Return the path of the only row file of a trial, or `studies-<series>-<number>`."""
    [name] = [name for name in store.names("rows") if name.startswith(f"{start}-")]
    return store.path("rows", name)


def loosen(store: Store) -> None:
    """Move all rows to row files, as they lie before a compaction."""
    several = [
        (tables.kind, {t: store.table(t) for t in tables.kind.tables})
        for tables in store.row_tables
    ]
    for folder in ("rows", *KEYS):
        for entry in list(store.files.walk(store.path(folder))):
            store.delete(entry.path)
    for kind, tables in several:
        ids = {name: kind.ids(t) if name == kind.main else t["id"] for name, t in tables.items()}
        for id in set(ids[kind.main].to_pylist()):
            of_id = {name: t.filter(pc.equal(ids[name], id)) for name, t in tables.items()}
            attempt = row_files.encode_tables(kind, of_id)
            store.put(store.path("rows", attempt.file.name), attempt.data)


def forget(store: Store, start: str) -> None:
    """Remove the rows of a trial, or of `studies-<series>-<number>`."""
    loosen(store)
    store.delete(row_file(store, start))


def rewrite(store: Store, trial: str, **changes: Any) -> None:
    """Change columns of a trial's row."""
    loosen(store)
    path = row_file(store, trial)
    file = RowFile.parse(path.rpartition("/")[2])
    assert file
    record = row_files.decode(file, store.get(path), store.root)
    tables = row_files.to_tables([record], dict.fromkeys(row_files.TABLES))
    [row] = tables["trials"].to_pylist()
    points = {name: tables[name].to_pylist() for name in ("curves", "classes")}
    store.delete(path)
    store.write_row(row | changes, points["curves"], points["classes"])


def write_old(store: Store, path: str, arrow: pa.Table) -> None:
    """Write a table as version 1 did."""
    meta = {**(arrow.schema.metadata or {}), b"layerwise_schema": b"1"}
    sink = pa.BufferOutputStream()
    pq.write_table(arrow.replace_schema_metadata(meta), sink, compression="zstd")
    store.put(path, memoryview(sink.getvalue()))


def write_old_row(store: Store, row: Mapping[str, Any]) -> str:
    """Write a row as version 1 did. Return its path."""
    path = store.path("trials", row["outcome"], OldRowFile(row["id"]).name)
    write_old(store, path, to_table("trials", [row]))
    return path


def write_old_points(
    store: Store, table: str, id: str, attempt: str, rows: Sequence[Mapping[str, Any]]
) -> str:
    """Write a curve or class counts as version 1 did. Return the path."""
    path = store.path(table, AttemptFile(id, attempt).name)
    write_old(store, path, to_table(table, rows))
    return path


def to_version_1(store: Store) -> None:
    """Make a store one that version 1 wrote."""
    to_version_2(store)
    tables = {name: store.table(name) for name in ("trials", "curves", "classes")}
    for folder in ("rows", "trials", "curves", "classes", "removed"):
        for entry in list(store.files.walk(store.path(folder))):
            store.delete(entry.path)
    for row in tables["trials"].to_pylist():
        write_old_row(store, row)
        for name in ("curves", "classes"):
            points = tables[name].filter(pc.equal(tables[name]["id"], row["id"]))
            if points.num_rows or row["outcome"] == "complete":
                path = store.path(name, AttemptFile(row["id"], row["attempt"]).name)
                write_old(store, path, points)
    for table in OTHERS:
        for entry in list(store.files.walk(store.path(table))):
            arrow = pq.read_table(pa.BufferReader(store.get(entry.path)))
            assert arrow.schema.names == SCHEMAS[table].names
            write_old(store, entry.path, arrow)
    store.delete(old_path(store.files, NOTICE))
    store.put(store.path(MARKER), json.dumps({"layerwise_store": 1}).encode())


def to_version_2(store: Store) -> None:
    """Move study trials, measurements and extractions to files as version 2 wrote them."""
    for tables in store.row_tables[1:]:
        kind = tables.kind
        arrow = store.table(kind.main)
        for entry in list(store.files.walk(store.path(kind.main))):
            store.delete(entry.path)
        for name in store.names("rows"):
            if name.startswith(kind.prefix):
                store.delete(store.path("rows", name))
        ids = kind.ids(arrow)
        for id in set(ids.to_pylist()):
            rows = arrow.filter(pc.equal(ids, id))
            start = "" if kind is kinds.STUDIES else f"{rows['trial'][0].as_py()}-"
            old = {**(arrow.schema.metadata or {}), b"layerwise_schema": b"2"}
            data = table_files.encode(rows.replace_schema_metadata(old))
            store.put(store.path(kind.main, f"{start}{id}.parquet"), data)
    store.put(store.path(MARKER), json.dumps({"layerwise_store": 2}).encode())


KEYS = {
    "trials": ["id"],
    "curves": ["id", "step"],
    "classes": ["id", "class_index"],
    "studies": ["series", "number"],
    "measurements": ["id", "layer"],
    "extractions": ["id"],
}


def blank(table: str) -> dict[str, Any]:
    return dict.fromkeys(SCHEMAS[table].names)


def write_trial(
    store: Store, number: int, outcome: str = "complete", attempt: str = "aaaaaaaa", minute: int = 0
) -> str:
    """Write a trial with a curve of three points and the counts of two classes; return its id."""
    id = f"{number:016x}"
    key = {"id": id, "attempt": attempt}
    ended = datetime(2026, 1, 2, 3, minute, tzinfo=UTC)
    row = blank("trials") | key | {"outcome": outcome, "n": number, "ended": ended}
    row |= {"top1": number / 7, "training": f'{{"ä": {number}}}'}
    curve = [blank("curves") | key | {"step": s, "val_top1": s / 3} for s in (1, 2, 3)]
    counts = [blank("classes") | key | {"class_index": c, "correct": c} for c in (0, 1)]
    store.write_row(row, curve, counts if outcome == "complete" else [])
    return id


def write_others(
    store: Store, number: int, outcome: str = "complete", minute: int = 0, value: float = 0.5
) -> None:
    """Write a study trial, a measurement of three values, and an extraction."""
    id, ended = f"{number:016x}", datetime(2026, 1, 2, 3, minute, tzinfo=UTC)
    study = {"series": "a" * 16, "number": number, "state": outcome, "ended": ended}
    study |= {"value": value, "values": [value, number / 3], "cells": [id, "ä"]}
    store.write_study_trial(blank("studies") | study)
    row = {"id": id, "trial": id, "outcome": outcome, "ended": ended, "checkpoint": "b" * 64}
    for table, values in (
        ("measurements", [{"layer": layer, "value": value / layer} for layer in (3, 1, 2)]),
        ("extractions", [{"layers": [1, 2], "values": number, "seconds": value}]),
    ):
        store.write_derived(table, [blank(table) | row | some for some in values])


def tables(store: Store) -> dict[str, pa.Table]:
    """The tables in an order of their own, as a new process reads them."""
    new = Store(store.root)
    return {
        name: new.table(name).sort_by([(key, "ascending") for key in keys])
        for name, keys in KEYS.items()
    }


def names(store: Store) -> list[str]:
    """The files with rows, by the folders and the starts of their names."""
    folders = ("rows", *KEYS, "removed")
    paths = [store.relative(e.path) for f in folders for e in store.files.walk(store.path(f))]
    return sorted(path.partition("-")[0] for path in paths)


def copy_of(store: Store, to: Store) -> Store:
    """Copy all files of a local store, below the store's own functions."""
    for entry in store.files.walk(store.root):
        path = Path(to.root, store.relative(entry.path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Path(entry.path).read_bytes())
    return to


def row(outcome: str = "complete", id: str = ID, **columns: Any) -> dict[str, Any]:
    """A row of `trials`."""
    return blank("trials") | {"id": id, "outcome": outcome, "attempt": "aaaaaaaa"} | columns


def point(attempt: str, step: int = 10, id: str = ID) -> dict[str, Any]:
    """A row of `curves`."""
    return blank("curves") | {"id": id, "attempt": attempt, "step": step}


def files(store: Store) -> list[str]:
    """The paths of all files of a store, relative to it."""
    base = store.files.base
    selector = pafs.FileSelector(base, recursive=True, allow_not_found=True)
    infos = store.files.fs.get_file_info(selector)
    return sorted(i.path.removeprefix(f"{base}/") for i in infos if i.type == pafs.FileType.File)


def replace(store: Store, path: str, data: bytes) -> None:
    """Overwrite a file in place, as a fault would."""
    with store.files.fs.open_output_stream(path) as stream:
        stream.write(data)
