"""The figures of the report over numbers of layers or images: rows of statistics become marks.

A figure is a list of panels, each complete in itself, so that the page can stack them on a narrow
screen. Accuracies come in as fractions and are drawn in percent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import pyarrow as pa

from orchestrator.report import charts, wording
from orchestrator.report.charts import Frame, Panel, Row, Rows, layer_frame, span, stack, style
from orchestrator.stats.measurements import ARMS, METRICS, WITHOUT_LAYERS, Network

# The series of each panel, as effect: (label, arm that lends its colour).
AGAINST_BASE = {
    "random": ("random", "random"),
    "selffer": ("BnB", "BnB"),
    "selffer_gain": ("BnB+", "BnB+"),
    "transfer": ("AnB", "AnB"),
    "gain": ("AnB+", "AnB+"),
    "stitched_self": ("Bn|B", "Bn|B"),
    "stitched": ("An|B", "An|B"),
    "longer_training": ("base_long", "base_long"),
    "pixels": ("pixels", "pixels"),
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
STITCHED = {
    "stitching_self": ("base − Bn|B", "Bn|B"),
    "stitching_specificity": ("Bn|B − An|B", "An|B"),
    "stitching_self_gain": ("Bn|B − BnB", "BnB"),
    "stitching_gain": ("An|B − AnB", "AnB"),
}
OVER_LONGER = {
    "selffer_gain_over_longer": ("BnB+", "BnB+"),
    "gain_over_longer": ("AnB+", "AnB+"),
}
PUBLISHED = "pale and dashed: paper, 2014"
LEAST_DF = 3  # degrees of freedom of a t interval that is drawn as a band
ASIDE = 0.13  # distance of the markers of two arms at one n, in layers


def figure2(
    networks: Sequence[Network], effects: Rows, published: tuple[Rows, Rows] = ((), ())
) -> list[Panel]:
    """Draw each network at its n, and the mean difference to the own base with its interval.

    `published` are levels and effects of published results on the same group, drawn pale.
    """
    shift = aside(x.arm for x in networks)
    rows: list[Row] = []
    for x in networks:
        row = {"name": x.name, "id": x.id, "split": x.split, "seed": x.seed, "n": x.n}
        row["x"] = x.n + shift[x.arm]
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
        charts.rules([row for row in means if row["label"] in WITHOUT_LAYERS], frame),
        charts.points(rows, frame, hover, x="x"),
        charts.labels(means, frame),
    )
    lower = lines(effects, AGAINST_BASE, zero="base", published=published[1])
    note = f"; {PUBLISHED}" if others else ""
    return [
        Panel(f"{wording.capital(metric)} of each network, %{note}", upper),
        Panel(f"Mean difference to the own base, points{note}", lower),
    ]


def decomposition(effects: Rows) -> list[Panel]:
    """Draw the losses of frozen features, and the gains of fine-tuning beside longer training.

    A panel without effects is left out.
    """
    known = {row["effect"] for row in effects}
    parts = {
        "What freezing loses and fine-tuning recovers, points": DROP,
        "What fine-tuning gains, beside longer training, points": GAINS,
        "Fine-tuned less longer training (base_long), points": OVER_LONGER,
        "What a stitch loses, and what it gains over new upper layers, points": STITCHED,
    }
    return [
        Panel(title, lines(effects, series, "base_long" if series is OVER_LONGER else ""))
        for title, series in parts.items()
        if known & series.keys()
    ]


def figure3(parts: Sequence[tuple[str, Rows]], published: Rows = ()) -> list[Panel]:
    """Draw frozen transfer and random filters on one axis, dissimilar halves beside random ones.

    `parts` are divisions with their effects, which differ in nothing else; each line is of one
    division. With fewer than two lines there is no figure.
    """
    looks: dict[str, tuple[str, str]] = {}
    for division, _ in parts:
        if division == "random":
            looks |= {f"{division}/transfer": ("AnB", "AnB")}
            looks |= {f"{division}/random": ("random filters", "random")}
        else:
            name = division.replace("_", "/")
            looks |= {f"{division}/transfer": (f"AnB {name}", "dissimilar")}
            looks |= {f"{division}/random": (f"random {name}", "random, dissimilar")}

    def named(rows: Rows, division: str) -> list[Row]:
        return [
            {**row, "effect": f"{division}/{row['effect']}"}
            for row in rows
            if f"{division}/{row['effect']}" in looks
        ]

    rows = [row for division, effects in parts for row in named(effects, division)]
    drawn = {row["effect"] for row in rows}
    if len(drawn) < 2 or not any(effect.endswith("/transfer") for effect in drawn):
        return []
    others = [
        row
        for division, _ in parts
        for row in named([x for x in published if x["division"] == division], division)
    ]
    note = f"; {PUBLISHED}" if others else ""
    chart = lines(rows, looks, zero="base", published=others)
    return [Panel(f"Frozen layers less the own base, points{note}", chart)]


def overfitting(networks: Sequence[Network], trials: pa.Table) -> list[Panel]:
    """Draw mean top-1 on training, validation and test images after the last step, by arm and n.

    The last panel is training less test. Trials without training accuracy, of old stores, are left
    out; without any there is no panel.
    """
    columns = ("train_top1", "val_top1", "top1")
    scores = {
        row["id"]: tuple(100 * row[name] for name in columns)
        for row in trials.select(["id", *columns]).to_pylist()
        if all(row[name] is not None for name in columns)
    }
    values: dict[tuple[str, int], list[tuple[float, ...]]] = defaultdict(list)
    for x in networks:
        if x.id in scores:
            values[x.arm, x.n].append(scores[x.id])
    if not values:
        return []
    means = {
        place: [fmean(column) for column in zip(*rows, strict=True)]
        for place, rows in values.items()
    }
    up = span(y for row in means.values() for y in row)
    panels = {
        "Training images": ([row[0] for row in means.values()], up),
        "Validation images": ([row[1] for row in means.values()], up),
        "Test images": ([row[2] for row in means.values()], up),
    }
    gaps = [row[0] - row[2] for row in means.values()]
    panels["Training less test, points"] = (gaps, span([0.0, *gaps]))
    counts = [len(rows) for rows in values.values()]
    return [
        Panel(
            title if "points" in title else f"{title}: mean top-1, %",
            _by_arm(list(means), heights, counts, limits),
        )
        for title, (heights, limits) in panels.items()
    ]


def _by_arm(
    places: Sequence[tuple[str, int]],
    heights: Sequence[float],
    counts: Sequence[int],
    up: tuple[float, float],
) -> Any:
    """Draw one height per arm and n: bases as rules, copies as lines."""
    rows = [
        style(arm) | {"n": n, "y": y, "networks": count}
        for (arm, n), y, count in zip(places, heights, counts, strict=True)
    ]
    frame = layer_frame({n for _, n in places}, up)
    copied = sorted((row for row in rows if row["n"]), key=lambda row: row["n"])
    hover = {"label": "treatment", "n": "n", "y": "mean", "networks": "networks"}
    return stack(
        charts.rules([row for row in rows if not row["n"]], frame),
        charts.curves(copied, frame),
        charts.points(rows, frame, hover),
        charts.labels(rows, frame),
    )


def images_figure(levels: Rows, published: Rows = ()) -> list[Panel]:
    """Draw the bases by training images per class, with those of `published` pale.

    All images (null) have the last place, at twice the largest number.
    """
    limits = {row["images_per_class"] for row in [*levels, *published]} - {None}
    every = 2 * max(limits)

    def heights(rows: Rows) -> list[Row]:
        placed = [
            style(row["arm"])
            | {"n": row["images_per_class"] or every, "y": 100 * row["value"], "dash": [1, 0]}
            | _bounds(row)
            | {"images": "all" if row["images_per_class"] is None else str(row["images_per_class"])}
            for row in rows
            if row["arm"] in WITHOUT_LAYERS
        ]
        return sorted(placed, key=lambda row: row["n"])

    rows, others = heights(levels), heights(published)
    up = span(y for row in [*rows, *others] for y in (row["y"], row["low"], row["high"]))
    last = max(row["n"] for row in [*rows, *others])
    frame = images_frame(limits, every, last, up)
    chart = stack(
        *charts.overlay(others, frame),
        *charts.bands(rows, frame),
        charts.curves(rows, frame),
        charts.points(rows, frame, {"label": "treatment", "images": "images", "y": "%"}),
        charts.labels(rows, frame),
    )
    metric = METRICS[levels[0]["metric"]]
    note = f"; {PUBLISHED}" if others else ""
    return [Panel(f"Mean {metric} by training images of each class, %{note}", chart)]


def images_frame(limits: set[int], every: int, last: int, up: tuple[float, float]) -> Frame:
    """Return a logarithmic frame over images of each class; `every` is the place of all images."""
    decades = [10.0**k for k in range(9) if min(limits) <= 10**k <= max(limits)]
    return Frame(
        (min(limits) / 1.5, last * 1.5),
        up,
        across_label="images of each class",
        across_ticks=[*(decades or sorted(limits)), *([every] if last == every else [])],
        across_text=f"datum.value == {every} ? 'all' : datum.label",
    )


def lines(
    effects: Rows,
    series: Mapping[str, tuple[str, str]],
    zero: str = "",
    published: Rows = (),
) -> Any:
    """Draw effects as lines with interval bands; an effect without n (n = 0) is a rule with a bar.

    `zero` names the rule at zero. `published` effects of the same series are drawn pale.
    """
    rows = [
        style(series[row["effect"]][1], series[row["effect"]][0])
        | {"n": row["n"], "y": 100 * row["estimate"], "splits": row["n_splits"]}
        | _bounds(row)
        for row in effects
        if row["effect"] in series
    ]
    origin = style(zero or "base", zero) | {"n": 0, "y": 0.0}
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


def has_band(row: Mapping[str, Any]) -> bool:
    """Return whether a row has an interval that is drawn.

    Below `LEAST_DF` degrees of freedom, a t interval is so wide that it would hide the lines.
    """
    return row["low"] is not None and (row["df"] is None or row["df"] >= LEAST_DF)


def bands_note(rows: Rows, elsewhere: str = "") -> str:
    """Say what the bands of a figure of `lines` are, or why it has none.

    `elsewhere` is a sentence on where the intervals stand that are not drawn.
    """
    drawn = [row for row in rows if has_band(row)]
    if drawn:
        return f"Bands and bars are pointwise 95 %: {wording.interval_note(drawn)}."
    if bounded := [row for row in rows if row["low"] is not None]:
        interval = wording.interval_note(bounded)
        return f"No bands are drawn: the {interval} would hide the lines.{elsewhere}"
    return f"{wording.capital(wording.no_interval(rows[0]))}." if rows else ""


def _bounds(row: Mapping[str, Any]) -> Row:
    """Return `low` and `high` in percent; None where no band is drawn."""
    return {key: 100 * row[key] if has_band(row) else None for key in ("low", "high")}


def aside(arms: Iterable[str]) -> dict[str, float]:
    """Return the distance of each arm's markers from its n, so that they do not hide each other."""
    drawn = set(arms)
    groups = [
        [arm for arm in ARMS if arm in drawn and (arm in WITHOUT_LAYERS) == bases]
        for bases in (0, 1)
    ]
    return {
        arm: ASIDE * (place - (len(group) - 1) / 2)
        for group in groups
        for place, arm in enumerate(group)
    }
