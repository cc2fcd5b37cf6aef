"""Parts: Parquet files of many attempts, which compaction makes of row files.

A part has attempts of one kind (`kinds.py`): one file of the main table and at most one of each
table of points, with the rows of the same attempts in the order of their ids. A part of trials is a
file of `trials`, one of `curves` and one of `classes`. The main file is written last and names the
others, so a part is there if this file is. Files of a part never change: the name ends with the
SHA-256 of the whole file, and its token is used once. The main file has one column more than the
table: `digest`, that of the attempt's row file, which proves all its rows together
(`row_files.py`).
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from orchestrator.errors import StoreError
from orchestrator.store import table_files
from orchestrator.store.damage import DamagedError, refuse_newer
from orchestrator.store.files import Files
from orchestrator.store.kinds import MAIN, Kind
from orchestrator.store.names import CompactFile
from orchestrator.store.row_files import digest
from orchestrator.store.schemas import COLUMNS, SCHEMAS

Opened: TypeAlias = pq.ParquetFile
DIGEST = pa.field("digest", pa.string())
GROUP = {"trials": 4096}  # rows of a row group
POINTS = 65_536  # the same, of the other tables
WRITES = 3  # of a file that the store gives back with other bytes
REMEMBERED = 1000  # parts, whose index this process need not read again


@dataclass(frozen=True)
class Part:
    """A part, with the columns by which readers choose among the attempts of an id."""

    kind: Kind
    file: CompactFile
    others: Mapping[str, CompactFile]
    """Files of the tables of points, if they have rows."""
    index: pa.Table
    """A row of each attempt."""
    points: int = 0
    """Rows of the tables of points."""
    numbers: pa.Array | None = None
    """Number of the attempt of each row of the main table; None if each attempt has one."""

    @functools.cached_property
    def ids(self) -> list[str]:
        """Ids of its attempts."""
        ids: list[str] = self.index["id"].to_pylist()
        return ids

    @property
    def files(self) -> Mapping[str, CompactFile]:
        """Its files by their tables."""
        return {self.kind.main: self.file, **self.others}

    @property
    def names(self) -> list[str]:
        """Names of the files of points."""
        return [file.name for file in self.others.values()]

    @property
    def weight(self) -> int:
        """Rows of all its tables."""
        return (len(self) if self.numbers is None else len(self.numbers)) + self.points

    def rows_of(self, attempts: pa.BooleanArray) -> pa.BooleanArray:
        """Return the rows of the main table that are of these attempts; both are masks."""
        return attempts if self.numbers is None else attempts.take(self.numbers)

    def __len__(self) -> int:
        return int(self.index.num_rows)


_indexes: dict[tuple[str, str], Part] = {}  # never stale, as parts never change


def path_of(files: Files, table: str, file: CompactFile) -> str:
    return f"{files.base}/{table}/{file.name}"


def write(files: Files, kind: Kind, tables: Mapping[str, pa.Table]) -> None:
    """Write a part, and read it back. The main table has `digest`. Raises `StoreError`."""
    others = {
        table: _write(files, table, tables[table], {})
        for table in kind.points
        if tables[table].num_rows
    }
    named = {f"layerwise_{table}": file.name for table, file in others.items()}
    named["layerwise_points"] = str(sum(tables[table].num_rows for table in others))
    beside = [path_of(files, table, other) for table, other in others.items()]
    _write(files, kind.main, tables[kind.main], named, beside)


def _write(
    files: Files,
    table: str,
    arrow: pa.Table,
    meta: Mapping[str, str],
    beside: Sequence[str] = (),
) -> CompactFile:
    """Write a file of a part. Raises `FileNotFoundError` if one of `beside` has gone.

    An upload whose answer was lost is repeated. Another compaction may have moved the part, and
    must not find it again without the files that it names. A file that was not stored as it was
    written is written again under another name.
    """
    schema = SCHEMAS[table].append(DIGEST) if table in MAIN else SCHEMAS[table]
    if not arrow.schema.equals(schema):
        arrow = arrow.cast(schema)
    arrow = arrow.replace_schema_metadata({**schema.metadata, **meta})
    sink = pa.BufferOutputStream()
    pq.write_table(arrow, sink, compression="zstd", row_group_size=GROUP.get(table, POINTS))
    data = memoryview(sink.getvalue())
    for _ in range(WRITES):
        file = CompactFile(secrets.token_hex(8), digest(data))
        path = path_of(files, table, file)
        files.put(path, data, beside)
        if digest(files.get(path)) == file.digest:
            return file
        files.delete(path)
    raise StoreError(f"{files.shown(path)} was not stored as it was written, {WRITES} times")


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
    """Return the digest of each row in an open main file."""
    digests: list[str] = opened.read([DIGEST.name])[DIGEST.name].to_pylist()
    return digests


def has_unknown_columns(table: str, opened: Opened) -> bool:
    """Return whether a later version of the program added columns to an open file."""
    return bool(set(opened.schema_arrow.names) - COLUMNS[table].keys() - {DIGEST.name})


def look(files: Files, kind: Kind, file: CompactFile) -> Part:
    """Return a part by its main file. Raises as `opened` does."""
    key = (files.root, path_of(files, kind.main, file))
    if key not in _indexes:
        main = opened(files, kind.main, file)
        meta = main.metadata.metadata or {}
        named = {table: meta.get(f"layerwise_{table}".encode(), b"") for table in kind.points}
        others = {t: f for t, name in named.items() if (f := CompactFile.parse(name.decode()))}
        if len(_indexes) >= REMEMBERED:
            _indexes.pop(next(iter(_indexes)), None)
        points = int(meta.get(b"layerwise_points", b"0"))
        index, numbers = _index(kind, main)
        _indexes[key] = Part(kind, file, others, index, points, numbers)
    return _indexes[key]


def _index(kind: Kind, main: Opened) -> tuple[pa.Table, pa.Array | None]:
    """Return the index of a part, and the number of the attempt of each row."""
    rows = table_files.conformed(kind.main, main, kind.index_columns)
    if not kind.has_attempts:
        rows = rows.append_column(DIGEST, pa.array(digests_of(main), pa.string()))
    index = kind.index(rows)
    if not kind.has_several or not len(index):
        return index, None
    ends = pc.run_end_encode(rows[DIGEST.name].combine_chunks()).run_ends.to_numpy()
    lengths = np.diff(ends, prepend=0)
    return index.take(ends - lengths), pa.array(np.repeat(np.arange(len(ends)), lengths))
