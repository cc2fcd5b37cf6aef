"""A stand-in for Parquet files: groups of rows as Arrow streams, each with its hash, and a footer.

Real Parquet takes sixty times as long for tables of a few rows with many columns. What the store
relies on is the same: a file whose end is missing or whose footer is changed cannot be opened, a
changed byte makes its group of rows unreadable, and the other groups can still be read.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Self

import pyarrow as pa

MAGIC = b"PAR1"
ALL = 2**62  # rows of a group by default


class ParquetWriter:
    """Stand-in for `pq.ParquetWriter`."""

    def __init__(self, sink: Any, schema: pa.Schema, compression: str = ""):  # noqa: ARG002
        self.sink, self.schema = sink, schema
        self.groups: list[bytes] = []
        self.added: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        meta = {k.decode(): v.decode() for k, v in (self.schema.metadata or {}).items()}
        sizes = [len(group) for group in self.groups]
        sums = [_sum(group).hex() for group in self.groups]
        schema = _name_of(self.schema.remove_metadata())
        facts = {"sizes": sizes, "sums": sums, "schema": schema, "meta": meta | self.added}
        footer = json.dumps(facts).encode()
        parts = [MAGIC, *self.groups, footer, len(footer).to_bytes(8, "big"), MAGIC]
        self.sink.write(b"".join(parts))

    def write_table(self, table: pa.Table, row_group_size: int = ALL) -> None:
        batches = table.combine_chunks().to_batches()  # so that equal rows give equal bytes
        for start in range(0, table.num_rows, row_group_size):
            [batch] = batches
            self.groups.append(batch.slice(start, row_group_size).serialize().to_pybytes())

    def add_key_value_metadata(self, meta: Mapping[str, str]) -> None:
        self.added |= meta


def write_table(
    table: pa.Table, sink: Any, compression: str = "", row_group_size: int = ALL
) -> None:
    """Stand for `pq.write_table`."""
    with ParquetWriter(sink, table.schema, compression) as writer:
        writer.write_table(table, row_group_size)


def _name_of(schema: pa.Schema) -> str:
    """Return the hash of a schema, by which a reader finds it. It is the same for equal schemas."""
    names = tuple(schema.names)
    known, name = NAMES.get(names, (None, ""))
    if known is None or not known.equals(schema):
        name = _sum(schema.serialize().to_pybytes()).hex()
        NAMES[names] = schema, name
        BY_NAME[name] = schema
    return name


NAMES: dict[tuple[str, ...], tuple[pa.Schema, str]] = {}
BY_NAME: dict[str, pa.Schema] = {}


def _sum(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


class ParquetFile:
    """Stand-in for `pq.ParquetFile`. Raises `pa.ArrowInvalid` for what is no whole file."""

    def __init__(self, data: bytes):
        end = len(data) - len(MAGIC) - 8
        if end < len(MAGIC) or not data.startswith(MAGIC) or not data.endswith(MAGIC):
            raise pa.ArrowInvalid("it is no Parquet file")
        try:
            footer = data[end - int.from_bytes(data[end : end + 8], "big") : end]
            facts = json.loads(footer)
            self.sizes: Sequence[int] = facts["sizes"]
            self.sums: Sequence[str] = facts["sums"]
            self.bare = BY_NAME[facts["schema"]]
            meta = {k.encode(): v.encode() for k, v in facts["meta"].items()}
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            raise pa.ArrowInvalid("its footer cannot be read") from error
        if sum(self.sizes) + len(footer) + 2 * len(MAGIC) + 8 != len(data):
            raise pa.ArrowInvalid("bytes are missing or were inserted")
        self.data = data
        self.metadata = SimpleNamespace(metadata=meta)
        self.schema_arrow = self.bare.with_metadata(meta)
        self.num_row_groups = len(self.sizes)

    def read_row_group(self, number: int) -> pa.Table:
        start = len(MAGIC) + sum(self.sizes[:number])
        group = self.data[start : start + self.sizes[number]]
        if _sum(group).hex() != self.sums[number]:
            raise pa.ArrowInvalid("a group of rows cannot be decoded")
        return pa.Table.from_batches([pa.ipc.read_record_batch(group, self.bare)])

    @functools.cached_property
    def table(self) -> pa.Table:
        groups = [self.read_row_group(number) for number in range(self.num_row_groups)]
        whole = pa.concat_tables(groups or [self.bare.empty_table()])
        return whole.replace_schema_metadata(self.schema_arrow.metadata)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        return self.table if columns is None else self.table.select(columns)


@functools.lru_cache(maxsize=100)
def _opened(data: bytes) -> ParquetFile:
    return ParquetFile(data)


def opened(source: pa.BufferReader) -> ParquetFile:
    """Stand for `pq.ParquetFile`; equal bytes give the same object."""
    return _opened(source.read())


PARQUET = SimpleNamespace(ParquetFile=opened, ParquetWriter=ParquetWriter, write_table=write_table)
