"""Panels as Vega-Lite, PNG, SVG and PDF, and the JavaScript that draws them on a page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any, Literal, TypeAlias

import altair as alt

from orchestrator.remembered import remembered
from orchestrator.report.charts import HEIGHT, ROOM, Panel, drawn

FONT = "Helvetica Neue, Arial, Liberation Sans, sans-serif"
Format = Literal["png", "svg", "pdf"]
Chart: TypeAlias = alt.ConcatChart
CONFIG = alt.Config(
    font=FONT,
    background="white",
    view=alt.ViewConfig(stroke=None),
    axis=alt.AxisConfig(
        domainColor="#999",
        tickColor="#999",
        gridColor="#e8e8e8",
        labelColor="#444",
        titleColor="#444",
        labelFontSize=11,
        titleFontSize=12,
        titleFontWeight="normal",
    ),
    axisY=alt.AxisConfig(domain=False, ticks=False, minExtent=30),
    title=alt.TitleConfig(fontSize=13, fontWeight=600, color="#222", offset=12),
)


def spec(panel: Panel) -> dict[str, Any]:
    """Return the Vega-Lite specification of a panel that fills the width of its container."""
    sized = _with(
        panel.chart,
        config=CONFIG,
        width="container",
        height=HEIGHT,
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        padding={"left": 2, "top": 6, "right": 2, "bottom": 2},  # fitting makes room for labels
    )
    return drawn(sized)


def together(panels: Sequence[Panel], *, columns: int, width: int) -> Chart:
    """Return panels of `width` pixels as one chart with its rows, `columns` per row."""
    figure = _together(panels, columns=columns, width=width)
    return figure.properties(datasets=drawn(figure).get("datasets", {}))


def _together(panels: Sequence[Panel], *, columns: int, width: int) -> Any:
    sized = [
        _with(
            panel.chart,
            width=width,
            height=HEIGHT,
            title=alt.Title(panel.title, anchor="start", frame="group"),
        )
        for panel in panels
    ]
    return alt.concat(
        *sized,
        columns=columns,
        spacing=alt.RowColnumber(row=90, column=ROOM + 50),
        bounds="flush",
        padding={"left": 12, "top": 12, "right": ROOM, "bottom": 12},
        config=CONFIG,
    )


def _with(chart: alt.LayerChart, **properties: Any) -> alt.LayerChart:
    """Return a chart with these properties. Altair's own way copies all marks each time."""
    changed: alt.LayerChart = chart.copy(deep=False)
    for name, value in properties.items():
        changed[name] = value
    return changed


def pictures(
    panels: Sequence[Panel], formats: Iterable[Format], *, columns: int, width: int
) -> dict[Format, bytes]:
    """Return panels as files: a PNG at double resolution, an SVG or a PDF. They are drawn once."""
    import vl_convert

    figure = json.dumps(drawn(_together(panels, columns=columns, width=width)))
    svg: str = vl_convert.vegalite_to_svg(figure, vl_version=_version(), allowed_base_urls=[])
    made: dict[Format, bytes] = {}
    for one in formats:
        if one == "png":
            made[one] = vl_convert.svg_to_png(svg, scale=2)
        else:
            made[one] = vl_convert.svg_to_pdf(svg) if one == "pdf" else svg.encode()
    return made


def picture(panels: Sequence[Panel], kind: Format, *, columns: int, width: int) -> bytes:
    """Return panels as one file; see `pictures`."""
    return pictures(panels, [kind], columns=columns, width=width)[kind]


def javascript() -> str:
    """Return Vega, Vega-Lite and vegaEmbed as one script without dependencies."""
    import vl_convert

    snippet, release = "window.vegaEmbed = vegaEmbed;", version("vl-convert-python")
    return remembered(
        "vega",
        f"{release} {_version()} {snippet}",
        lambda: str(vl_convert.javascript_bundle(snippet, _version())),
    )


def _version() -> str:
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
