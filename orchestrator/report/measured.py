"""Measurements of a group: three figures, and predictors beside the static list. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.report import charts
from orchestrator.report.charts import WITHOUT_N, Frame, Panel, Row, Rows, layer_colours, stack
from orchestrator.stats.comparisons import CHANGE
from orchestrator.stats.measurements import is_direction
from orchestrator.stats.predictions import STATIC

ARMS = ("BnB", "BnB+", "AnB", "AnB+")
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


def measured_figures(comparisons: Iterable[Row]) -> dict[str, list[Panel]]:
    """Return the figures of the measurements of a group, by name; absent without any.

    `comparisons` are the group's rows of the view of that name.
    """
    rows = sorted(comparisons, key=lambda row: (row["arm"] != "base", row["arm"], row["against"]))
    figures = {
        "weights": _panels(
            [row for row in rows if row["quantity"] == CHANGE],
            "{arm}: distance of the weights from their start, share of their norm",
            "layer",
        ),
        "interpolation": _panels(
            [row for row in rows if row["quantity"] == "loss"],
            "{arm}: validation loss on the way from the {against}",
            "position",
        ),
        "similarity": _panels(
            [row for row in rows if row["quantity"] == "debiased_cka"],
            "{arm} and {against}: similarity of their outputs (CKA)",
            "layer",
        ),
    }
    return {name: panels for name, panels in figures.items() if panels}


def _panels(rows: Rows, title: str, across: str) -> list[Panel]:
    """Return a panel per arm and network that it is compared with, a line per n."""
    layers = sorted({row["n"] for row in rows} - {0})
    looks = layer_colours(layers)
    marks: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row[across]):
        name = title.format(arm=row["arm"], against=row["against"])
        marks.setdefault(name, []).append(_mark(row, row[across], looks))
    names = dict.fromkeys(title.format(arm=row["arm"], against=row["against"]) for row in rows)
    everything = [mark for some in marks.values() for mark in some]
    return [Panel(name, _chart(marks[name], everything, across)) for name in names]


def _mark(row: Mapping[str, Any], x: float, looks: Mapping[int, str]) -> Row:
    colour = looks.get(row["n"], WITHOUT_N)
    look = {"colour": colour, "ink": colour, "shape": "circle", "dash": [1, 0]}
    half = "none" if row["low"] is None else f"{(row['high'] - row['low']) / 2:.3f}"
    label = f"n = {row['n']}" if row["n"] else "bases"
    return look | {"label": label, "n": row["n"], "x": x, "y": row["value"], "half": half}


def _chart(rows: list[Row], everything: Rows, across: str) -> Any:
    """Draw lines; all panels of a figure share their axes."""
    places = [row["x"] for row in everything]
    low, high = min(places), max(places)
    heights = [row["y"] for row in everything]
    room = 0.05 * ((max(heights) - min(heights)) or 1.0)
    layers = across == "layer"
    frame = Frame(
        (low - 0.5, high + 0.5) if layers else (0.0, 1.0),
        (min(heights) - room, max(heights) + room),
        across_title=across if layers else "base of the target (0) to the network (1)",
        across_ticks=sorted(set(places)) if layers else (0, 0.25, 0.5, 0.75, 1),
        across_text="format(datum.value, '~g')",
    )
    hover = {"label": "layers", "x": across, "y": "mean", "half": "± (95 %)"}
    return stack(
        charts.curves(rows, frame, x="x"),
        charts.points(rows, frame, hover, x="x"),
        charts.labels(rows, frame, x="x"),
    )


# Predictors -------------------------------------------------------------------------------------


def predictor_figure(rows: Rows) -> list[Panel]:
    """Return a panel per arm and order: tau-b of every predictor with its interval, and the list.

    `rows` are those of `predictions`, of one group.
    """
    names = [name for name in PREDICTORS if any(row["predictor"] == name for row in rows)]
    looks = dict(zip(names, charts.SERIES[1:], strict=False)) | {STATIC: charts.SERIES[0]}
    panels = []
    for arm in ARMS:
        for comparison in ("over_n", "within_n"):
            marks = [
                _predictor(row, names.index(row["predictor"]), looks)
                for row in rows
                if (row["arm"], row["comparison"]) == (arm, comparison)
            ]
            if marks:
                frame = Frame(
                    (-0.5, len(names) - 0.5),
                    (-1.2, 1.2),
                    across_title="predictors",
                    across_ticks=(0,),
                    across_text="''",
                )
                hover = {"label": "predictor", "y": "τ", "half": "± (95 %)"}
                chart = stack(
                    *charts.bands(marks, frame),
                    charts.points(marks, frame, hover),
                    charts.labels(marks, frame),
                )
                title = f"{arm}: τ with the measured accuracy, {COMPARISONS[comparison]}"
                panels.append(Panel(title, chart))
    return panels


def _predictor(row: Mapping[str, Any], place: int, looks: Mapping[str, str]) -> Row:
    name = row["predictor"]
    look = {"colour": looks[name], "ink": looks[name], "dash": [1, 0]}
    look["shape"] = "square" if name == STATIC else "circle"
    bounds = {key: row[key] for key in ("low", "high")}
    half = "none" if row["low"] is None else f"{(row['high'] - row['low']) / 2:.2f}"
    return look | bounds | {"label": PREDICTORS[name], "n": place, "y": row["tau"], "half": half}


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
        alone = {name: row for (kind, name), row in found.items() if kind == "over_n"}
        order = "the n of a source and target"
        list_of_n = f"the list “smaller n is better” (τ = {signed(static['tau'])})"
        best = max((alone[row["predictor"]] for row in against), key=lambda row: row["tau"])
        if winners := [alone[row["predictor"]] for row in against if _is_above(row)]:
            names = _names(winners)
            yield f"{arm}: {names} ordered {order} better than {list_of_n}; no other is shown to."
        elif all(_is_below(row) for row in against):
            names = _names([best])
            yield (
                f"{arm}: every predictor ordered {order} worse than {list_of_n}; the best is "
                f"{names}."
            )
        else:
            names = _names([best])
            yield (
                f"{arm}: no predictor is shown to order {order} better than {list_of_n}; the best "
                f"is {names}."
            )
    within = [row for (kind, _), row in found.items() if kind == "within_n"]
    if within:
        between_tasks = is_direction(within[0]["division"])
        choice = "the sources of the target" if between_tasks else "the sources and targets"
        winners = [row for row in within if _is_above(row)]
        if winners:
            yield f"{arm}: at one n, {_names(winners)} ordered {choice}."
        else:
            yield f"{arm}: at one n, no predictor is shown to order {choice}."


def _is_above(row: Mapping[str, Any]) -> bool:
    low = row["low_simultaneous"]
    return low is not None and low > 0


def _is_below(row: Mapping[str, Any]) -> bool:
    high = row["high_simultaneous"]
    return high is not None and high < 0


def _names(rows: Rows) -> str:
    return ", ".join(f"{PREDICTORS[row['predictor']]} ({signed(row['tau'])})" for row in rows)
