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

from orchestrator.store import row_files
from orchestrator.store.names import MARKER, AttemptFile, OldRowFile, RowFile
from orchestrator.store.schemas import SCHEMAS, to_table
from orchestrator.store.store import Store
from orchestrator.store.view import NOTICE, old_path

OTHERS = ("sweeps", "studies", "measurements")
ID, OTHER = "0123456789abcdef", "fedcba9876543210"


def row_file(store: Store, trial: str) -> str:
    """Return the path of the only row file of a trial."""
    [name] = [name for name in store.names("rows") if name.startswith(f"{trial}-")]
    return store.path("rows", name)


def loosen(store: Store) -> None:
    """Move all rows to row files, as they lie before a compaction."""
    tables = {name: store.table(name) for name in row_files.TABLES}
    for folder in ("rows", *row_files.TABLES):
        for entry in list(store.files.walk(store.path(folder))):
            store.delete(entry.path)
    for id in tables["trials"]["id"].to_pylist():
        of_trial = {name: table.filter(pc.equal(table["id"], id)) for name, table in tables.items()}
        attempt = row_files.encode_tables(of_trial)
        store.put(store.path("rows", attempt.file.name), attempt.data)


def forget(store: Store, trial: str) -> None:
    """Remove the rows of a trial."""
    loosen(store)
    store.delete(row_file(store, trial))


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


KEYS = {"trials": ["id"], "curves": ["id", "step"], "classes": ["id", "class_index"]}


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


def tables(store: Store) -> dict[str, pa.Table]:
    """The tables in an order of their own, as a new process reads them."""
    new = Store(store.root)
    return {
        name: new.table(name).sort_by([(key, "ascending") for key in KEYS[name]])
        for name in row_files.TABLES
    }


def names(store: Store) -> list[str]:
    """The files with rows, by the folders and the starts of their names."""
    folders = ("rows", *row_files.TABLES, "removed")
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
