"""Alternative texts: figures in words, made from the rows that they draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.report.charts import Panel, drawn
from orchestrator.report.wording import count

Row = Mapping[str, Any]
ACROSS = {"step": "step", "n": "n =", "x": "", "seconds": ""}  # columns across, and their names
MOST_SERIES = 12


def text_of(panels: Sequence[Panel]) -> str:
    """Return the titles of panels, and where each of their lines begins and ends."""
    return " ".join(map(panel_text, panels))


def panel_text(panel: Panel) -> str:
    """Return the title of a panel and the first and last height of each of its lines."""
    marks = list(_marks(drawn(panel.chart, as_given=True)))
    series: dict[str, list[Row]] = {}
    for kind, rows in marks:
        for row in rows if kind in ("line", "rule") else ():
            if "y" in row and "label" in row and not row.get("gap"):
                series.setdefault(row["label"], []).append(row)
    lines = [_line(name, rows) for name, rows in series.items() if name][:MOST_SERIES]
    if len(series) > MOST_SERIES:
        lines.append(f"and {count(len(series) - MOST_SERIES, 'more line')}")
    points = max((len(rows) for kind, rows in marks if kind == "point"), default=0)
    parts = ["; ".join(lines)] if lines else []
    parts += [count(points, "mark")] if points and not lines else []
    return ". ".join([panel.title, *parts]) + "."


def _line(name: str, rows: Sequence[Row]) -> str:
    across = next((key for key in ACROSS if key in rows[0]), "n")
    first, *_, last = sorted([*rows, *rows], key=lambda row: row[across])
    if first[across] == last[across]:
        at = f" at {ACROSS[across]} {last[across]:g}" if last[across] else ""
        return f"{name} {_number(last['y'])}{at}"
    ends = [f"{_number(x['y'])} at {ACROSS[across]} {x[across]:g}" for x in (first, last)]
    return f"{name} from {' to '.join(ends)}".replace("  ", " ")


def _number(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")


def _marks(chart: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Row]]]:
    """Yield kind and rows of every mark of a Vega-Lite chart."""
    shared, data = chart.get("datasets", {}), chart.get("data", {})
    for layer in [*chart.get("layer", ()), *chart.get("concat", ())]:
        yield from _marks({"datasets": shared, "data": data, **layer})
    if "mark" in chart:
        mark = chart["mark"]
        rows = data.get("values") or shared.get(data.get("name"), [])
        yield (mark if isinstance(mark, str) else mark["type"]), rows
