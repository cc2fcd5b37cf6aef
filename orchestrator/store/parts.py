"""Parts: Parquet files of many attempts, which compaction makes of row files.

A part is one file of `trials` and at most one of `curves` and of `classes`, with the rows of the
same attempts in the order of their ids. The file of `trials` is written last and names the others,
so a part is there if this file is. Files of a part never change: the name ends with the SHA-256 of
the whole file, and its token is used once. `trials` has one column more than the table: `digest`,
that of the attempt's row file, which proves row, curve and counts together (`row_files.py`).
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from orchestrator.errors import StoreError
from orchestrator.store import table_files
from orchestrator.store.damage import DamagedError, refuse_newer
from orchestrator.store.files import Files
from orchestrator.store.names import CompactFile
from orchestrator.store.row_files import TABLES, digest
from orchestrator.store.schemas import COLUMNS, SCHEMAS

Opened: TypeAlias = pq.ParquetFile
DIGEST = pa.field("digest", pa.string())
INDEX = ["id", "outcome", "attempt", "ended"]
GROUP = {"trials": 4096, "curves": 65_536, "classes": 65_536}  # rows of a row group
REMEMBERED = 1000  # parts, whose index this process need not read again


@dataclass(frozen=True)
class Part:
    """A part, with the columns by which readers choose among the rows of a trial."""

    file: CompactFile
    others: Mapping[str, CompactFile]
    """Files of `curves` and `classes`, if they have rows."""
    index: pa.Table
    points: int = 0
    """Rows of `curves` and `classes`."""

    @functools.cached_property
    def ids(self) -> list[str]:
        """Ids of its rows."""
        ids: list[str] = self.index["id"].to_pylist()
        return ids

    @property
    def names(self) -> list[str]:
        """Names of the files of `curves` and `classes`."""
        return [file.name for file in self.others.values()]

    def __len__(self) -> int:
        return int(self.index.num_rows)


_indexes: dict[tuple[str, str], Part] = {}  # never stale, as parts never change


def path_of(files: Files, table: str, file: CompactFile) -> str:
    return f"{files.base}/{table}/{file.name}"


def write(files: Files, tables: Mapping[str, pa.Table]) -> Part:
    """Write a part, and read it back. `trials` has the column `digest`. Raises `StoreError`."""
    others = {
        table: _write(files, table, tables[table], {})
        for table in TABLES[1:]
        if tables[table].num_rows
    }
    named = {f"layerwise_{table}": file.name for table, file in others.items()}
    points = sum(tables[table].num_rows for table in others)
    named["layerwise_points"] = str(points)
    beside = [path_of(files, table, other) for table, other in others.items()]
    file = _write(files, "trials", tables["trials"], named, beside)
    return Part(file, others, tables["trials"].select(INDEX), points)


def _write(
    files: Files,
    table: str,
    arrow: pa.Table,
    meta: Mapping[str, str],
    beside: Sequence[str] = (),
) -> CompactFile:
    """Write a file of a part. Raises `FileNotFoundError` if one of `beside` has gone.

    An upload whose answer was lost is repeated. Another compaction may have moved the part, and
    must not find it again without the files that it names.
    """
    schema = SCHEMAS[table].append(DIGEST) if table == "trials" else SCHEMAS[table]
    if not arrow.schema.equals(schema):
        arrow = arrow.cast(schema)
    arrow = arrow.replace_schema_metadata({**schema.metadata, **meta})
    sink = pa.BufferOutputStream()
    pq.write_table(arrow, sink, compression="zstd", row_group_size=GROUP[table])
    data = memoryview(sink.getvalue())
    file = CompactFile(secrets.token_hex(8), digest(data))
    path = path_of(files, table, file)
    files.put(path, data, beside)
    if digest(files.get(path)) != file.digest:
        raise StoreError(f"{files.shown(path)} was not stored as it was written")
    return file


def verify(files: Files, table: str, file: CompactFile) -> None:
    """Compare every byte of a file with its checksum. Raises as `opened` does."""
    _content(files, table, file)


def _content(files: Files, table: str, file: CompactFile) -> bytes:
    """Return a file of a part. Raises `DamagedError`, `FileNotFoundError`, `StoreError`."""
    data = files.get(path_of(files, table, file))
    if digest(data) != file.digest:
        raise DamagedError("its content is not what its name says")
    return data


def opened(files: Files, table: str, file: CompactFile) -> Opened:
    """Return a file of a part, after a look at every byte of it.

    Raises `DamagedError`, `FileNotFoundError`, and `StoreError` also for a newer version.
    """
    return _opened(files, _content(files, table, file))


def _opened(files: Files, data: bytes) -> Opened:
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        version = table_files.schema_version(file.schema_arrow)
    except table_files.UNREADABLE as error:
        raise DamagedError(table_files.BROKEN) from error
    if version is None:
        raise DamagedError(table_files.FOREIGN)
    refuse_newer(version, files.root)
    return file


def read(
    files: Files, table: str, file: CompactFile, columns: Sequence[str] | None = None
) -> pa.Table:
    """Return these columns of a file of a part. Raises as `opened` does."""
    return table_files.conformed(table, opened(files, table, file), columns)


def fragment(files: Files, table: str, file: CompactFile) -> ds.Fragment:
    """Return a file of a part for a dataset, after a look at every byte of it.

    That of a folder is read when it is needed; others are in memory. Raises as `opened` does.
    """
    data = _content(files, table, file)
    _opened(files, data)
    form = ds.ParquetFileFormat()
    if isinstance(files.fs, pafs.LocalFileSystem):
        return form.make_fragment(path_of(files, table, file), files.fs)
    return form.make_fragment(pa.py_buffer(data))


def digests_of(opened: Opened) -> list[str]:
    """Return the digests of the attempts in an open file of `trials`."""
    digests: list[str] = opened.read([DIGEST.name])[DIGEST.name].to_pylist()
    return digests


def has_unknown_columns(table: str, opened: Opened) -> bool:
    """Return whether a later version of the program added columns to an open file."""
    return bool(set(opened.schema_arrow.names) - COLUMNS[table].keys() - {DIGEST.name})


def look(files: Files, file: CompactFile) -> Part:
    """Return a part by its file of `trials`. Raises as `opened` does."""
    key = (files.root, path_of(files, "trials", file))
    if key not in _indexes:
        trials = opened(files, "trials", file)
        meta = trials.metadata.metadata or {}
        named = {table: meta.get(f"layerwise_{table}".encode(), b"") for table in TABLES[1:]}
        others = {t: f for t, name in named.items() if (f := CompactFile.parse(name.decode()))}
        if len(_indexes) >= REMEMBERED:
            _indexes.pop(next(iter(_indexes)), None)
        points = int(meta.get(b"layerwise_points", b"0"))
        index = table_files.conformed("trials", trials, INDEX)
        _indexes[key] = Part(file, others, index, points)
    return _indexes[key]
