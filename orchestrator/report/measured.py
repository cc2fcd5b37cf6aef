"""What measurements say of a group: three figures, and predictors beside the static list. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from orchestrator.report import charts
from orchestrator.report.charts import Frame, Panel, Row, Rows, stack
from orchestrator.stats.measurements import Network
from orchestrator.stats.predictions import STATIC

COLOURS = ("#4a98d3", "#00735c", "#e08a1e", "#b2400b", "#7b4fa3", "#b8336a", "#222222")  # by n
ARMS = ("BnB", "BnB+", "AnB", "AnB+")
BASES = "Both bases"  # the panel of similarity that compares them
PREDICTORS = {  # name: what a reader calls it
    "logme": "LogME",
    "h_score": "H-score",
    "regularised_h_score": "regularised H-score",
    "parc": "PARC",
    "knn_accuracy": "nearest neighbour",
    "probe": "probe",
    "leep": "LEEP",
    "nce": "NCE",
    STATIC: "smaller n",
}
COMPARISONS = {  # comparison: its heading
    "over_n": "over n",
    "over_n_less_static": "less smaller n",
    "within_n": "at one n",
}
Point = tuple[str, int | None, float, float]  # panel, n, place across, height


def measured_figures(
    networks: Sequence[Network], comparisons: Rows, parents: Mapping[str, str | None]
) -> dict[str, list[Panel]]:
    """Return the figures of the measurements of a group's networks, by name; absent without any.

    `comparisons` are rows of `measurements`, `parents` the id of what each network copied.
    """
    place = {x.id: x for x in networks}
    rows = [row for row in comparisons if row["trial"] in place]
    found = {
        "weights": _panels(
            _changes(rows, place),
            lambda name: f"{name}: distance of the weights from their start, share of their norm",
            "layer",
        ),
        "interpolation": _panels(
            _losses(rows, place),
            lambda name: f"{name}: validation loss on the way from the base of the target",
            "base of the target (0) to the network (1)",
        ),
        "similarity": _panels(
            _similarities(rows, place, parents),
            lambda name: f"{name}: similarity of their outputs (CKA)",
            "layer",
        ),
    }
    return {name: panels for name, panels in found.items() if panels}


def _changes(rows: Rows, place: Mapping[str, Network]) -> Iterable[Point]:
    """Yield the distance of every layer, as a share of the norm at the start."""
    values: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for row in rows:
        if row["measure"] == "weights":
            values[row["trial"], row["layer"]][row["quantity"]] = row["value"]
    for (trial, layer), value in values.items():
        if value["norm"]:
            x = place[trial]
            yield x.arm, x.n, layer, value["distance"] / value["norm"]


def _losses(rows: Rows, place: Mapping[str, Network]) -> Iterable[Point]:
    for row in rows:
        if row["measure"] == "interpolation" and row["quantity"] == "loss":
            x = place[row["trial"]]
            yield x.arm, x.n, row["position"], row["value"]


def _similarities(
    rows: Rows, place: Mapping[str, Network], parents: Mapping[str, str | None]
) -> Iterable[Point]:
    for row in rows:
        if row["quantity"] != "debiased_cka" or row["other"] not in parents:
            continue
        x = place[row["trial"]]
        if x.arm == "base":
            yield BASES, None, row["layer"], row["value"]
        else:
            is_source = x.arm.startswith("A") and row["other"] == parents[x.id]
            base = "source" if is_source else "target"
            yield f"{x.arm} and base of the {base}", x.n, row["layer"], row["value"]


def _panels(points: Iterable[Point], title: Callable[[str], str], across: str) -> list[Panel]:
    """Return a panel per name, with the mean over networks as one line per n."""
    heights: dict[str, dict[tuple[int | None, float], list[float]]] = {}
    for name, n, x, y in points:
        heights.setdefault(name, defaultdict(list))[n, x].append(y)
    names = sorted(heights, key=lambda name: (name != BASES, _arm(name), name))
    layers = sorted({n for of_name in heights.values() for n, _ in of_name if n is not None})
    looks = {n: COLOURS[i * len(COLOURS) // len(layers)] for i, n in enumerate(layers)}
    means = {
        name: [
            _mark(n, x, fmean(values), looks)
            for (n, x), values in sorted(heights[name].items(), key=lambda item: item[0][1])
        ]
        for name in names
    }
    everything = [row for rows in means.values() for row in rows]
    return [Panel(title(name), _chart(rows, everything, across)) for name, rows in means.items()]


def _arm(name: str) -> int:
    arm = name.partition(" ")[0]
    return ARMS.index(arm) if arm in ARMS else -1


def _mark(n: int | None, x: float, y: float, looks: Mapping[int, str]) -> Row:
    colour = COLOURS[-1] if n is None else looks[n]
    label = "bases" if n is None else f"n = {n}"
    look = {"colour": colour, "ink": colour, "shape": "circle", "dash": [1, 0]}
    return look | {"label": label, "n": n, "x": x, "y": y}


def _chart(rows: list[Row], everything: Rows, across: str) -> Any:
    """Draw lines; all panels of a figure share their axes."""
    places = [row["x"] for row in everything]
    low, high = min(places), max(places)
    heights = [row["y"] for row in everything]
    room = 0.05 * ((max(heights) - min(heights)) or 1.0)
    layers = across == "layer"
    frame = Frame(
        (low - 0.5, high + 0.5) if layers else (low, high),
        (min(heights) - room, max(heights) + room),
        across_title=across,
        across_ticks=sorted(set(places)) if layers else (0, 0.25, 0.5, 0.75, 1),
        across_text="format(datum.value, '~g')",
    )
    return stack(
        charts.curves(rows, frame, x="x"),
        charts.points(rows, frame, {"label": "layers", "x": across, "y": "mean"}, x="x"),
        charts.labels(rows, frame, x="x"),
    )


# Predictors -------------------------------------------------------------------------------------


def predictor_table(rows: Rows) -> dict[str, Any] | None:
    """Return sentences, headings and cells on the predictors of a group; None without any.

    `rows` are those of `predictions`.
    """
    arms = [arm for arm in ARMS if any(row["arm"] == arm for row in rows)]
    if not arms:
        return None
    cells = {(row["arm"], row["comparison"], row["predictor"]): _cell(row) for row in rows}
    places = [(arm, comparison) for arm in arms for comparison in COMPARISONS]
    names = [name for name in PREDICTORS if any(row["predictor"] == name for row in rows)]
    return {
        "sentences": [sentence for arm in arms for sentence in _sentences(rows, arm)],
        "headings": [f"{arm}, {COMPARISONS[comparison]}" for arm, comparison in places],
        "rows": [
            [PREDICTORS[name], *(cells.get((*place, name), ("–", "")) for place in places)]
            for name in names
        ],
        "splits": max(row["n_splits"] for row in rows),
    }


def _cell(row: Mapping[str, Any]) -> tuple[str, str]:
    half = "" if row["low"] is None else f"±{(row['high'] - row['low']) / 2:.2f}"
    return signed(row["tau"]), half


def signed(value: float) -> str:
    """Return a number with its sign and two digits: `+0.12`, `−1.00`."""
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")


def _sentences(rows: Rows, arm: str) -> Iterable[str]:
    """Say which predictors beat the static list, and which order transfers at one n."""
    found = {(row["comparison"], row["predictor"]): row for row in rows if row["arm"] == arm}
    static = found.get(("over_n", STATIC))
    against = [row for (kind, _), row in found.items() if kind == "over_n_less_static"]
    if static and against:
        order = (
            f"the n of a source and target better than the list “smaller n is better” "
            f"(τ = {signed(static['tau'])})"
        )
        winners = [row for row in against if _is_above(row)]
        if winners:
            names = _names(winners)
            yield f"{arm}: {names} ordered {order}; the other predictors are not shown to."
        else:
            best = max(
                (found["over_n", row["predictor"]] for row in against), key=lambda r: r["tau"]
            )
            yield (
                f"{arm}: no predictor is shown to order {order}; the best, "
                f"{PREDICTORS[best['predictor']]}, has τ = {signed(best['tau'])}."
            )
    within = [row for (kind, _), row in found.items() if kind == "within_n"]
    if within:
        winners = [row for row in within if _is_above(row)]
        if winners:
            yield f"{arm}: at one n, {_names(winners)} ordered the sources and targets."
        else:
            yield f"{arm}: at one n, no predictor is shown to order the sources and targets."


def _is_above(row: Mapping[str, Any]) -> bool:
    low = row["low_simultaneous"]
    return low is not None and low > 0


def _names(rows: Rows) -> str:
    return ", ".join(f"{PREDICTORS[row['predictor']]} ({signed(row['tau'])})" for row in rows)
