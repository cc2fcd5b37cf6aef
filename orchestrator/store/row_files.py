"""Row files: all that one attempt recorded, as one object, written once.

A row file is JSON, one object per line: the version, then a table each. That of a trial has its
row, the curve and the counts per class; the last two are left out if they are empty. Other kinds of
rows (`kinds.py`) have one table. Columns of nulls are left out. Times are microseconds since 1970.
The form is canonical: equal content gives equal bytes. Their SHA-256 is the digest of the attempt,
and the file's name ends with it. So a changed bit is noticed, and a row that lies in a part
(`parts.py`) is proven by the same digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa

from orchestrator.store import kinds
from orchestrator.store.damage import DamagedError, refuse_newer
from orchestrator.store.kinds import Kind
from orchestrator.store.names import HASH, RowFile
from orchestrator.store.schemas import (
    COLUMNS,
    SCHEMA_VERSION,
    SCHEMAS,
    require_columns,
    table_of,
    to_table,
)

TABLES = kinds.TRIALS.tables  # the tables that the row file of a trial has rows of
VERSION = "layerwise_schema"
VERSIONS = (int(SCHEMA_VERSION), 2)  # that a row file may name, which differ in nothing else

Columns = Mapping[str, list[Any]]
Record = dict[str, Any]
"""A decoded row file: `trials` is the row; other tables are columns, or missing."""


class Attempt(NamedTuple):
    """The rows of one attempt."""

    file: RowFile
    data: bytes


def encode(
    row: Mapping[str, Any],
    curve: Sequence[Mapping[str, Any]] = (),
    classes: Sequence[Mapping[str, Any]] = (),
) -> Attempt:
    """Return the row file of an attempt at a trial. Raises as `encode_rows` does."""
    return encode_rows(kinds.TRIALS, {"trials": [row], "curves": curve, "classes": classes})


def encode_rows(kind: Kind, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> Attempt:
    """Return the row file of an attempt.

    Raises `TypeError` for an unknown or a missing column, `pa.ArrowInvalid` for a wrong type.
    """
    try:
        return _attempt(kind, {table: _plain(table, rows) for table, rows in tables.items()})
    except OtherTypeError:  # Arrow converts it, or refuses it
        return encode_tables(kind, {table: to_table(table, rows) for table, rows in tables.items()})


def encode_tables(
    kind: Kind, tables: Mapping[str, pa.Table], version: int = VERSIONS[0]
) -> Attempt:
    """Return the row file of an attempt with these tables; `trials` has one row."""
    return _attempt(kind, {name: _columns(tables[name]) for name in kind.tables}, version)


def _attempt(kind: Kind, columns: Mapping[str, Columns], version: int = VERSIONS[0]) -> Attempt:
    row = {name: values[0] for name, values in columns[kind.main].items()}
    lines: list[Any] = [{VERSION: version}]
    lines += [{kind.main: row if kind is kinds.TRIALS else columns[kind.main]}]
    lines += [{name: columns[name]} for name in kind.points if columns[name]]
    data = b"".join(_line(line) for line in lines)
    sha256 = digest(data)
    attempt = str(row.get("attempt")) if kind.has_attempts else sha256[: kinds.ATTEMPT]
    file = RowFile(kind.id_of(row), str(row.get(kind.outcome)), attempt, sha256, kind.main)
    return Attempt(file, data)


def _line(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass") + b"\n"


def _columns(table: pa.Table) -> dict[str, list[Any]]:
    """Return the columns that are not all null, as JSON values."""
    columns: dict[str, list[Any]] = {}
    for batch in table.combine_chunks().to_batches():  # one, or none without rows
        for name, column in zip(table.column_names, batch.columns, strict=True):
            if column.null_count < len(column):
                is_time = pa.types.is_timestamp(column.type)
                columns[name] = (column.cast(pa.int64()) if is_time else column).to_pylist()
    return columns


class OtherTypeError(Exception):
    """A value that is not of the Python type of its column."""


def _plain(table: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return what `_columns` returns, in a tenth of the time. Raises `OtherTypeError`."""
    require_columns(table, rows)
    columns: dict[str, list[Any]] = {}
    for name, kind in COLUMNS[table].items():
        values = [row[name] for row in rows]
        if any(value is not None for value in values):
            plain = _PLAIN.get(kind, _not_plain)
            columns[name] = [None if value is None else plain(value) for value in values]
    return columns


