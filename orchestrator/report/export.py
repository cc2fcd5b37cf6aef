"""Tables and views as files for other programs: CSV, Parquet, a DuckDB file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from orchestrator.errors import LayerwiseError
from orchestrator.report.answers import to_csv, to_parquet
from orchestrator.report.query import VIEWS, WITHOUT_STORE
from orchestrator.stats.statistics import Statistics
from orchestrator.store.store import Store
from trainers import whole_file

Write = Callable[[pa.Table, Path], None]


def tables_of(store: Store, sweep: str | None = None) -> dict[str, pa.Table]:
    """Return every table and view by name, of one sweep or of the whole store.

    `studies` is of the whole store: a search may serve several sweeps.
    """
    whole = Statistics.of_store(store)
    statistics = whole if sweep is None else Statistics.of_sweep(store, sweep)
    tables = {}
    for name, (_, load) in VIEWS.items():
        if name in WITHOUT_STORE:
            continue
        of_members = name == "trials" and sweep is not None
        source = whole if name == "studies" else statistics
        tables[name] = statistics.trials if of_members else load(source)
    return tables


def write_csv(tables: dict[str, pa.Table], folder: Path) -> None:
    """Write `<table>.csv` for each table. Files of an earlier export are replaced."""
    _write(tables, folder, "csv", lambda table, path: whole_file.write(path, _csv(table)))


def write_parquet(tables: dict[str, pa.Table], folder: Path) -> None:
    """Write `<table>.parquet` for each table. Files of an earlier export are replaced."""
    _write(tables, folder, "parquet", to_parquet)


def write_database(tables: dict[str, pa.Table], path: Path) -> None:
    """Write the tables into a DuckDB file, with a comment for each column.

    A file that exists keeps its other tables. All tables are replaced together, or none. Raises
    `LayerwiseError` for a file that is no database, or that another program uses.
    """
    import duckdb

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with duckdb.connect(str(path)) as connection:
            connection.execute("BEGIN")
            for name, table in tables.items():
                connection.register("exported", table)
                connection.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM exported")
                connection.unregister("exported")
                for field in table.schema:
                    text = (field.metadata or {}).get(b"description", b"").decode()
                    quoted = text.replace("'", "''")
                    connection.execute(f"COMMENT ON COLUMN {name}.\"{field.name}\" IS '{quoted}'")
            connection.execute("COMMIT")
    except duckdb.Error as error:
        raise LayerwiseError(f"cannot write {path}: {' '.join(str(error).split())}") from error


def _write(tables: dict[str, pa.Table], folder: Path, ending: str, write: Write) -> None:
    for name, table in tables.items():
        path = folder / f"{name}.{ending}"
        try:
            write(table, path)
        except OSError as error:
            raise LayerwiseError(f"cannot write {path}: {error.strerror or error}") from error


def _csv(table: pa.Table) -> bytes:
    return to_csv(table).encode()
