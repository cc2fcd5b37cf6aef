"""`Table`: a table of results as Arrow, pandas, Polars or DuckDB, and as a chart."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

from orchestrator.errors import LayerwiseError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from orchestrator.report.figure import Figure
    from orchestrator.report.query import Relation

SHOWN = 20  # rows that a notebook shows


class Table:
    """A table, read when its content is first needed.

    Polars, pandas and DuckDB also read it as it is, by Arrow's interface: `pl.DataFrame(table)`.
    """

    def __init__(self, name: str, load: Callable[[], pa.Table]):
        self.name, self._load = name, load

    @cached_property
    def _table(self) -> pa.Table:
        return self._load()

    def arrow(self) -> pa.Table:
        """Return the table of pyarrow."""
        return self._table

    def pandas(self) -> pd.DataFrame:
        """Return the table as a DataFrame of pandas."""
        _require("pandas")
        frame: pd.DataFrame = self._table.to_pandas()
        return frame

    def polars(self) -> pl.DataFrame:
        """Return the table as a DataFrame of Polars."""
        _require("polars")
        import polars as pl

        frame = pl.from_arrow(self._table)
        assert isinstance(frame, pl.DataFrame)
        return frame

    def duckdb(self) -> Relation:
        """Return the table as a relation of DuckDB."""
        from orchestrator.report.query import relation

        return relation(self._table)

    @property
    def columns(self) -> dict[str, str]:
        """Meaning of each column by its name; empty where none is recorded."""
        return {
            field.name: (field.metadata or {}).get(b"description", b"").decode()
            for field in self._table.schema
        }

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        stream: object = self._table.__arrow_c_stream__(requested_schema)
        return stream

    def __repr__(self) -> str:
        return f"<Table {self.name}: {len(self)} rows of {', '.join(self._table.column_names)}>"

    def _repr_html_(self) -> str:
        names, part = self._table.column_names, self._table.slice(0, SHOWN)
        columns = [column.to_pylist() for column in part.columns]
        titles = {name: escape(text, quote=True) for name, text in self.columns.items()}
        head = "".join(f'<th title="{titles[name]}">{escape(name)}</th>' for name in names)
        body = "".join(
            f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>"
            for row in zip(*columns, strict=True)
        )
        more = f"<p>{len(self):,} rows, {SHOWN} are shown</p>" if len(self) > SHOWN else ""
        return (
            f'<div style="overflow-x:auto"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>{more}"
        )


class DrawnTable(Table):
    """A table that can be drawn: call it for its chart, `results.effects()`."""

    def __init__(self, name: str, load: Callable[[], pa.Table], draw: Callable[..., Figure]):
        super().__init__(name, load)
        self._draw = draw

    def __call__(self, trial: str | None = None) -> Figure:
        """Return the chart of the table. Only curves can be drawn of one `trial`, by name or id."""
        return self._draw() if trial is None else self._draw(trial)


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return escape(text if len(text) <= 80 else f"{text[:79]}…")


def _require(package: str) -> None:
    """Raise `LayerwiseError` unless an optional package is installed."""
    if importlib.util.find_spec(package) is None:
        raise LayerwiseError(f"{package} is not installed: pip install {package}")
