"""The figures over training steps: learning curves, and steps to the accuracy of the base."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.report import charts, wording
from orchestrator.report.charts import Frame, Panel, Row, Rows, layer_frame, span, stack, style
from orchestrator.report.figures import aside, lines
from orchestrator.stats.measurements import ARMS, Network


def speed_figure(speed: Rows, speeds: Rows) -> list[Panel]:
    """Draw steps to the base's final accuracy, and the gain in area under the validation curve."""
    most = max((row["steps"] for row in speed if row["steps"]), default=1)
    never = 1.14 * most
    frame = layer_frame(
        [row["n"] for row in speeds],
        (0.0, 1.2 * most),
        up_ticks=[*_ticks(most), never],
        up_label=f"datum.value > {most} ? 'never' : datum.label",
    )
    shift = aside(row["arm"] for row in speeds)

    def place(row: Mapping[str, Any]) -> tuple[str, int, float]:
        return row["arm"], row["n"], never if row["steps"] is None else float(row["steps"])

    counts = Counter(map(place, speed))
    dots = [
        style(arm)
        | {"n": n, "x": n + shift[arm], "y": y, "count": count}
        | {"steps": wording.steps(None if y == never else y)}
        for (arm, n, y), count in counts.items()
        if n
    ]
    rows = [
        style(arm) | {"n": n, "x": n + shift[arm], "y": y, "gap": y == never}
        for arm, n, y in map(place, speeds)
    ]
    copied = [row for row in rows if row["n"]]
    hover = {"label": "treatment", "n": "n", "steps": "steps", "count": "networks"}
    steps = stack(
        charts.rules([row for row in rows if not row["n"]], frame),
        charts.points(dots, frame, hover, x="x", count=True),
        charts.curves(copied, frame, x="x"),
        charts.points(copied, frame, {"label": "median of", "n": "n"}, x="x"),
        charts.labels(rows, frame),
    )
    gains = [{**row, "effect": row["arm"], "estimate": row["area_gain"]} for row in speeds]
    series = {arm: (arm, arm) for arm in ARMS if arm != "base"}
    area = lines(gains, series, zero="base")
    return [
        Panel("Median step that reaches the base's final validation top-1", steps),
        Panel("Gain in mean validation top-1 over the base's steps, points", area),
    ]


def learning(networks: Iterable[Network], curves: pa.Table) -> list[Row]:
    """Return mean validation top-1 in percent by arm, n and step, over these networks."""
    place = {x.id: (x.arm, x.n) for x in networks}
    places = sorted(set(place.values()))
    numbers = [places.index(of_trial) for of_trial in place.values()]
    index = pc.index_in(curves["id"], pa.array(list(place), pa.string()))
    known = pc.and_(pc.is_valid(index), pc.is_valid(curves["val_top1"]))
    rows = curves.select(["step", "val_top1"]).filter(known)
    codes = np.array(numbers, int)[np.asarray(index.filter(known))]
    steps, heights = np.asarray(rows["step"]), 100 * np.asarray(rows["val_top1"])
    order = np.lexsort((steps, codes))
    codes, steps, heights = codes[order], steps[order], heights[order]
    changes = np.flatnonzero(np.diff(codes) | np.diff(steps)) + 1
    starts = [0, *changes.tolist()] if len(codes) else []
    ends = [*starts[1:], len(codes)][: len(starts)]
    return [
        style(places[codes[start]][0])
        | {"n": places[codes[start]][1], "step": int(steps[start])}
        | {"y": fmean(heights[start:end].tolist())}
        for start, end in zip(starts, ends, strict=True)
    ]


def learning_figure(rows: Rows, *, choose: bool) -> list[Panel]:
    """Draw learning curves, with the bases: one panel with a choice of n, or one panel per n.

    base_long is cut where the other curves end.
    """
    end = max((row["step"] for row in rows if row["label"] != "base_long"), default=1)
    rows = [row for row in rows if row["step"] <= end]
    frame = Frame((0, end), span(row["y"] for row in rows))
    layers = sorted({row["n"] for row in rows if row["n"]}) or [0]
    shown = {n: [{**row, "n": n} for row in rows if row["n"] in (0, n)] for n in layers}
    if not choose:
        return [Panel(f"n = {n}", _learning([shown[n]], frame)) for n in layers]
    chart = charts.choice(_learning(list(shown.values()), frame), "n", layers, "layers copied, n: ")
    return [Panel("Mean validation top-1, %", chart)]


def _ticks(most: float) -> list[int]:
    """Return about five round numbers from 0 to `most`."""
    unit = 10 ** max(0, math.floor(math.log10(most / 5)))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k * 6 > most)
    return list(range(0, int(most) + 1, step))


def _learning(groups: Sequence[Rows], frame: Frame) -> Any:
    """Draw the curves of several n over each other, each n with its own placement of labels."""
    rows = [row for group in groups for row in group]
    names = [charts.labels(group, frame, x="step") for group in groups]
    return stack(charts.curves(rows, frame, x="step"), *names)
