"""SQL over a store, and other programs reading the same files."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from orchestrator.reference import published as reference
from orchestrator.report.query import (
    VIEWS,
    QueryError,
    connect,
    matching,
    run_query,
    values_of,
)
from orchestrator.store.compaction import compact
from orchestrator.store.schemas import SCHEMAS
from orchestrator.store.store import Store
from tests.synthetic import blank, digits

SPLITS, LAYERS = ("s0", "s1"), (1, 2)
NETWORKS = 2 * 2 * (2 + 5 * 2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("store"))
    sweep = digits(splits=SPLITS, layers=LAYERS)
    sweep.trials = [row | {"val_mean10": row["top1"] - 0.125} for row in sweep.trials]
    sweep.write(store)
    row = {"id": "00000000000000aa", "trial": sweep.trials[-1]["id"], "measure": "weights"}
    values = {"outcome": "complete", "quantity": "distance", "layer": 1, "value": 0.5}
    store.write_derived("measurements", [blank("measurements") | row | values])
    compact(store)
    return store


def rows(store: Store, sql: str) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = run_query(store, sql).to_pylist()
    return answer


def by_duckdb(files: str) -> pa.Table:
    return duckdb.sql(f"SELECT * FROM read_parquet('{files}')").to_arrow_table()


def by_polars(files: str) -> pa.Table:
    return pl.read_parquet(files).to_arrow()


def by_pandas(files: str) -> pa.Table:
    parts = [pd.read_parquet(path) for path in sorted(Path(files).parent.glob("*.parquet"))]
    return pa.concat_tables(
        [pa.Table.from_pandas(part) for part in parts], promote_options="permissive"
    )


FOLDERS = {
    "trials": "trials",
    "curves": "curves",
    "classes": "classes",
    "sweeps": "sweeps",
    "measurements": "measurements",
}


@pytest.mark.parametrize("table", FOLDERS)
@pytest.mark.parametrize("read", [by_duckdb, by_polars, by_pandas])
def test_other_programs_read_the_files_as_they_are(store: Store, table: str, read: Any) -> None:
    answer = read(f"{store.root}/{FOLDERS[table]}/*.parquet").select(SCHEMAS[table].names)
    expected = store.table(table)
    assert answer.num_rows == expected.num_rows > 0

    def canonical(rows: list[dict[str, Any]]) -> list[str]:
        return sorted(json.dumps(row, default=str, sort_keys=True) for row in rows)

    plain = [_plain(row) for row in answer.to_pylist()]
    assert canonical(plain) == canonical([_plain(row) for row in expected.to_pylist()])


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with one form of nulls, times and numbers for all programs."""
    return {
        key: None
        if value is None or (isinstance(value, float) and math.isnan(value))
        else value.astimezone(UTC).isoformat()
        if isinstance(value, datetime)
        else float(value)
        if isinstance(value, int | float)
        else value
        for key, value in row.items()
    }


def test_views_equal_the_tables_of_the_store(store: Store) -> None:
    for name in FOLDERS:
        columns = ", ".join(f'"{column}"' for column in SCHEMAS[name].names)
        answer = run_query(store, f"SELECT {columns} FROM {name} ")
        expected = store.table(name)
        assert sorted(map(str, answer.to_pylist())) == sorted(map(str, expected.to_pylist()))
    assert rows(store, "SELECT count(*) AS k FROM trials") == [{"k": NETWORKS}]


def test_views_of_statistics_equal_those_of_python(store: Store) -> None:
    stats = digits(splits=SPLITS, layers=LAYERS).statistics()
    wanted = {
        "effects": stats.effects,
        "levels": stats.levels,
        "table1": stats.table1,
        "paper": reference.paper(),
        "paper_curves": reference.tables().curves,
        "speed": stats.speed,
        "speeds": stats.speeds,
    }
    for name, table in wanted.items():
        assert table.num_rows > 0
        assert rows(store, f"SELECT * FROM {name}") == table.to_pylist()


