"""The marks that the figures are made of, and how they become HTML and PNG. Only file with Altair.

A mark is drawn from rows whose columns say all of its look: `style` makes these columns, so no mark
needs a scale for colour or shape, and all figures look alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from orchestrator.comparisons import BASES

Row = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]

COLOURS = {  # blue from the own half, orange from the other; the paler of two is fine-tuned
    "base": "#222222",
    "base_long": "#7b4fa3",
    "BnB": "#08519c",
    "BnB+": "#4a98d3",
    "AnB": "#b2400b",
    "AnB+": "#e08a1e",
    "random": "#8a8a8a",
    "random+": "#b5b5b5",
    "recovery": "#00735c",
}
INK = {"#4a98d3": "#2273b0", "#e08a1e": "#a8630c", "#8a8a8a": "#6a6a6a", "#b5b5b5": "#6a6a6a"}
FONT = "Helvetica Neue, Arial, Liberation Sans, sans-serif"
DOTS = [2, 3]
HEIGHT, GAP, ROOM = 280, 14, 92  # pixels: of a plot, between labels, for labels on the right


@dataclass(frozen=True)
class Panel:
    """A chart without a width, and what is written above it."""

    title: str
    chart: alt.LayerChart


@dataclass(frozen=True)
class Frame:
    """The axes that the marks of a panel share: layers or steps across, percent or steps up."""

    across: tuple[float, float]
    up: tuple[float, float]
    layers: Sequence[int] = ()
    across_label: str = ""  # of an axis that is neither layers nor steps; it is logarithmic
    up_ticks: Sequence[float] = ()
    up_label: str = "datum.label"  # a Vega expression
    across_title: str = "training step"

    def xy(self, x: str, y: str) -> dict[str, Any]:
        """Encodings of two columns."""
        if self.layers:
            values = self.layers if len(self.layers) <= 16 else alt.Undefined
            name = "datum.value == 0 ? 'base' : datum.label"
            axis = alt.Axis(
                title="layers copied, n", values=values, labelExpr=name, format="d", grid=False
            )
        else:
            name = self.across_label or self.across_title
            axis = alt.Axis(title=name, format=",d", tickCount=6, grid=False)
        kind = "log" if self.across_label else "linear"
        up = alt.Axis(values=self.up_ticks or alt.Undefined, labelExpr=self.up_label)
        return {
            "x": alt.X(
                f"{x}:Q", scale=alt.Scale(type=kind, domain=self.across, nice=False), axis=axis
            ),
            "y": alt.Y(f"{y}:Q", title=None, scale=alt.Scale(domain=self.up, nice=False), axis=up),
        }


def layer_frame(layers: Iterable[int], up: tuple[float, float], **options: Any) -> Frame:
    """A frame over numbers of layers, with half a layer of room on both sides."""
    found = sorted(set(layers)) or [0]
    return Frame((found[0] - 0.5, found[-1] + 0.5), up, found, **options)


def span(values: Iterable[float | None]) -> tuple[float, float]:
    """A domain with some room around the values; at least one unit high."""
    known = [value for value in values if value is not None] or [0.0]
    low, high = min(known), max(known)
    room = max(0.05 * (high - low), 0.5)
    return low - room, high + room


def style(arm: str, label: str = "") -> Row:
    """The look of a series, as columns: frozen and fine-tuned differ in print, too."""
    tuned = arm.endswith("+")
    return {
        "label": label or arm,
        "colour": COLOURS[arm],
        "ink": INK.get(COLOURS[arm], COLOURS[arm]),
        "shape": "square" if arm in BASES else "cross" if tuned else "circle",
        "dash": DOTS if arm in BASES else [5, 2] if tuned else [1, 0],
    }


def points(
    rows: Rows, frame: Frame, hover: Mapping[str, str], *, x: str = "n", count: bool = False
) -> alt.Chart:
    """One marker a row. `hover` maps columns to names; `count` draws the column of that name."""
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


def curves(rows: Rows, frame: Frame, *, x: str = "n") -> alt.Chart:
    """One line a series, from row to row; a row with `gap` interrupts it."""
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
        )
    )


def overlay(rows: Rows, frame: Frame) -> list[alt.Chart]:
    """One pale dashed line a series, or a rule where it has no n: results that are not ours."""
    pale = {"opacity": 0.5, "strokeWidth": 1.5, "strokeDash": [4, 3]}
    colour = _literal(alt.Color, "colour")
    along = _chart([row for row in rows if row["n"]]).mark_line(**pale)
    across = _chart([row for row in rows if not row["n"]]).mark_rule(**pale)
    return [
        along.encode(**frame.xy("n", "y"), color=colour, detail="label:N"),
        across.encode(y=frame.xy("n", "y")["y"], color=colour),
    ]


def bands(rows: Rows, frame: Frame) -> list[alt.Chart]:
    """From `low` to `high` along a series, or a bar where it has one n; nulls draw nothing."""
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
    """A dotted line across at the height of each row."""
    mark = _chart(rows).mark_rule(strokeDash=DOTS, strokeWidth=1.2, opacity=0.9)
    return mark.encode(y=frame.xy("n", "y")["y"], color=_literal(alt.Color, "colour"))


def labels(rows: Rows, frame: Frame, *, x: str = "n", fixed: bool = True) -> alt.Chart:
    """The name of each series right of its last row, or, if `fixed`, of the frame."""
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
    """Heights at least `gap` apart, in the same order, within bounds, moved as little as possible.

    The least squares are those of bounded isotonic regression: pool adjacent violators, then clip.
    """
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    pools: list[tuple[float, int]] = []  # mean and size of what moves together
    for rank, index in enumerate(order):
        mean, size = heights[index] - rank * gap, 1
        while pools and pools[-1][0] > mean:
            before, count = pools.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        pools.append((mean, size))
    low, high = within[0], max(within[0], within[1] - gap * (len(heights) - 1))
    flat = [min(max(mean, low), high) for mean, size in pools for _ in range(size)]
    moved = {index: flat[rank] + rank * gap for rank, index in enumerate(order)}
    return [moved[index] for index in range(len(heights))]


def stack(*marks: alt.Chart) -> alt.LayerChart:
    """Marks over each other, the first at the bottom."""
    return alt.layer(*marks)


def choice(chart: alt.LayerChart, column: str, options: Sequence[int], text: str) -> alt.LayerChart:
    """A chart of the rows whose `column` the reader picks; the last option at first."""
    pick = alt.binding_radio if len(options) <= 10 else alt.binding_select
    chosen = alt.param(name="chosen", value=options[-1], bind=pick(options=options, name=text))
    marks = [mark.transform_filter(f"datum.{column} == chosen") for mark in chart.layer]
    return alt.layer(*marks).add_params(chosen)


def spec(panel: Panel) -> dict[str, Any]:
    """The Vega-Lite specification of a panel that is as wide as what contains it."""
    sized = panel.chart.properties(
        width="container",
        height=HEIGHT,
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        padding={"left": 2, "top": 6, "right": 2, "bottom": 2},  # fitting makes room for labels
    )
    found: dict[str, Any] = _styled(sized).to_dict()
    return found


def png(panels: Sequence[Panel], *, columns: int, width: int) -> bytes:
    """Panels of `width` pixels side by side, as a PNG of twice that resolution."""
    import vl_convert

    sized = [
        panel.chart.properties(
            width=width, height=HEIGHT, title=alt.Title(panel.title, anchor="start", frame="group")
        )
        for panel in panels
    ]
    apart = alt.RowColnumber(row=90, column=ROOM + 50)
    whole = alt.concat(*sized, columns=columns, spacing=apart, bounds="flush")
    whole = whole.properties(padding={"left": 12, "top": 12, "right": ROOM, "bottom": 12})
    data: bytes = vl_convert.vegalite_to_png(
        _styled(whole).to_json(), vl_version=_version(), scale=2, allowed_base_urls=[]
    )
    return data


def javascript() -> str:
    """Vega, Vega-Lite and vegaEmbed as one script without dependencies."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", _version()))


def _version() -> str:
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _chart(rows: Rows) -> alt.Chart:
    return alt.Chart(alt.Data(values=list(rows)))


def _names(rows: Rows) -> list[str]:
    return list(dict.fromkeys(row["label"] for row in rows))


def _literal(channel: Any, column: str) -> Any:
    """A column that holds the look itself: no scale, no legend."""
    return channel(f"{column}:N", scale=None, legend=None)


def _hover(rows: Rows, column: str, title: str) -> alt.Tooltip:
    number = bool(rows) and isinstance(rows[0][column], float)
    options = {"format": ".2f"} if number else {}
    return alt.Tooltip(f"{column}:{'Q' if number else 'N'}", title=title, **options)


def _styled(chart: Any) -> Any:
    return (
        chart.configure(font=FONT, background="white")
        .configure_view(stroke=None)
        .configure_axis(
            domainColor="#999",
            tickColor="#999",
            gridColor="#e8e8e8",
            labelColor="#444",
            titleColor="#444",
            labelFontSize=11,
            titleFontSize=12,
            titleFontWeight="normal",
        )
        .configure_axisY(domain=False, ticks=False, minExtent=30)
        .configure_title(fontSize=13, fontWeight=600, color="#222", offset=12)
    )
