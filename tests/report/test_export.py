"""Tables as files: CSV, Parquet, a database."""

from __future__ import annotations

from pathlib import Path

import duckdb
import polars as pl
import pytest

from orchestrator.errors import LayerwiseError
from orchestrator.report.export import tables_of, write_csv, write_database, write_parquet
from orchestrator.report.query import VIEWS, WITHOUT_STORE
from orchestrator.store.store import Store
from tests.synthetic import digits


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("export"))
    digits(splits=("s0", "s1"), layers=(1,)).write(store)
    digits(name="other", splits=("s0",), layers=(1,)).write(store)
    return store


def test_the_tables_are_of_one_sweep_or_of_all(store: Store) -> None:
    whole, part = tables_of(store), tables_of(store, "other")
    assert set(whole) == set(part) == set(VIEWS) - WITHOUT_STORE
    assert (whole["results"].num_rows, part["results"].num_rows) == (42, 14)
    assert (whole["trials"].num_rows, part["trials"].num_rows) == (28, 14)


def test_files_hold_the_same_rows_and_are_replaced(store: Store, tmp_path: Path) -> None:
    tables = tables_of(store)
    for _ in range(2):
        write_csv(tables, tmp_path)
        write_parquet(tables, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2 * len(tables)
    for name, table in tables.items():
        assert pl.read_parquet(tmp_path / f"{name}.parquet").height == table.num_rows
        assert pl.read_csv(tmp_path / f"{name}.csv").columns == table.column_names


def test_a_database_keeps_what_is_not_ours(store: Store, tmp_path: Path) -> None:
    path, tables = tmp_path / "new" / "all.duckdb", tables_of(store)
    path.parent.mkdir()
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1 AS x")
    for _ in range(2):
        write_database(tables, path)
    with duckdb.connect(str(path)) as connection:
        names = {name for (name,) in connection.sql("SHOW TABLES").fetchall()}
        assert names == {*tables, "mine"}
        assert connection.sql("SELECT count(*) FROM trials").fetchall() == [(28,)]
        (comment,) = connection.sql(
            "SELECT comment FROM duckdb_columns() WHERE table_name = 'cost' "
            "AND column_name = 'networks'"
        ).fetchall()
    assert comment == ("complete networks, each once",)


def test_places_that_cannot_be_written_are_named(store: Store, tmp_path: Path) -> None:
    tables = {"trials": tables_of(store)["trials"]}
    (tmp_path / "file").write_text("no database")
    with pytest.raises(LayerwiseError, match=r"^cannot write .*file: "):
        write_database(tables, tmp_path / "file")
    with pytest.raises(LayerwiseError, match=r"^cannot write .*trials\.csv: "):
        write_csv(tables, tmp_path / "file")
