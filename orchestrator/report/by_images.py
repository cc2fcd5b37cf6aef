"""The figure of effects over training images per class: a panel per effect, a line per n."""

from __future__ import annotations

import dataclasses
from typing import Any

from orchestrator.report import charts
from orchestrator.report.charts import WITHOUT_N, Panel, Row, Rows, layer_colours, span, stack
from orchestrator.report.figures import has_band, images_frame
from orchestrator.stats.measurements import DIFFERENCES

MOST_TICKS = 6  # with more numbers of images, only powers of ten are ticks


def effects_by_images(effects: Rows) -> list[Panel]:
    """Draw every effect over the training images of each class of the target.

    All images (null) have the last place, at twice the largest number: their number differs from
    class to class. `effects` are of groups that differ in images per class alone. With fewer than
    two numbers of images there is no figure.
    """
    limits = {row["images_per_class"] for row in effects} - {None}
    if len({row["images_per_class"] for row in effects}) < 2:
        return []
    every = 2 * max(limits)
    layers = sorted({row["n"] for row in effects} - {0})
    looks = layer_colours(layers)
    panels = []
    for effect, pair in DIFFERENCES.items():
        rows = [_mark(row, every, looks) for row in effects if row["effect"] == effect]
        if rows:
            title = f"{' − '.join(pair)} by images of each class, points"
            panels.append(Panel(title, _chart(rows, limits, every)))
    return panels


def _mark(row: Any, every: int, looks: dict[int, str]) -> Row:
    """Return an effect as a mark at its number of images, in the colour of its n."""
    limit, colour = row["images_per_class"], looks.get(row["n"], WITHOUT_N)
    look = {"colour": colour, "ink": colour, "shape": "circle", "dash": [1, 0]}
    place = {"n": every if limit is None else limit, "y": 100 * row["estimate"]}
    bounds = {key: 100 * row[key] if has_band(row) else None for key in ("low", "high")}
    texts = {
        "label": f"n = {row['n']}" if row["n"] else DIFFERENCES[row["effect"]][0],
        "images": "all" if limit is None else str(limit),
        "splits": row["n_splits"],
    }
    return look | place | bounds | texts


def _chart(rows: list[Row], limits: set[int], every: int) -> Any:
    rows = sorted(rows, key=lambda row: row["n"])
    heights = [0.0, *(row[key] for row in rows for key in ("y", "low", "high"))]
    last = max(row["n"] for row in rows)
    frame = images_frame(limits, every, last, span(heights))
    if len(limits) <= MOST_TICKS:
        ticks = sorted(limits | {last})
        frame = dataclasses.replace(frame, across_ticks=ticks)
    hover = {"label": "layers", "images": "images", "y": "estimate, points", "splits": "splits"}
    zero = {"n": every, "y": 0.0, "colour": "#222222"}
    return stack(
        *charts.bands(rows, frame),
        charts.rules([zero], frame),
        charts.curves(rows, frame),
        charts.points(rows, frame, hover),
        charts.labels(rows, frame),
    )
