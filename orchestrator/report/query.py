"""SQL over a store, by DuckDB, which sees Arrow tables and no file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from orchestrator.errors import LayerwiseError
from orchestrator.reference import published as reference
from orchestrator.report.answers import plain
from orchestrator.report.wording import left_out
from orchestrator.stats.class_effects import CLASS_EFFECTS
from orchestrator.stats.comparisons import COMPARISONS
from orchestrator.stats.decomposition import DECOMPOSITION
from orchestrator.stats.effects import EFFECTS, LEVELS, TABLE1
from orchestrator.stats.learning_speed import SPEED, SPEEDS
from orchestrator.stats.measurements import METRICS
from orchestrator.stats.outcomes import COST, FAILURES, cost, failures
from orchestrator.stats.overtaking import OVERTAKING
from orchestrator.stats.predictions import PREDICTIONS
from orchestrator.stats.search_gain import HELD_OUT
from orchestrator.stats.statistics import Statistics
from orchestrator.store.row_files import TABLES
from orchestrator.store.schemas import CURVES, OF_MEMBERS, SCHEMAS
from orchestrator.store.store import Store

if TYPE_CHECKING:
    import duckdb

    Relation = duckdb.DuckDBPyRelation

SETTINGS = (  # the last one locks the others
    "SET autoinstall_known_extensions = false",
    "SET python_enable_replacements = false",  # else a name in SQL may mean a Python variable
    "SET TimeZone = 'UTC'",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


class QueryError(LayerwiseError):
    """A query that DuckDB refused."""


VIEWS: dict[str, tuple[pa.Schema, Callable[[Statistics], pa.Table]]] = {
    "results": (OF_MEMBERS, lambda statistics: statistics.results),
    "trials": (SCHEMAS["trials"], lambda statistics: statistics.read("trials")),
    "curves": (SCHEMAS["curves"], lambda statistics: statistics.read("curves")),
    "classes": (SCHEMAS["classes"], lambda statistics: statistics.read("classes")),
    "sweeps": (SCHEMAS["sweeps"], lambda statistics: statistics.read("sweeps")),
    "effects": (EFFECTS, lambda statistics: statistics.effects),
    "levels": (LEVELS, lambda statistics: statistics.levels),
    "decomposition": (DECOMPOSITION, lambda statistics: statistics.decomposition),
    "class_effects": (CLASS_EFFECTS, lambda statistics: statistics.class_effects),
    "failures": (FAILURES, lambda statistics: failures(statistics.results)),
    "cost": (COST, lambda statistics: cost(statistics.results)),
    "table1": (TABLE1, lambda statistics: statistics.table1),
    "speed": (SPEED, lambda statistics: statistics.speed),
    "speeds": (SPEEDS, lambda statistics: statistics.speeds),
    "overtaking": (OVERTAKING, lambda statistics: statistics.overtaking),
    "studies": (SCHEMAS["studies"], lambda statistics: statistics.read("studies")),
    "measurements": (
        SCHEMAS["measurements"],
        lambda statistics: statistics.read("measurements"),
    ),
    "extractions": (
        SCHEMAS["extractions"],
        lambda statistics: statistics.read("extractions"),
    ),
    "comparisons": (COMPARISONS, lambda statistics: statistics.comparisons),
    "predictions": (PREDICTIONS, lambda statistics: statistics.predictions),
    "held_out": (HELD_OUT, lambda statistics: statistics.held_out),
    "paper": (reference.PAPER, lambda _: reference.paper()),
    "paper_curves": (CURVES, lambda _: reference.tables().curves),
}
COMPARED = {
    "effects",
    "levels",
    "decomposition",
    "class_effects",
    "table1",
    "speed",
    "speeds",
    "overtaking",
    "held_out",
    "comparisons",
    "predictions",
}  # not rows as they are
SCANNED = set(TABLES)  # DuckDB reads the columns that a query needs
BY_METRIC = ("effects", "levels", "table1")  # also read as `effects('val_mean10')`
WITHOUT_STORE = {"paper", "paper_curves"}  # published results, which come with the program


def named(sql: str) -> set[str]:
    """Return the views that a query may read: those whose names occur in it."""
    return {name for name in VIEWS if re.search(rf"\b{name}\b", sql, re.IGNORECASE)}


def needs_store(sql: str) -> bool:
    """Return whether a query may read more than the published results."""
    return not named(sql) or bool(named(sql) - WITHOUT_STORE)


def connect(
    store: Store, sql: str | None = None, note: Callable[[str], object] = lambda _: None
) -> duckdb.DuckDBPyConnection:
    """Return a connection with every view of `VIEWS`; those that `sql` does not name are empty.

    `note` receives a sentence on trials that the numbers of these views leave out.
    """
    statistics = Statistics.of_store(store)
    wanted = set(VIEWS) if sql is None else named(sql)
    tables: dict[str, Any] = {
        name: schema.empty_table()
        if name not in wanted
        else store.trials.scan(name)
        if name in SCANNED
        else load(statistics)
        for name, (schema, load) in VIEWS.items()
    }
    of_metrics = {
        name: pa.concat_tables(VIEWS[name][1](statistics.by(metric)) for metric in METRICS)
        for name in BY_METRIC
        if calls(sql, name)
    }
    if wanted & COMPARED:
        gaps = left_out(statistics, curves=bool(wanted & {"speed", "speeds"}))
        if gaps:
            note(gaps)
    return _locked(tables, of_metrics)


def calls(sql: str | None, name: str) -> bool:
    """Return whether a query reads a view by a metric that it names: `effects('val_mean10')`."""
    return sql is None or bool(re.search(rf"\b{name}\s*\(", sql, re.IGNORECASE))


def _locked(
    tables: Mapping[str, Any], of_metrics: Mapping[str, pa.Table] = {}
) -> duckdb.DuckDBPyConnection:
    """Return a connection that sees these tables and nothing else: no file, network or setting.

    Each of `of_metrics` holds a view by all metrics. Its name, called with a metric, is the view by
    that metric; the plain name has the primary metric alone, so that no query mixes metrics.
    """
    import duckdb

    connection = duckdb.connect(":memory:")
    for name, table in tables.items():
        connection.register(name, table)
    listed = ", ".join(f"'{metric}'" for metric in METRICS)
    for name, table in of_metrics.items():
        connection.register(f"{name}_by_metric", table)
        connection.execute(
            f"CREATE MACRO {name}(wanted) AS TABLE SELECT * FROM {name}_by_metric "
            f"WHERE metric = CASE WHEN wanted IN ({listed}) THEN wanted "
            f"ELSE error('no metric ' || wanted || '; expected {', '.join(METRICS)}') END"
        )
    for setting in SETTINGS:
        connection.execute(setting)
    return connection


def run_query(store: Store, sql: str, note: Callable[[str], object] = lambda _: None) -> pa.Table:
    """Return the answer to one SQL query. Raises `QueryError` with DuckDB's message in one line.

    See `connect` for `note`.
    """
    import duckdb

    for last in (False, False, True):
        there = store.names("trials")
        with connect(store, sql, note) as connection:
            try:
                return _interruptibly(connection, lambda: _answer(connection, sql))
            except (duckdb.Error, OSError) as error:
                if not last and store.names("trials") != there:  # a compaction moved the rows
                    continue
                raise QueryError(f"{_one_line(str(error))}; the tables are {_names()}") from error
    raise AssertionError("the last attempt returns or raises")


def _answer(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    answer = connection.sql(sql)
    if answer is None:
        raise QueryError(f"the query has no answer; expected a SELECT from {_names()}")
    return answer.to_arrow_table()


def _interruptibly(connection: duckdb.DuckDBPyConnection, work: Callable[[], pa.Table]) -> pa.Table:
    """Return what the work returns. A signal ends it: DuckDB alone would finish its query first."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            return future.result()
        except BaseException:
            connection.interrupt()
            raise


