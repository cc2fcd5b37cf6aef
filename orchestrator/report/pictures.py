"""The page of pictures: first filters of networks, and maps of their images, side by side."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.errors import LayerwiseError
from orchestrator.execution.pictures import Picture
from orchestrator.report import charts, rendering
from orchestrator.report.charts import Frame, Panel, Row, span, stack
from orchestrator.report.page import render
from orchestrator.store.names import PAGE
from trainers import whole_file

MOST_NAMED = 15  # classes whose names stand beside a map
TEXTS = {  # alternative texts
    "filters": "Filters of the first layer, as small pictures.",
    "map": "Validation images as marks, near each other if the outputs of the layer are alike.",
}
WIDTH = {"filters": 280, "map": 340}  # pixels per panel of the PNG files
COLUMNS = 2  # panels per row, which fill the width of a report


def write_pictures(
    pictures: Sequence[Picture], sweep: str, layer: int, projection: str, to: Path
) -> Path:
    """Write `index.html`, `filters.png` and `map.png` to a folder; return the path of the page.

    Raises `LayerwiseError` for a folder that cannot be written.
    """
    classes = {name for one in pictures for name in one.map.classes}
    in_order = sorted(classes, key=lambda name: (len(name), name))  # 2 before 10
    colours = dict(zip(in_order, itertools.cycle(charts.SERIES), strict=False))
    figures = {
        "filters": [Panel(one.name, charts.image(*one.filters)) for one in pictures],
        "map": [_map(one, colours) for one in pictures],
    }
    page = {
        "sweep": sweep,
        "layer": layer,
        "projection": projection,
        "figures": {
            name: [
                {"title": panel.title, "text": TEXTS[name], "spec": rendering.spec(panel)}
                for panel in panels
            ]
            for name, panels in figures.items()
        },
    }
    files = {PAGE: render("pictures.html", page).encode()} | {
        f"{name}.png": rendering.picture(
            panels, "png", columns=min(COLUMNS, len(panels)), width=WIDTH[name]
        )
        for name, panels in figures.items()
    }
    try:
        for name, data in files.items():
            whole_file.write(to / name, data)
    except OSError as error:
        raise LayerwiseError(f"cannot write {to}: {error.strerror}") from error
    return to / PAGE


def _map(picture: Picture, colours: Mapping[str, str]) -> Panel:
    """Draw a point per image in the colour of its class, and the names of the classes beside."""
    places, classes = picture.map.places, picture.map.classes
    rows: list[Row] = [
        {
            "x": float(x),
            "y": float(y),
            "label": name,
            "colour": colours[name],
            "ink": colours[name],
            "shape": "circle",
            "number": int(number),
            "image": image,
        }
        for (x, y), name, number, image in zip(
            places, classes, picture.map.images, picture.map.thumbnails, strict=True
        )
    ]
    named: list[Row] = []
    if len(set(classes)) <= MOST_NAMED:
        named = [{key: row[key] for key in ("x", "y", "label", "ink")} for row in rows]
    frame = Frame(span(places[:, 0]), span(places[:, 1]), bare=True)
    hover = {"image": "image", "label": "class", "number": "validation image"}
    chart = stack(charts.points(rows, frame, hover, x="x"), charts.labels(named, frame, x="x"))
    return Panel(picture.name, chart)
