"""Figures of a sweep, one at a time, as a notebook asks for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.errors import LayerwiseError
from orchestrator.report import charts, figures, learning_figures
from orchestrator.report.alternatives import text_of
from orchestrator.report.charts import Frame, Panel, span, stack
from orchestrator.report.figure import Figure
from orchestrator.report.figures import AGAINST_BASE, has_band
from orchestrator.report.wording import population
from orchestrator.stats.effects import group_of
from orchestrator.stats.measurements import Group
from orchestrator.stats.statistics import Statistics

Row = Mapping[str, Any]
SCORES = (  # title of a panel, the columns of a curve that it draws, and their factor
    ("top-1, %", {"val_top1": "validation"}, 100),
    ("mAP, %", {"val_map50": "validation"}, 100),
    ("loss", {"train_loss": "training", "val_loss": "validation"}, 1),
)
COLOURS = {"training": charts.COLOURS["AnB+"], "validation": charts.COLOURS["BnB"]}


def effects_figure(statistics: Statistics) -> Figure:
    """Draw the mean difference of every treatment to its own base, with intervals."""
    return _by_group(
        statistics,
        lambda rows: [
            Panel(
                "Mean difference to the own base, points", figures.lines(rows, AGAINST_BASE, "base")
            )
        ],
        width=560,
    )


def decomposition_figure(statistics: Statistics) -> Figure:
    """Draw the losses of frozen features, and the gains of fine-tuning beside longer training."""
    return _by_group(statistics, figures.decomposition)


def table1_figure(statistics: Statistics) -> Figure:
    """Draw the paired differences of Table 1, by the first layer of their range."""
    rows = [row for row in statistics.table1.to_pylist() if row["paired"] is not None]
    if not rows:
        raise LayerwiseError("no row of Table 1 yet: fine-tuned transfers must be complete")
    groups: dict[Group, list[Row]] = {}
    for row in rows:
        versus = f"AnB+ − {row['versus']}"
        look = charts.style("AnB+" if row["versus"] == "base" else "recovery", versus)
        place = {"n": int(row["layers"].partition("-")[0]), "y": row["paired"]}
        bounds = {"low": row["paired_low"], "high": row["paired_high"]}
        groups.setdefault(group_of(row), []).append(look | place | bounds)
    panels = []
    for group in sorted(groups, key=lambda group: group.place):
        of_group = groups[group]
        heights = [0.0, *(x[key] for x in of_group for key in ("y", "low", "high"))]
        frame = charts.layer_frame({row["n"] for row in of_group}, span(heights))
        hover = {"label": "difference", "y": "points", "low": "from", "high": "to"}
        marks = [charts.curves(of_group, frame), charts.points(of_group, frame, hover)]
        where = f"{population(group)}: " if len(groups) > 1 else ""
        title = f"{where}Paired difference over n to the last layer, points"
        chart = stack(*charts.bands(of_group, frame), *marks, charts.labels(of_group, frame))
        panels.append(Panel(title, chart))
    return Figure(panels, text_of(panels), width=560)


def curves_figure(statistics: Statistics, trial: str | None = None) -> Figure:
    """Draw the learning curve of one trial, by its name or id; without one, means by treatment.

    Raises `LayerwiseError` for an unknown trial, or one without a curve.
    """
    if trial is None:
        rows = learning_figures.learning(statistics.networks, statistics.heights)
        if not rows:
            raise LayerwiseError("no complete network has a curve yet")
        panels = learning_figures.learning_figure(rows, choose=False)
        return Figure(panels, f"Mean validation top-1, %. {text_of(panels)}", columns=3, width=280)
    id, name = trial_of(statistics, trial)
    rows = [row for row in statistics.curves.to_pylist() if row["id"] == id]
    if not rows:
        raise LayerwiseError(f"{name} has no curve")
    panels = [
        _curve(f"{name}: {title}", points)
        for title, columns, scale in SCORES
        if (points := _points(rows, columns, scale))
    ]
    return Figure(panels, text_of(panels))


def trial_of(statistics: Statistics, text: str) -> tuple[str, str]:
    """Return id and name of the trial with this name or beginning of an id.

    Raises `LayerwiseError` for none, or for several.
    """
    members = statistics.members.select(["id", "name"]).to_pylist()
    known = {row["id"]: row["name"] for row in members}
    named = {id for id, name in known.items() if name == text}
    ids = named or {id for id in known if id.startswith(text)}
    if len(ids) == 1:
        (id,) = ids
        return id, known[id]
    if ids:
        raise LayerwiseError(f"{text!r} names {len(ids)} trials: choose a sweep, or give an id")
    some = ", ".join(map(repr, sorted(set(known.values()))[:5]))
    raise LayerwiseError(f"no trial {text!r}; expected an id or a name such as {some}")


def _points(rows: Sequence[Row], columns: Mapping[str, str], scale: int) -> list[Row]:
    return [
        {"label": name, "colour": COLOURS[name], "ink": COLOURS[name], "dash": [1, 0]}
        | {"shape": "circle", "step": row["step"], "y": scale * row[column]}
        for column, name in columns.items()
        for row in sorted(rows, key=lambda row: row["step"])
        if row[column] is not None
    ]


def _curve(title: str, rows: Sequence[Row]) -> Panel:
    frame = Frame((0, max((row["step"] for row in rows), default=1)), span(x["y"] for x in rows))
    hover = {"label": "images", "step": "step", "y": "value"}
    marks = [charts.curves(rows, frame, x="step"), charts.points(rows, frame, hover, x="step")]
    return Panel(title, stack(*marks, charts.labels(rows, frame, x="step")))


def _by_group(statistics: Statistics, draw: Any, **options: int) -> Figure:
    """Draw the effects of every group, each in panels of its own."""
    groups: dict[Group, list[dict[str, Any]]] = {}
    for row in statistics.effects.to_pylist():
        if row["at_chance"] == "included":
            groups.setdefault(group_of(row), []).append(row)
    if not groups:
        raise LayerwiseError("no effect yet: a network and its base must be complete")
    panels = []
    for group in sorted(groups, key=lambda group: group.place):
        for panel in draw(groups[group]):
            where = f"{population(group)}: " if len(groups) > 1 else ""
            panels.append(Panel(f"{where}{panel.title}", panel.chart))
    return Figure(
        panels, _with_intervals(panels, [x for rows in groups.values() for x in rows]), **options
    )


def _with_intervals(panels: Sequence[Panel], rows: Iterable[Row]) -> str:
    bands = " Bands are pointwise 95 % intervals." if any(map(has_band, rows)) else ""
    return text_of(panels) + bands
