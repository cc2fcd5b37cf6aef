"""Parquet files of a table, with a checksum over every byte.

Parquet's own checksums leave the footer and the headers of pages open, and bytes may be inserted
between them. So each file is sealed: an entry of its footer holds the SHA-256 of the whole file, in
which this entry alone counts as zeros. Other programs read the file as any Parquet file. Files of
version 1 have no seal.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orchestrator.store.damage import DamagedError, refuse_newer
from orchestrator.store.schemas import OF_FIRST, SCHEMAS

SEAL = "layerwise_sha256"
OPEN = "0" * 64
FOREIGN = "it was not written by layerwise"
BROKEN = "it is no whole Parquet file of this table"
UNREADABLE = (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError)


def encode(arrow: pa.Table, **meta: str) -> bytes:
    """Return a table as a sealed Parquet file. `meta` goes into the schema's metadata."""
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), **meta})
    place = secrets.token_hex(32)  # occurs nowhere else in the file
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, arrow.schema, compression="zstd") as writer:
        writer.write_table(arrow)
        writer.add_key_value_metadata({SEAL: place})
    start, _, end = sink.getvalue().to_pybytes().partition(place.encode())
    return b"".join((start, _sum(start, end).encode(), end))


def _sum(start: bytes, end: bytes) -> str:
    return hashlib.sha256(b"".join((start, OPEN.encode(), end))).hexdigest()


def _is_sealed(data: bytes, seal: bytes) -> bool:
    if len(seal) != len(OPEN):
        return False
    start, _, end = data.rpartition(seal)
    return _sum(start, end).encode() == seal


def decode(table: str, data: bytes, root: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return these columns of a file. `root` names the store in messages.

    Columns that the file lacks are null. Raises `DamagedError`, and `StoreError` for a newer
    version.
    """
    return conformed(table, _open(data, root), columns)


def metadata(data: bytes, root: str) -> Mapping[bytes, bytes]:
    """Return the metadata of a file. Raises as `decode` does."""
    return _open(data, root).schema_arrow.metadata or {}


def _open(data: bytes, root: str) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        meta: Mapping[bytes, bytes] = file.metadata.metadata or {}
        version = schema_version(file.schema_arrow)
    except UNREADABLE as error:
        raise DamagedError(BROKEN) from error
    seal = meta.get(SEAL.encode())
    if seal is not None and not _is_sealed(data, seal):
        raise DamagedError("its content is not what its checksum says")
    if version is None:
        raise DamagedError(FOREIGN)
    refuse_newer(version, root)
    if version != 1 and seal is None:
        raise DamagedError("its checksum is gone")
    return file


def conformed(table: str, file: pq.ParquetFile, columns: Sequence[str] | None) -> pa.Table:
    """Return these columns of an open file in the types of the schema. Raises `DamagedError`."""
    schema, every = SCHEMAS[table], SCHEMAS[table].names
    names = list(every if columns is None else columns)
    there = set(file.schema_arrow.names)
    old = {
        now: was
        for was, now in OF_FIRST.items()
        if now in names and was in there and was not in every
    }
    wanted = schema
    if names != every:
        wanted = pa.schema([schema.field(name) for name in names], metadata=schema.metadata)
    try:
        arrow = file.read(columns=[name for name in (*names, *old.values()) if name in there])
        if not old and arrow.schema.equals(wanted):  # as this version writes it
            return arrow.replace_schema_metadata(schema.metadata)
        arrays = []
        for name in names:
            kind = schema.field(name).type
            array = pa.nulls(len(arrow), kind) if name not in there else arrow[name].cast(kind)
            if name in old:  # rows of old versions have this name
                array = pc.coalesce(array, arrow[old[name]])
            arrays.append(array)
    except UNREADABLE as error:
        raise DamagedError(BROKEN) from error
    return pa.table(arrays, schema=wanted)


def schema_version(schema: pa.Schema) -> int | None:
    """Return the version that wrote a file; None if that was not layerwise."""
    text: bytes = (schema.metadata or {}).get(b"layerwise_schema", b"")
    return int(text) if text.isdigit() else None
