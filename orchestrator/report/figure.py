"""`Figure`: panels as an object that a notebook shows and that writes itself to a file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, get_args

from orchestrator.errors import LayerwiseError
from orchestrator.report import rendering
from orchestrator.report.charts import Panel
from orchestrator.report.rendering import Format
from trainers import whole_file

COLUMNS, WIDTH = 2, 420  # panels per row, and pixels per panel


class Figure:
    """One or more charts. A notebook shows it; `save` writes it; `chart` is its Altair chart."""

    def __init__(
        self, panels: Sequence[Panel], text: str, *, columns: int = COLUMNS, width: int = WIDTH
    ):
        """Make a figure. `text` says in words what it shows, for readers who do not see it."""
        self.panels, self.text = tuple(panels), text
        self.columns, self.width = min(columns, max(1, len(self.panels))), width

    @property
    def chart(self) -> rendering.Chart:
        """The figure as an Altair chart, which shows values under the mouse."""
        return rendering.together(self.panels, columns=self.columns, width=self.width)

    def save(self, path: str | Path) -> Path:
        """Write the figure as PNG, SVG, PDF or, for Vega-Lite, JSON, by the ending of the path.

        Raises `LayerwiseError` for another ending, and for a file that cannot be written.
        """
        to = Path(path)
        kind: Any = to.suffix.removeprefix(".").lower()
        if kind == "json":
            data = self.chart.to_json().encode()
        elif kind in get_args(Format):
            data = self.data(kind)
        else:
            raise LayerwiseError(f"{to}: expected a name that ends in .png, .svg, .pdf or .json")
        try:
            whole_file.write(to, data)
        except OSError as error:
            raise LayerwiseError(f"cannot write {to}: {error.strerror}") from error
        return to

    def data(self, kind: Format) -> bytes:
        """Return the content of such a file."""
        return rendering.picture(self.panels, kind, columns=self.columns, width=self.width)

    def _repr_html_(self) -> str:
        label = escape(self.text, quote=True)
        svg = self.data("svg").decode()
        return f'<figure role="img" aria-label="{label}" style="margin:0">{svg}</figure>'

    def _repr_png_(self) -> bytes:
        return self.data("png")

    def __repr__(self) -> str:
        return f"<Figure: {self.text}>"
