"""Answers of queries, and other tables, as CSV, JSON and Parquet."""

from __future__ import annotations

import csv
import io
import json
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.errors import LayerwiseError
from trainers import whole_file


def to_csv(table: pa.Table) -> str:
    """Return a header and one line per row; nulls are empty, times in ISO 8601."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.column_names)
    columns = (map(plain, column.to_pylist()) for column in table.columns)
    writer.writerows(zip(*columns, strict=True))
    return out.getvalue()


def to_json(table: pa.Table) -> str:
    """Return a JSON list with one object per row; NaN and infinities are null."""
    names: list[str] = []
    for name in table.column_names:  # a number keeps two columns of one name apart
        names.append(f"{name}_{names.count(name) + 1}" if name in names else name)
    rows = _json(table.rename_columns(names).to_pylist())
    return json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_parquet(table: pa.Table, path: Path) -> None:
    """Write one Parquet file. Raises `LayerwiseError` if it cannot be written.

    Parquet has no intervals: they become strings such as `1 mon 2 d 0.5 s`.
    """
    for index, column in enumerate(table.schema):
        if pa.types.is_interval(column.type):
            texts = [_interval(value.as_py()) for value in table[index]]
            table = table.set_column(index, column.name, pa.array(texts, pa.string()))
    try:
        with whole_file.replacing(path) as file:
            pq.write_table(table, file, compression="zstd")
    except pa.ArrowException as error:
        message = f"Parquet cannot hold this answer: {error}; cast the column"
        raise LayerwiseError(message) from error
    except OSError as error:
        raise LayerwiseError(f"cannot write {path}: {error.strerror or error}") from error


def _interval(value: tuple[int, int, int] | None) -> str | None:
    """Return an interval as a string."""
    if value is None:
        return None
    months, days, nanoseconds = value
    return f"{months} mon {days} d {nanoseconds / 1e9:g} s"


def plain(value: Any) -> Any:
    """Return a value as CSV writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return json.dumps(_json(value), ensure_ascii=False)
    return _json(value)


def _json(value: Any) -> Any:
    """Return a value as JSON writes it."""
    if isinstance(value, dict):
        return {str(name): _json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and not (-float("inf") < value < float("inf")):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
