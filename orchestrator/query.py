"""SQL over a store. The only file that imports DuckDB, which sees Arrow tables and no file."""

from __future__ import annotations

import csv
import functools
import io
import json
import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator import reference
from orchestrator.errors import LayerwiseError
from orchestrator.search.evidence import HELD_OUT, held_out
from orchestrator.speed import SPEED, SPEEDS, speed, speeds
from orchestrator.stats import (
    EFFECTS,
    LEVELS,
    TABLE1,
    effects,
    levels,
    needs_classes,
    table1,
)
from orchestrator.store import Store
from orchestrator.tables import CURVES, SCHEMAS

if TYPE_CHECKING:
    import duckdb

SETTINGS = (  # the last one forbids to change the others
    "SET autoinstall_known_extensions = false",
    "SET python_enable_replacements = false",  # else a name in SQL may mean a Python variable
    "SET TimeZone = 'UTC'",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


class QueryError(LayerwiseError):
    """A query that DuckDB refused."""


Read = Callable[[str], pa.Table]  # a table of the store by its name


def _classes(read: Read) -> pa.Table | None:
    """The table of class counts, one file a trial, only where an interval needs it."""
    return read("classes") if needs_classes(read("sweeps")) else None


VIEWS: dict[str, tuple[pa.Schema, Callable[[Read], pa.Table]]] = {
    "trials": (SCHEMAS["trials"], lambda read: read("trials")),
    "curves": (SCHEMAS["curves"], lambda read: read("curves")),
    "classes": (SCHEMAS["classes"], lambda read: read("classes")),
    "sweeps": (SCHEMAS["sweeps"], lambda read: read("sweeps")),
    "effects": (EFFECTS, lambda read: effects(read("sweeps"), read("trials"), _classes(read))),
    "levels": (LEVELS, lambda read: levels(read("sweeps"), read("trials"), _classes(read))),
    "table1": (TABLE1, lambda read: table1(read("sweeps"), read("trials"))),
    "speed": (SPEED, lambda read: speed(read("sweeps"), read("trials"), read("curves"))),
    "speeds": (SPEEDS, lambda read: speeds(VIEWS["speed"][1](read))),
    "studies": (SCHEMAS["studies"], lambda read: read("studies")),
    "held_out": (HELD_OUT, lambda read: held_out(read("sweeps"), read("trials"))),
    "paper": (reference.PAPER, lambda _read: reference.paper()),
    "paper_curves": (CURVES, lambda _read: reference.tables().curves),
}
WITHOUT_STORE = {"paper", "paper_curves"}  # published results, which come with the program


def named(sql: str) -> set[str]:
    """The views that a query may read: those whose name occurs in it."""
    return {name for name in VIEWS if re.search(rf"\b{name}\b", sql, re.IGNORECASE)}


def needs_store(sql: str) -> bool:
    """Whether a query reads anything but the published results."""
    return not named(sql) or bool(named(sql) - WITHOUT_STORE)


def connect(store: Store, sql: str | None = None) -> duckdb.DuckDBPyConnection:
    """A connection with every view of `VIEWS`; those that `sql` does not name are left empty."""
    import duckdb

    read = functools.cache(store.table)
    wanted = set(VIEWS) if sql is None else named(sql)
    connection = duckdb.connect(":memory:")
    for name, (schema, load) in VIEWS.items():
        connection.register(name, load(read) if name in wanted else schema.empty_table())
    for setting in SETTINGS:
        connection.execute(setting)
    return connection


def run_query(store: Store, sql: str) -> pa.Table:
    """The answer to one SQL query. Raises `QueryError` with DuckDB's message in one line."""
    import duckdb

    with connect(store, sql) as connection:
        try:
            answer = connection.sql(sql)
            if answer is None:
                raise QueryError(f"the query has no answer; expected a SELECT from {_names()}")
            return answer.to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(f"{_one_line(str(error))}; the tables are {_names()}") from error


def to_csv(table: pa.Table) -> str:
    """A header and one line a row; nulls are empty, times ISO 8601, booleans true and false."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.column_names)
    columns = (map(_plain, column.to_pylist()) for column in table.columns)
    writer.writerows(zip(*columns, strict=True))
    return out.getvalue()


def to_json(table: pa.Table) -> str:
    """A JSON list with one object a row; what JSON has no number for is null."""
    names: list[str] = []
    for name in table.column_names:  # two columns of one name would lose one: they get a number
        names.append(f"{name}_{names.count(name) + 1}" if name in names else name)
    rows = _json(table.rename_columns(names).to_pylist())
    return json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_parquet(table: pa.Table, path: Path) -> None:
    """One Parquet file. Raises `QueryError` where it cannot be written."""
    try:
        pq.write_table(table, path, compression="zstd")
    except OSError as error:
        raise QueryError(f"cannot write {path}: {error.strerror or error}") from error


def _names() -> str:
    return ", ".join(VIEWS)


def _one_line(message: str) -> str:
    """DuckDB's message, with the text around its caret in place of the lines that point there."""
    text, _, place = message.partition("\n\nLINE ")
    line, _, pointer = place.partition("\n")
    if "^" in pointer:
        caret = pointer.index("^")
        at = caret - len(line) + len(line := line.partition(": ")[2])
        text += f" near: {line[max(0, at - 30) : at + 20].strip()}"
    return " ".join(text.split())


def _plain(value: Any) -> Any:
    """A value as CSV writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return json.dumps(_json(value), ensure_ascii=False)
    return _json(value)


def _json(value: Any) -> Any:
    """A value as JSON knows it."""
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
