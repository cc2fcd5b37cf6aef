"""The figures of the report: which rows of the statistics are drawn, with which marks.

A figure is a list of panels that stand alone, so that the report can stack them on a narrow screen.
Accuracies come in as fractions and are drawn in percent.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import pyarrow as pa

from orchestrator.comparisons import ARMS, BASES, METRICS, Network
from orchestrator.report import charts
from orchestrator.report.charts import Frame, Panel, Row, Rows, layer_frame, span, stack, style

# effect: (label, whose colour)
AGAINST_BASE = {
    "random": ("random", "random"),
    "selffer": ("BnB", "BnB"),
    "selffer_gain": ("BnB+", "BnB+"),
    "transfer": ("AnB", "AnB"),
    "gain": ("AnB+", "AnB+"),
    "longer_training": ("base_long", "base_long"),
}
DROP = {
    "co_adaptation": ("co-adaptation", "BnB"),
    "specificity": ("specificity", "AnB"),
    "recovery": ("recovery", "recovery"),
}
GAINS = {
    "selffer_gain": ("BnB+ gain", "BnB+"),
    "gain": ("AnB+ gain", "AnB+"),
    "transfer_gain": ("transfer gain", "recovery"),
    "longer_training": ("base_long", "base_long"),
}
PUBLISHED = "pale and dashed: paper, 2014"
ASIDE = 0.13  # layers between the markers of two treatments of one n


def figure2(
    networks: Sequence[Network], effects: Rows, published: tuple[Rows, Rows] = ((), ())
) -> list[Panel]:
    """Each network at its n, and the mean difference to the own base with its interval.

    `published` are levels and effects of the same group of other results, drawn pale.
    """
    aside = _aside(x.arm for x in networks)
    rows: list[Row] = []
    for x in networks:
        row = {"name": x.name, "id": x.id, "split": x.split, "seed": x.seed, "n": x.n}
        row["x"] = x.n + aside[x.arm]
        chance = "yes" if x.at_chance else "no"
        rows.append(style(x.arm) | row | {"y": 100 * x.value, "chance": chance})
    heights: dict[tuple[str, int], list[float]] = defaultdict(list)
    for x in networks:
        heights[x.arm, x.n].append(100 * x.value)
    means = [style(arm) | {"n": n, "y": fmean(values)} for (arm, n), values in heights.items()]
    others = [
        style(row["arm"]) | {"n": row["n"], "y": 100 * row["value"]}
        for row in published[0]
        if (row["arm"], row["n"]) in heights
    ]
    frame = layer_frame({x.n for x in networks}, span(row["y"] for row in [*rows, *others]))
    metric = METRICS[networks[0].metric]
    hover = {
        "name": "network",
        "id": "id",
        "label": "treatment",
        "y": f"{metric}, %",
        "split": "split",
        "seed": "seed",
        "chance": "at chance",
    }
    upper = stack(
        *charts.overlay(others, frame),
        charts.rules([row for row in means if row["label"] in BASES], frame),
        charts.points(rows, frame, hover, x="x"),
        charts.labels(means, frame),
    )
    lower = lines(effects, AGAINST_BASE, zero="base", published=published[1])
    note = f"; {PUBLISHED}" if others else ""
    return [
        Panel(f"{metric[0].upper()}{metric[1:]} of each network, %{note}", upper),
        Panel(f"Mean difference to the own base, points{note}", lower),
    ]


def decomposition(effects: Rows) -> list[Panel]:
    """Where frozen features lose, and what fine-tuning gains beside longer training.

    A panel of which no effect is known is left out.
    """
    known = {row["effect"] for row in effects}
    parts = {
        "What freezing loses and fine-tuning recovers, points": DROP,
        "What fine-tuning gains, beside longer training, points": GAINS,
    }
    return [
        Panel(title, lines(effects, series))
        for title, series in parts.items()
        if known & series.keys()
    ]


def images_figure(levels: Rows, published: Rows = ()) -> list[Panel]:
    """The bases by training images a class, and those of `published` pale; null is left out.

    Networks with all images have no place on this axis.
    """

    def heights(rows: Rows) -> list[Row]:
        return [
            style(row["arm"])
            | {"n": row["images_per_class"], "y": 100 * row["value"], "dash": [1, 0]}
            | {key: None if row[key] is None else 100 * row[key] for key in ("low", "high")}
            for row in sorted(rows, key=lambda row: row["images_per_class"] or 0)
            if row["arm"] in BASES and row["images_per_class"] is not None
        ]

    rows, others = heights(levels), heights(published)
    limits = [row["n"] for row in [*rows, *others]]
    up = span(y for row in [*rows, *others] for y in (row["y"], row["low"], row["high"]))
    frame = Frame((min(limits) / 1.5, max(limits) * 1.5), up, across_label="images of each class")
    chart = stack(
        *charts.overlay(others, frame),
        *charts.bands(rows, frame),
        charts.curves(rows, frame),
        charts.points(rows, frame, {"label": "treatment", "n": "images", "y": "%"}),
        charts.labels(rows, frame),
    )
    metric = METRICS[levels[0]["metric"]]
    note = f"; {PUBLISHED}" if others else ""
    return [Panel(f"Mean {metric} by training images of each class, %{note}", chart)]


def lines(
    effects: Rows,
    series: Mapping[str, tuple[str, str]],
    zero: str = "",
    published: Rows = (),
) -> Any:
    """Effects as lines with interval bands; one that has no n (n = 0) is a dashed rule with a bar.

    Zero is a rule, too, named `zero`. Of `published` effects the same series are drawn pale.
    """
    rows = [
        style(series[row["effect"]][1], series[row["effect"]][0])
        | {"n": row["n"], "y": 100 * row["estimate"], "splits": row["n_splits"]}
        | {key: None if row[key] is None else 100 * row[key] for key in ("low", "high")}
        for row in effects
        if row["effect"] in series
    ]
    origin = style("base", zero) | {"n": 0, "y": 0.0}
    layers = {row["n"] for row in rows}
    drawn = {(row["effect"], row["n"]) for row in effects}
    others = [
        style(series[row["effect"]][1]) | {"n": row["n"], "y": 100 * row["estimate"]}
        for row in published
        if row["effect"] in series and (row["effect"], row["n"]) in drawn
    ]
    heights = [0.0, *(row[key] for row in rows for key in ("y", "low", "high"))]
    frame = layer_frame(layers, span([*heights, *(row["y"] for row in others)]))
    copied = [row for row in rows if row["n"]]
    hover = {"label": "series", "n": "n", "y": "estimate, points", "splits": "splits"}
    bounds = {"low": "from", "high": "to"} if all(row["low"] is not None for row in rows) else {}
    return stack(
        *charts.overlay(others, frame),
        *charts.bands(rows, frame),
        charts.rules([origin, *(row for row in rows if not row["n"])], frame),
        charts.curves(copied, frame),
        charts.points(rows, frame, hover | bounds),
        charts.labels([*([origin] if zero else []), *rows], frame),
    )


def speed_figure(speed: Rows, speeds: Rows) -> list[Panel]:
    """Steps until the base's final accuracy, and the gain in area under the validation curve."""
    most = max((row["steps"] for row in speed if row["steps"]), default=1)
    never = 1.14 * most
    frame = layer_frame(
        [row["n"] for row in speeds],
        (0.0, 1.2 * most),
        up_ticks=[*_ticks(most), never],
        up_label=f"datum.value > {most} ? 'never' : datum.label",
    )
    aside = _aside(row["arm"] for row in speeds)

    def place(row: Mapping[str, Any]) -> tuple[str, int, float]:
        return row["arm"], row["n"], never if row["steps"] is None else float(row["steps"])

    counts = Counter(map(place, speed))
    dots = [
        style(arm)
        | {"n": n, "x": n + aside[arm], "y": y, "count": count}
        | {"steps": "never" if y == never else f"{y:.0f}"}
        for (arm, n, y), count in counts.items()
        if n
    ]
    rows = [
        style(arm) | {"n": n, "x": n + aside[arm], "y": y, "gap": y == never}
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
    """Mean validation top-1 (percent) by arm, n and step, over complete networks."""
    place = {x.id: (x.arm, x.n) for x in networks}
    heights: dict[tuple[str, int, int], list[float]] = defaultdict(list)
    for row in curves.select(["id", "step", "val_top1"]).to_pylist():
        if row["id"] in place:
            heights[*place[row["id"]], row["step"]].append(100 * row["val_top1"])
    return [
        style(arm) | {"n": n, "step": step, "y": fmean(values)}
        for (arm, n, step), values in sorted(heights.items())
    ]


def learning_figure(rows: Rows, *, choose: bool) -> list[Panel]:
    """Learning curves: one panel with a choice of n, or one panel an n; the bases are in each.

    base_long is drawn as far as the others go.
    """
    end = max((row["step"] for row in rows if row["label"] != "base_long"), default=1)
    kept = [row for row in rows if row["step"] <= end]
    frame = Frame((0, end), span(row["y"] for row in kept))
    layers = sorted({row["n"] for row in kept if row["n"]}) or [0]
    shown = {n: [{**row, "n": n} for row in kept if row["n"] in (0, n)] for n in layers}
    if not choose:
        return [Panel(f"n = {n}", _learning([shown[n]], frame)) for n in layers]
    chart = charts.choice(_learning(list(shown.values()), frame), "n", layers, "layers copied, n: ")
    return [Panel("Mean validation top-1, %", chart)]


def _ticks(most: float) -> list[int]:
    """Round numbers from 0 to `most`, about five."""
    unit = 10 ** max(0, math.floor(math.log10(most / 5)))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k * 6 > most)
    return list(range(0, int(most) + 1, step))


def _aside(arms: Iterable[str]) -> dict[str, float]:
    """How far right of its n each arm is drawn, so that markers do not hide each other."""
    found = set(arms)
    groups = [[arm for arm in ARMS if arm in found and (arm in BASES) == bases] for bases in (0, 1)]
    return {
        arm: ASIDE * (place - (len(group) - 1) / 2)
        for group in groups
        for place, arm in enumerate(group)
    }


def _learning(groups: Sequence[Rows], frame: Frame) -> Any:
    """Curves of several n over each other; the labels of each n are placed on their own."""
    rows = [row for group in groups for row in group]
    names = [charts.labels(group, frame, x="step") for group in groups]
    return stack(charts.curves(rows, frame, x="step"), *names)