def test_results_have_a_row_per_trial_and_sweep_with_the_labels_of_the_sweep(
    tmp_path: Path,
) -> None:
    """Trials of no sweep, and members that are not trained yet, are not among them."""
    store, first = Store(tmp_path), digits(splits=("s0",), layers=(1,))
    first.write(store)
    members = store.table("sweeps").to_pylist()
    missing = members[0] | {"id": "missing"}
    renamed = [row | {"sweep": "other", "split": "natural"} for row in members[1:]]
    store.write_sweep("other", [*renamed, missing], "")
    counted = "SELECT sweep, split, first_sweep, count(*) AS n, count(top1) AS top1 FROM results"
    assert rows(store, f"{counted} GROUP BY ALL ORDER BY ALL") == [
        {"sweep": sweep, "split": split, "first_sweep": "demo", "n": n, "top1": n}
        for sweep, split, n in (
            ("demo", "s0", len(members)),
            ("other", "natural", len(members) - 1),
        )
    ]
    store.delete(store.sweep_path("demo"))
    assert rows(store, "SELECT count(*) AS n FROM results") == [{"n": len(members) - 1}]
    assert rows(store, "SELECT count(*) AS n FROM trials") == [{"n": len(members)}]


def test_only_tables_that_the_query_names_are_read(store: Store, monkeypatch: Any) -> None:
    read: list[str] = []
    table = Store.table

    def counting(self: Store, name: str, *columns: Any) -> pa.Table:
        read.append(name)
        return table(self, name, *columns)

    monkeypatch.setattr(Store, "table", counting)
    assert rows(store, "SELECT 1 AS x") == [{"x": 1}]
    assert read == []
    rows(store, 'SELECT * FROM "Effects"')
    assert sorted(read) == ["sweeps", "trials"]
    with connect(store) as connection:  # without a query, all of them
        count = connection.execute("SELECT count(*) FROM curves").fetchone()
    assert count == (NETWORKS * 10,)


def test_all_views_are_listed_and_described(store: Store) -> None:
    assert {row["name"] for row in rows(store, "SHOW TABLES")} == set(VIEWS)
    assert [row["column_name"] for row in rows(store, "DESCRIBE trials")] == SCHEMAS["trials"].names


def test_a_view_can_be_read_by_another_metric(store: Store) -> None:
    """The plain name keeps to the primary metric, so that old queries mix nothing."""
    (plain,) = rows(store, "SELECT DISTINCT metric FROM effects")
    assert plain == {"metric": "top1"}
    assert rows(store, "FROM effects ORDER BY ALL") == rows(
        store, "FROM effects('top1') ORDER BY ALL"
    )
    by_mean = "SELECT value FROM levels('val_mean10') WHERE arm = 'base'"
    (mean,) = rows(store, by_mean)
    (top1,) = rows(store, "SELECT value FROM levels WHERE arm = 'base'")
    assert mean["value"] == pytest.approx(top1["value"] - 0.125)
    both = "SELECT DISTINCT a.metric, b.metric AS other FROM table1 a, Table1 ('val_mean10') b"
    assert rows(store, both) == [{"metric": "top1", "other": "val_mean10"}]
    assert rows(store, "FROM effects('top1_at_best')") == []  # no network of this store has it
    with pytest.raises(QueryError, match="no metric top2; expected top1, balanced_accuracy"):
        run_query(store, "FROM effects('top2')")


