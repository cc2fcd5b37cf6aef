"""SQL over a store, its output formats, and other programs reading the same files."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic import START, digits

from orchestrator import reference
from orchestrator.query import VIEWS, QueryError, connect, run_query, to_csv, to_json, to_parquet
from orchestrator.speed import speed, speeds
from orchestrator.stats import effects, levels, table1
from orchestrator.store import Store
from orchestrator.tables import SCHEMAS

SPLITS, LAYERS = ("s0", "s1"), (1, 2)
NETWORKS = 2 * 2 * (2 + 5 * 2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("store"))
    digits(splits=SPLITS, layers=LAYERS).write(store)
    return store


def rows(store: Store, sql: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run_query(store, sql).to_pylist()
    return found


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
    "trials": "trials/complete",
    "curves": "curves",
    "classes": "classes",
    "sweeps": "sweeps",
}


@pytest.mark.parametrize("table", FOLDERS)
@pytest.mark.parametrize("read", [by_duckdb, by_polars, by_pandas])
def test_other_programs_read_the_files_as_they_are(store: Store, table: str, read: Any) -> None:
    found = read(f"{store.root}/{FOLDERS[table]}/*.parquet").select(SCHEMAS[table].names)
    expected = store.table(table)
    assert found.num_rows == expected.num_rows > 0

    def canonical(rows: list[dict[str, Any]]) -> list[str]:
        return sorted(json.dumps(row, default=str, sort_keys=True) for row in rows)

    plain = [_plain(row) for row in found.to_pylist()]
    assert canonical(plain) == canonical([_plain(row) for row in expected.to_pylist()])


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Nulls, times and numbers as every program means them."""
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


def test_views_hold_what_the_store_holds(store: Store) -> None:
    for name in FOLDERS:
        columns = ", ".join(f'"{column}"' for column in SCHEMAS[name].names)
        found = run_query(store, f"SELECT {columns} FROM {name} ")
        expected = store.table(name)
        assert sorted(map(str, found.to_pylist())) == sorted(map(str, expected.to_pylist()))
    assert rows(store, "SELECT count(*) AS k FROM trials") == [{"k": NETWORKS}]


def test_views_of_statistics_are_those_of_python(store: Store) -> None:
    members, trials, curves = (store.table(name) for name in ("sweeps", "trials", "curves"))
    each = speed(members, trials, curves)
    wanted = {
        "effects": effects(members, trials),
        "levels": levels(members, trials),
        "table1": table1(members, trials),
        "paper": reference.paper(),
        "paper_curves": reference.tables().curves,
        "speed": each,
        "speeds": speeds(each),
    }
    for name, table in wanted.items():
        assert table.num_rows > 0
        assert rows(store, f"SELECT * FROM {name}") == table.to_pylist()


def test_only_tables_that_the_query_names_are_read(store: Store, monkeypatch: Any) -> None:
    read: list[str] = []
    table = Store.table

    def counting(self: Store, name: str) -> pa.Table:
        read.append(name)
        return table(self, name)

    monkeypatch.setattr(Store, "table", counting)
    assert rows(store, "SELECT 1 AS x") == [{"x": 1}]
    assert read == []
    rows(store, 'SELECT * FROM "Effects"')
    assert sorted(read) == ["sweeps", "trials"]
    with connect(store) as connection:  # without a query, all of them
        found = connection.execute("SELECT count(*) FROM curves").fetchone()
    assert found == (NETWORKS * 10,)


def test_all_views_are_listed_and_described(store: Store) -> None:
    assert {row["name"] for row in rows(store, "SHOW TABLES")} == set(VIEWS)
    assert [row["column_name"] for row in rows(store, "DESCRIBE trials")] == SCHEMAS["trials"].names


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


ODD = pa.table(
    {
        "text": ["a,b", 'say "x"', None],
        "number": [1.5, math.nan, math.inf],
        "yes": [True, False, None],
        "list": [[1, 2], [], None],
        "when": pa.array([START, START, None], pa.timestamp("us", tz="UTC")),
        "sum": pa.array([Decimal(3), Decimal("0.25"), None], pa.decimal128(20, 2)),
    }
)


def test_csv() -> None:
    assert to_csv(ODD).splitlines() == [
        "text,number,yes,list,when,sum",
        '"a,b",1.5,true,"[1, 2]",2026-01-02T03:04:05+00:00,3',
        '"say ""x""",,false,[],2026-01-02T03:04:05+00:00,0.25',
        ",,,,,",
    ]


def test_json() -> None:
    found = json.loads(to_json(ODD))
    assert found[0] == {
        "text": "a,b",
        "number": 1.5,
        "yes": True,
        "list": [1, 2],
        "when": "2026-01-02T03:04:05+00:00",
        "sum": 3,
    }
    assert found[1]["number"] is None
    assert set(found[2].values()) == {None}
    twice = pa.table([[1], [2]], names=["a", "a"])
    assert json.loads(to_json(twice)) == [{"a": 1, "a_2": 2}]
    assert to_csv(twice) == "a,a\n1,2\n"


def test_parquet(store: Store, tmp_path: Path) -> None:
    table = run_query(store, "SELECT * FROM effects")
    to_parquet(table, tmp_path / "effects.parquet")
    assert pq.read_table(tmp_path / "effects.parquet").to_pylist() == table.to_pylist()
    with pytest.raises(QueryError, match="cannot write"):
        to_parquet(table, tmp_path / "none" / "effects.parquet")