def relation(table: pa.Table) -> Relation:
    """Return a table as a relation of DuckDB, in a connection of its own."""
    import duckdb

    return duckdb.connect(":memory:").from_arrow(table)


def matching(labels: pa.Table, condition: str) -> list[str]:
    """Return the ids of the rows of `labels` for which an SQL condition is true.

    The condition is one expression, such as `treatment = 'transfer' AND n = 3`. Raises `QueryError`
    with DuckDB's message and the columns in one line.
    """
    import duckdb

    with _locked({"labels": labels}) as connection:
        try:
            rows = connection.view("labels").filter(condition).project("id").fetchall()
        except duckdb.Error as error:
            raise QueryError(
                "expected an SQL condition, such as treatment = 'transfer' AND n = 3, with strings "
                f"in single quotes, on the columns {', '.join(labels.column_names)}; "
                f"{_one_line(str(error))}"
            ) from error
    return [id for (id,) in rows]


def values_of(labels: pa.Table, condition: str, most: int = 12) -> str:
    """Return the values of the columns that a condition names, `n: 0, 1, 2; frozen: true`.

    Without such a column, those of `treatment` and `n`.
    """
    names = [name for name in labels.column_names if re.search(rf"\b{name}\b", condition, re.I)]
    texts = []
    for name in names or ["treatment", "n"]:
        values = sorted({value for value in labels[name].to_pylist() if value is not None})
        some = ", ".join(str(plain(value)) for value in values[:most])
        more = f" and {len(values) - most:,} more" if len(values) > most else ""
        texts.append(f"{name}: {some or 'null'}{more}")
    return "; ".join(texts)


def _names() -> str:
    return ", ".join(VIEWS)


def _one_line(message: str) -> str:
    """Return DuckDB's message in one line, with the part of the query to which its caret points."""
    text, _, place = message.partition("\n\nLINE ")
    line, _, pointer = place.partition("\n")
    if "^" in pointer:
        caret = pointer.index("^")
        at = caret - len(line) + len(line := line.partition(": ")[2])
        text += f" near: {line[max(0, at - 30) : at + 20].strip()}"
    return " ".join(text.split())