def test_a_syntax_error_shows_where(store: Store) -> None:
    with pytest.raises(QueryError, match=r'at or near "," near: SELECT order, top1 FROM trials; '):
        run_query(store, "SELECT order, top1 FROM trials")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT top2 FROM trials", '"top2" not found'),
        ("SELECT * FROM trails", "trails does not exist"),
        ("SELECT 'x'::int", "Could not convert"),
        ("", "no answer"),
        ("SELECT * FROM 'x.parquet'", "disabled"),
        ("COPY trials TO 'x.csv'", "disabled"),
        ("INSTALL httpfs", "disabled"),
        ("SET enable_external_access = true", "locked"),
        ("SELECT * FROM store", "store does not exist"),  # a Python variable is no table
    ],
)
def test_a_bad_query_is_one_line_with_the_tables(store: Store, sql: str, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        run_query(store, sql)
    text = str(caught.value)
    assert message in text
    assert "trials, curves, classes, sweeps, effects" in text
    assert "\n" not in text


LABELS = pa.table(
    {"id": ["a", "b", "c"], "treatment": ["base", "transfer", "transfer"], "n": [0, 1, 3]}
)


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ("treatment = 'transfer' AND n = 3", "c"),
        ("treatment='transfer' and n=3", "c"),
        ("n < 1 OR n > 1", "ac"),
        ("treatment LIKE 'trans%' -- and what follows is a comment", "bc"),
        ("n = (SELECT max(n) FROM labels)", "c"),
        ("false", ""),
        (" OR ".join(["n = 3"] * 5000), "c"),
        (f"id = '{'x' * 10**6}'", ""),
    ],
)
def test_rows_that_match_a_condition(condition: str, ids: str) -> None:
    assert matching(LABELS, condition) == list(ids)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("treatment = transfer", 'column "transfer" not found'),
        ('treatment = "transfer"', 'column "transfer" not found'),
        ("layer = 3", 'column "layer" not found'),
        ("n = 'three'", "Could not convert string 'three'"),
        ("treatment", "Could not convert string 'base' to BOOL"),
        ("", "without selection list"),
        ("n =", "syntax error"),
        ("'", "unterminated"),
        ("n = 3 /*", "unterminated"),
        ("n = ?", "prepared parameter"),
        ("count(*) > 1", "aggregates"),
        ("\udcff", "surrogate"),
    ],
)
def test_a_bad_condition_is_one_line_with_the_columns(condition: str, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        matching(LABELS, condition)
    text = str(caught.value)
    assert message in text
    assert text.startswith("expected an SQL condition, such as treatment = 'transfer' AND n = 3, ")
    assert "in single quotes, on the columns id, treatment, n; " in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "condition",
    [
        "EXISTS (FROM read_csv('x.csv'))",
        "EXISTS (FROM 'x.csv')",
        "EXISTS (FROM 'https://example.com/x.csv')",
        "EXISTS (FROM read_text('x.csv'))",
        "EXISTS (FROM glob('*'))",
        "EXISTS (FROM query('COPY labels TO ''y.csv'''))",
        "EXISTS (FROM enable_logging('QueryLog', storage = 'file', storage_path = 'y'))",
        "EXISTS (FROM LABELS_OF_PYTHON)",
        "EXISTS (COPY labels TO 'y.csv')",
        "EXISTS (DELETE FROM labels RETURNING id)",
        "EXISTS (WITH x AS (DELETE FROM labels RETURNING id) FROM x)",
        "true; DROP VIEW labels",
        "true; COPY labels TO 'y.csv'",
        "true; ATTACH 'y.db'",
        "true; SET enable_external_access = true",
        "true; SELECT 1",
        "1=1) OR (1=1",
        "1=1) --",
        "true FROM labels",
        "true WHERE false",
        "true ORDER BY n LIMIT 1",
        "true UNION SELECT true",
        "true, false",
        "COPY labels TO 'y.csv'",
        "ATTACH 'y.db'",
        "(" * 5000 + "true" + ")" * 5000,
        "NOT " * 100_000 + "true",
    ],
)
def test_a_condition_reads_no_file_and_changes_nothing(
    condition: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused, and so is whatever would follow a condition in a query."""
    monkeypatch.chdir(tmp_path)
    Path("x.csv").write_text("id\na\n")
    with pytest.raises(QueryError):
        matching(LABELS, condition)
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_values_of_the_columns_that_a_condition_names() -> None:
    assert values_of(LABELS, "N = 9") == values_of(LABELS, "n = 9 AND 1 = 1")
    many = pa.table({"id": [str(number) for number in range(20)], "n": [None] * 20})
    assert values_of(many, "id = 'x' OR n = 2").endswith(" and 8 more; n: null")
