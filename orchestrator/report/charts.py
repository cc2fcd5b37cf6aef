"""The marks of all figures.

A mark is drawn from rows. Their columns hold its whole look: `style` makes these columns, so no
mark needs a scale for colour or shape, and all figures look alike.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np

from orchestrator.stats.measurements import STITCHED, WITHOUT_LAYERS

Row = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]

SERIES = (  # for series that are no arms
    *("#222222", "#08519c", "#00735c", "#e08a1e", "#b2400b"),
    *("#7b4fa3", "#b8336a", "#5f6f52", "#4a98d3", "#9a7d0a"),
)
COLOURS = {  # blue: copied from the own half; orange: from the other; paler: fine-tuned
    "base": "#222222",
    "base_long": "#7b4fa3",
    "pixels": "#7a5c3e",
    "BnB": "#08519c",
    "BnB+": "#4a98d3",
    "AnB": "#b2400b",
    "AnB+": "#e08a1e",
    "random": "#8a8a8a",
    "random+": "#b5b5b5",
    "Bn|B": "#0b7285",
    "An|B": "#8c2d3f",
    "recovery": "#00735c",
    "dissimilar": "#b8336a",
    "random, dissimilar": "#5f6f52",
}
INK = {"#4a98d3": "#2273b0", "#e08a1e": "#a8630c", "#8a8a8a": "#6a6a6a", "#b5b5b5": "#6a6a6a"}
DARK = {  # on a dark page: lighter series, and the greys of the axes
    "#222222": "#e8e8e8",
    "#7b4fa3": "#c39be6",
    "#7a5c3e": "#c9a583",
    "#08519c": "#6aa6ea",
    "#4a98d3": "#9ccdf5",
    "#b2400b": "#f0854f",
    "#e08a1e": "#f7bd6b",
    "#8a8a8a": "#a0a0a0",
    "#b5b5b5": "#c8c8c8",
    "#0b7285": "#4fc3d6",
    "#8c2d3f": "#e58296",
    "#00735c": "#4cc9a8",
    "#b8336a": "#f07fae",
    "#5f6f52": "#b3c4a3",
    "#9a7d0a": "#dcc25a",
    "#2273b0": "#9ccdf5",
    "#a8630c": "#f7bd6b",
    "#6a6a6a": "#b0b0b0",
    "#222": "#e6e6e6",
    "#444": "#c4c8cd",
    "#999": "#6b7178",
    "#e8e8e8": "#2c3138",
}
BY_LAYERS = ("#4a98d3", "#00735c", "#e08a1e", "#b2400b", "#7b4fa3", "#b8336a", "#222222")
WITHOUT_N = BY_LAYERS[-1]  # colour of a series without n, beside those of `layer_colours`
DOTS = [2, 3]
MANY = 500  # rows
_rows: dict[str, str] = {}  # of all charts of this process, as JSON, by the name of the rows
HEIGHT, GAP, ROOM = 280, 14, 92  # pixels: height of a plot, between labels, right of a plot


@dataclass(frozen=True)
class Panel:
    """A chart without a width, and its title."""

    title: str
    chart: alt.LayerChart


@dataclass(frozen=True)
class Frame:
    """The axes that the marks of a panel share: layers or steps across, percent or steps up.

    `across_label` names an axis of neither layers nor steps, which is logarithmic. `across_text`
    and `up_label` are Vega expressions for the labels of the ticks.
    """

    across: tuple[float, float]
    up: tuple[float, float]
    layers: Sequence[int] = ()
    across_label: str = ""
    across_ticks: Sequence[float] = ()
    across_text: str = "datum.label"
    up_ticks: Sequence[float] = ()
    up_label: str = "datum.label"
    across_title: str = "training step"
    bare: bool = False
    """True if coordinates mean nothing: no axes are drawn."""

    def xy(self, x: str, y: str) -> dict[str, Any]:
        """Return the encodings of two columns."""
        if self.bare:
            across, up = (alt.Scale(domain=d, nice=False) for d in (self.across, self.up))
            return {
                "x": alt.X(f"{x}:Q", scale=across, axis=None),
                "y": alt.Y(f"{y}:Q", scale=up, axis=None),
            }
        if self.layers:
            values = self.layers if len(self.layers) <= 16 else alt.Undefined
            name = "datum.value == 0 ? 'base' : datum.label"
            axis = alt.Axis(
                title="layers copied, n", values=values, labelExpr=name, format="d", grid=False
            )
        else:
            name = self.across_label or self.across_title
            values = self.across_ticks or alt.Undefined
            axis = alt.Axis(
                title=name,
                format=",d",
                tickCount=6,
                grid=False,
                values=values,
                labelExpr=self.across_text,
            )
        kind = "log" if self.across_label else "linear"
        up = alt.Axis(values=self.up_ticks or alt.Undefined, labelExpr=self.up_label)
        return {
            "x": alt.X(
                f"{x}:Q", scale=alt.Scale(type=kind, domain=self.across, nice=False), axis=axis
            ),
            "y": alt.Y(f"{y}:Q", title=None, scale=alt.Scale(domain=self.up, nice=False), axis=up),
        }


def layer_frame(layers: Iterable[int], up: tuple[float, float], **options: Any) -> Frame:
    """Return a frame over numbers of layers, with half a layer of room on both sides."""
    ticks = sorted(set(layers)) or [0]
    return Frame((ticks[0] - 0.5, ticks[-1] + 0.5), up, ticks, **options)


def layer_colours(layers: Sequence[int]) -> dict[int, str]:
    """Return a colour for each number of layers, spread over `BY_LAYERS`."""
    return {n: BY_LAYERS[i * len(BY_LAYERS) // len(layers)] for i, n in enumerate(layers)}


def span(values: Iterable[float | None]) -> tuple[float, float]:
    """Return a domain with some room around the values, at least one unit high."""
    known = [value for value in values if value is not None] or [0.0]
    low, high = min(known), max(known)
    room = max(0.05 * (high - low), 0.5)
    return low - room, high + room


def style(arm: str, label: str = "") -> Row:
    """Return the look of a series as columns. Frozen and fine-tuned also differ without colour."""
    tuned, stitched = arm.endswith("+"), arm in STITCHED.values()
    shape = "cross" if tuned else "diamond" if stitched else "circle"
    dash = [5, 2] if tuned else [8, 2, 2, 2] if stitched else [1, 0]
    return {
        "label": label or arm,
        "colour": COLOURS[arm],
        "ink": INK.get(COLOURS[arm], COLOURS[arm]),
        "shape": "square" if arm in WITHOUT_LAYERS else shape,
        "dash": DOTS if arm in WITHOUT_LAYERS else dash,
    }


def points(
    rows: Rows, frame: Frame, hover: Mapping[str, str], *, x: str = "n", count: bool = False
) -> alt.Chart:
    """Draw one marker per row.

    `hover` maps columns to the names that a tooltip shows. With `count`, the column of that name
    sets the size of a marker.
    """
    size = alt.Size("count:Q", scale=alt.Scale(range=[14, 120]), legend=None)
    return (
        _chart(rows)
        .mark_point(filled=True, size=34, opacity=0.3 if count else 0.75)
        .encode(
            **frame.xy(x, "y"),
            color=_literal(alt.Color, "colour"),
            shape=_literal(alt.Shape, "shape"),
            tooltip=[_hover(rows, column, title) for column, title in hover.items()],
            **({"size": size} if count else {}),
        )
    )


def curves(rows: Rows, frame: Frame, *, x: str = "n", along: str = "") -> alt.Chart:
    """Draw one line per series from row to row, in the order of x, or of the column `along`.

    A row with `gap` interrupts it.
    """
    runs: dict[str, int] = Counter()
    joined = []
    for row in rows:
        runs[row["label"]] += bool(row.get("gap"))
        if not row.get("gap"):
            joined.append({**row, "run": f"{row['label']} {runs[row['label']]}"})
    return (
        _chart(joined)
        .mark_line(strokeWidth=2)
        .encode(
            **frame.xy(x, "y"),
            color=_literal(alt.Color, "colour"),
            strokeDash=_literal(alt.StrokeDash, "dash"),
            detail="run:N",
            order=f"{along or x}:Q",
        )
    )


def texts(rows: Rows, frame: Frame, column: str, *, x: str = "n") -> alt.Chart:
    """Draw the value of a column above each row."""
    mark = _chart(rows).mark_text(dy=-8, fontSize=10)
    return mark.encode(**frame.xy(x, "y"), text=f"{column}:N", color=_literal(alt.Color, "ink"))


def image(address: str, width: int, height: int) -> alt.LayerChart:
    """Draw one picture, given by its data URI and its size, as large as a square panel allows."""
    scale = HEIGHT / max(width, height)
    mark = alt.Chart(alt.Data(values=[{"url": address}])).mark_image(
        align="left", baseline="top", width=scale * width, height=scale * height
    )
    return alt.layer(mark.encode(url=alt.Url("url:N"), x=alt.value(0), y=alt.value(0)))


def overlay(rows: Rows, frame: Frame) -> list[alt.Chart]:
    """Draw published results: one pale dashed line per series, or a rule if it has no n."""
    pale = {"opacity": 0.5, "strokeWidth": 1.5, "strokeDash": [4, 3]}
    colour = _literal(alt.Color, "colour")
    along = _chart([row for row in rows if row["n"]]).mark_line(**pale)
    across = _chart([row for row in rows if not row["n"]]).mark_rule(**pale)
    return [
        along.encode(**frame.xy("n", "y"), color=colour, detail="label:N"),
        across.encode(y=frame.xy("n", "y")["y"], color=colour),
    ]


def bands(rows: Rows, frame: Frame) -> list[alt.Chart]:
    """Draw a band from `low` to `high` along a series, or a bar if it has one n; skip nulls."""
    bounded = [row for row in rows if row["low"] is not None]
    encoding = {
        **frame.xy("n", "low"),
        "y2": alt.Y2("high:Q"),
        "color": _literal(alt.Color, "colour"),
        "detail": "label:N",
    }
    layers = {label: {x["n"] for x in bounded if x["label"] == label} for label in _names(bounded)}
    long = [row for row in bounded if len(layers[row["label"]]) > 1]
    short = [row for row in bounded if len(layers[row["label"]]) == 1]
    areas, bars = _chart(long).mark_area(opacity=0.16), _chart(short).mark_rule(strokeWidth=1.5)
    return [areas.encode(**encoding), bars.encode(**encoding)]


def rules(rows: Rows, frame: Frame) -> alt.Chart:
    """Draw a dotted line across at the height of each row."""
    mark = _chart(rows).mark_rule(strokeDash=DOTS, strokeWidth=1.2, opacity=0.9)
    return mark.encode(y=frame.xy("n", "y")["y"], color=_literal(alt.Color, "colour"))


def labels(rows: Rows, frame: Frame, *, x: str = "n", fixed: bool = True) -> alt.Chart:
    """Draw the name of each series right of its last row, or right of the frame if `fixed`."""
    last: dict[str, Mapping[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row[x]):
        last[row["label"]] = row
    unit = (frame.up[1] - frame.up[0]) / HEIGHT
    room = (frame.up[0] + GAP * unit / 2, frame.up[1] - GAP * unit / 2)
    heights = spread([row["y"] for row in last.values()], GAP * unit, room)
    placed = [
        {**row, "x": frame.across[1] if fixed else row[x], "y": height}
        for row, height in zip(last.values(), heights, strict=True)
    ]
    mark = _chart(placed).mark_text(align="left", dx=5, fontSize=12, fontWeight=600)
    return mark.encode(**frame.xy("x", "y"), text="label:N", color=_literal(alt.Color, "ink"))


def spread(heights: Sequence[float], gap: float, within: tuple[float, float]) -> list[float]:
    """Return heights in the same order, at least `gap` apart and within bounds.

    They move as little as possible, by least squares: this is isotonic regression of the heights
    less their distances, clipped to the bounds. If the bounds are too narrow, only the lower holds.
    """
    from scipy.optimize import isotonic_regression

    if not heights:
        return []
    order = np.argsort(heights, kind="stable")
    distances = gap * np.arange(len(heights))
    pooled = isotonic_regression(np.asarray(heights)[order] - distances).x
    low, high = within[0], max(within[0], within[1] - distances[-1])
    moved = np.empty(len(heights))
    moved[order] = np.clip(pooled, low, high) + distances
    return [float(height) for height in moved]


def stack(*marks: alt.Chart) -> alt.LayerChart:
    """Draw marks over each other, the first at the bottom."""
    return alt.layer(*marks)


def choice(chart: alt.LayerChart, column: str, options: Sequence[int], text: str) -> alt.LayerChart:
    """Draw the rows whose `column` equals the reader's choice; the last option is the default."""
    pick = alt.binding_radio if len(options) <= 10 else alt.binding_select
    chosen = alt.param(name="chosen", value=options[-1], bind=pick(options=options, name=text))
    marks = [mark.transform_filter(f"datum.{column} == chosen") for mark in chart.layer]
    return alt.layer(*marks).add_params(chosen)


