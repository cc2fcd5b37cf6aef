"""Output formats of tables: CSV, JSON and Parquet."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.errors import LayerwiseError
from orchestrator.report.answers import to_csv, to_json, to_parquet
from tests.synthetic import START

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
    rows = json.loads(to_json(ODD))
    assert rows[0] == {
        "text": "a,b",
        "number": 1.5,
        "yes": True,
        "list": [1, 2],
        "when": "2026-01-02T03:04:05+00:00",
        "sum": 3,
    }
    assert rows[1]["number"] is None
    assert set(rows[2].values()) == {None}
    twice = pa.table([[1], [2]], names=["a", "a"])
    assert json.loads(to_json(twice)) == [{"a": 1, "a_2": 2}]
    assert to_csv(twice) == "a,a\n1,2\n"


def test_parquet(tmp_path: Path) -> None:
    table = ODD.drop_columns("number")  # NaN equals nothing
    to_parquet(table, tmp_path / "odd.parquet")
    assert pq.read_table(tmp_path / "odd.parquet").to_pylist() == table.to_pylist()
    with pytest.raises(LayerwiseError, match="cannot write"):
        to_parquet(table, tmp_path / "odd.parquet" / "x.parquet")


def test_parquet_of_what_parquet_has_no_type_for(tmp_path: Path) -> None:
    sql = "SELECT INTERVAL '1 month 2 days 1500 ms' AS x UNION ALL SELECT NULL ORDER BY x"
    to_parquet(duckdb.sql(sql).to_arrow_table(), tmp_path / "x.parquet")
    values = pq.read_table(tmp_path / "x.parquet")["x"].to_pylist()
    assert values == ["1 mon 2 d 1.5 s", None]