def _plain_string(value: Any) -> str:
    if isinstance(value, str) and value.isascii():  # Arrow knows which other ones are none
        return str(value)
    raise OtherTypeError


def _plain_integer(value: Any) -> int:
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    raise OtherTypeError


def _plain_number(value: Any) -> float:
    if type(value) is float:
        return value
    raise OtherTypeError


def _plain_truth(value: Any) -> bool:
    if type(value) is bool:
        return value
    raise OtherTypeError


def _plain_time(value: Any) -> int:
    if type(value) is datetime and value.tzinfo is UTC:
        return (value - EPOCH) // MICROSECOND
    raise OtherTypeError


def _not_plain(value: Any) -> Any:  # noqa: ARG001
    raise OtherTypeError


EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_PLAIN: dict[pa.DataType, Callable[[Any], Any]] = {
    pa.string(): _plain_string,
    pa.int64(): _plain_integer,
    pa.float64(): _plain_number,
    pa.bool_(): _plain_truth,
    pa.timestamp("us", "UTC"): _plain_time,
}


def digest(data: bytes | memoryview) -> str:
    """Return the start of the SHA-256 of a file, as names have it."""
    return hashlib.sha256(data).hexdigest()[:HASH]


def decode(file: RowFile, data: bytes, root: str, tables: Iterable[str] = TABLES) -> Record:
    """Return these tables of a row file. `root` names the store in messages.

    Raises `DamagedError` unless the bytes are those that the name promises, and `StoreError` for a
    newer version.
    """
    if digest(data) != file.digest:
        raise DamagedError("its content is not what its name says")
    lines = data.splitlines()
    refuse_newer(json.loads(lines[0])[VERSION], root)
    record: Record = {}
    for line in lines[1:]:
        if any(line.startswith(b'{"%s":' % name.encode()) for name in tables):
            record |= json.loads(line)
    return record


def to_tables(
    records: Sequence[Record], columns: Mapping[str, Sequence[str] | None]
) -> dict[str, pa.Table]:
    """Return the tables that `columns` names, with these of their columns, None for all."""
    return {
        table: _trials(records, names) if table == "trials" else _points(table, records, names)
        for table, names in columns.items()
    }


def _trials(records: Sequence[Record], names: Sequence[str] | None) -> pa.Table:
    schema = _schema("trials", names)
    return table_of(schema, [record["trials"] for record in records])


def _points(table: str, records: Sequence[Record], names: Sequence[str] | None) -> pa.Table:
    schema = _schema(table, names)
    some = [record[table] for record in records if table in record]
    lengths = [_length(columns) for columns in some]
    arrays = []
    for field in schema:
        values: list[Any] = []
        for columns, length in zip(some, lengths, strict=True):
            values += columns.get(field.name) or [None] * length
        arrays.append(pa.array(values, field.type))
    return pa.table(arrays, schema=schema)


def _length(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def number_of_rows(record: Record, kind: Kind) -> int:
    """Return the number of rows of a decoded row file in its main table."""
    return 1 if kind is kinds.TRIALS else _length(record[kind.main])


def _schema(table: str, names: Sequence[str] | None) -> pa.Schema:
    schema = SCHEMAS[table]
    if names is None:
        return schema
    return pa.schema([schema.field(name) for name in names], metadata=schema.metadata)


def knows(record: Record) -> bool:
    """Return whether this version knows every column of a decoded row file."""
    return all(record[table].keys() <= COLUMNS[table].keys() for table in record)