def _chart(rows: Rows) -> alt.Chart:
    """Return a chart of rows that it knows by name: Altair copies and checks what it holds."""
    text = json.dumps(list(rows), default=float)
    name = f"rows-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    _rows[name] = text
    return alt.Chart(alt.NamedData(name=name))


def drawn(chart: Any, *, as_given: bool = False) -> dict[str, Any]:
    """Return the specification of a chart, with the rows that its marks name.

    Numbers have seven digits, and many rows only the columns that a mark uses; `as_given` leaves
    rows as they are, and the specification unchecked.
    """
    specification: dict[str, Any] = chart.to_dict(validate=not as_given)
    columns: dict[str, set[str]] = {}
    _note_columns(specification, columns)
    datasets = {}
    for name, used in columns.items():
        rows = json.loads(_rows[name])
        if as_given:
            datasets[name] = rows
            continue
        few = len(rows) <= MANY
        datasets[name] = [
            {column: _short(value) for column, value in row.items() if few or column in used}
            for row in rows
        ]
    return specification | ({"datasets": datasets} if datasets else {})


def _short(value: Any) -> Any:
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _note_columns(part: Any, columns: dict[str, set[str]]) -> None:
    """Add the columns that the marks below a part of a specification use, by the rows' name."""
    if isinstance(part, list):
        for item in part:
            _note_columns(item, columns)
    if not isinstance(part, dict):
        return
    if (name := (part.get("data") or {}).get("name")) in _rows:
        text = json.dumps(part)
        fields = re.findall(r'"field": "(\w+)"', text) + re.findall(r"datum\.(\w+)", text)
        columns.setdefault(name, set()).update(fields)
    for item in part.values():
        _note_columns(item, columns)


def _names(rows: Rows) -> list[str]:
    return list(dict.fromkeys(row["label"] for row in rows))


def _literal(channel: Any, column: str) -> Any:
    """Encode a column that holds the look itself: no scale, no legend."""
    return channel(f"{column}:N", scale=None, legend=None)


def _hover(rows: Rows, column: str, title: str) -> alt.Tooltip:
    number = bool(rows) and isinstance(rows[0][column], float)
    options = {"format": ".2f"} if number else {}
    return alt.Tooltip(f"{column}:{'Q' if number else 'N'}", title=title, **options)
