"""The searches of a sweep in its report: trials, importances, and the gain of the choice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from orchestrator.execution.suggestions import importances
from orchestrator.plan.study import best
from orchestrator.report import charts
from orchestrator.report.charts import Frame, Panel, Row, span, stack
from orchestrator.report.search_status import TUNED, tried
from orchestrator.report.wording import bounds, count, percent, points
from orchestrator.states import State
from orchestrator.stats.search_gain import TOGETHER
from orchestrator.stats.statistics import Statistics
from orchestrator.store.store import Store
from orchestrator.sweep.records import recipe_from
from trainers.recipe import Recipe
from trainers.schedules import factor, fresh_steps

BEST = 3  # schedules that are drawn beside the sweep's own
LISTED = 8  # schedules in the table
POINTS = 200  # of a drawn schedule
LOOKS = {  # kind of trial: (colour, shape) of its mark in the history
    State.COMPLETE: ("#08519c", "circle"),
    State.PRUNED: ("#8a8a8a", "cross"),
    "the sweep's own": ("#222222", "square"),
}
CURVES = ("#b2400b", "#e08a1e", "#4a98d3")

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class SearchSection:
    """One search on the page. `panels` are its figure, `held_out` its rows of that view."""

    name: str
    role: str
    summary: str
    verdict: str
    panels: list[Panel] = field(default_factory=list)
    best: list[dict[str, Any]] = field(default_factory=list)
    importances: list[tuple[str, str]] = field(default_factory=list)
    held_out: list[dict[str, Any]] = field(default_factory=list)


def search_sections(
    store: Store, studies: Iterable[Mapping[str, Any]], statistics: Statistics
) -> list[SearchSection]:
    """Return a section per study of a sweep whose first trial has ended.

    `studies` are those of the sweep's record.
    """
    sections = []
    for study in studies:
        rows = [
            row for row in store.study_trials(study["series"]) if row["number"] < study["trials"]
        ]
        if rows:
            held_out = statistics.held_out.to_pylist()
            worth = [row for row in held_out if row["study"] == study["id"]]
            sections.append(_section(study, rows, worth))
    return sections


def search_notes(members: pa.Table) -> list[str]:
    """Return notes on unequal tuning for the top of the page."""
    if not any(members["tuning_unequal"].to_pylist()):
        return []
    return [
        "The schedule of fine-tuned networks was searched, that of base_long was not "
        "(tuning_unequal): a difference between them is not due to transfer alone."
    ]


def _section(study: Mapping[str, Any], rows: Rows, worth: Rows) -> SearchSection:
    ranked = sorted(
        (row for row in rows if row["state"] == State.COMPLETE),
        key=lambda row: (-row["value"], row["number"]),
    )
    own_row = next((row for row in ranked if row["number"] == 0), None)
    return SearchSection(
        name=f"search_{study['role']}",
        role=TUNED[study["role"]],
        summary=_summary(study, rows),
        verdict=_verdict(study, rows, worth),
        panels=_panels(rows, ranked, own_row) if ranked else [],
        best=[
            {
                "number": row["number"],
                "value": percent(row["value"], 2),
                "tried": tried(row),
                "own": row["number"] == 0,
            }
            for row in [*ranked[:LISTED], *(r for r in ranked[LISTED:] if r is own_row)]
        ],
        importances=[(name, f"{percent(part, 0)} %") for name, part in importances(rows).items()],
        held_out=[dict(row) for row in worth],
    )


def _summary(study: Mapping[str, Any], rows: Rows) -> str:
    """Describe the search and how its trials ended."""
    declared = json.loads(rows[0]["search"])
    states = Counter(row["state"] for row in rows)
    ended = ", ".join(f"{states[name]} {name}" for name in states)
    missing = study["trials"] - len(rows)
    return (
        f"{count(study['trials'], 'trial')} of {count(rows[0]['planned'], 'network')} each "
        f"(sampler {declared['sampler']}, pruner {declared['pruner']}, up to "
        f"{declared['at_once']} at once): {ended}{f', {missing} not run' if missing else ''}. "
        "A trial's value is the mean validation top-1 of its networks. These see no test image, "
        "and their splits are not reported."
    )


def _verdict(study: Mapping[str, Any], rows: Rows, worth: Rows) -> str:
    """State the gain of the choice, on the search's own validation and on held-out splits."""
    chosen = best(rows) if len(rows) == study["trials"] else None
    if chosen is None:
        done = len(rows) == study["trials"]
        return "Every trial failed." if done else "The search has not ended."
    text = f"Trial {chosen['number']} is chosen"
    own_row = next(row for row in rows if row["number"] == 0)
    if chosen["number"] == 0:
        text += ", the sweep's own schedule: no other trial is better."
    elif own_row["value"] is not None:
        gain = points(chosen["value"] - own_row["value"])
        text += f", {gain} points above the sweep's own schedule on the search's own networks."
    else:
        text += "; the sweep's own schedule failed."
    together = TOGETHER if study["role"] == "fine_tune" else "base_long"
    for row in worth:
        if (row["arm"], row["n"]) == (together, 0):
            text += (
                f" On the test images of held-out splits ({row['division']}): "
                f"{points(row['estimate'])} points{bounds(row)} over "
                f"{count(row['n_pairs'], 'pair')} of networks in {count(row['n_splits'], 'split')}."
            )
    return text


def _panels(rows: Rows, ranked: Rows, own_row: Mapping[str, Any] | None) -> list[Panel]:
    shown = [*(row for row in ranked[:BEST] if row is not own_row), *([own_row] if own_row else [])]
    recipes = {_label(row): recipe_from(json.loads(row["recipe"])) for row in shown}
    colours = dict(zip(recipes, CURVES, strict=False)) | {"own": "#222222"}
    panels = [
        Panel("Validation top-1 of each trial, and the best so far, %", _history(rows)),
        Panel("Rate of fresh layers over the steps", _schedules(recipes, colours, copied=False)),
    ]
    if "copied_rate" in {name for row in rows for name in json.loads(row["parameters"])}:
        panels.append(
            Panel(
                "Rate of the highest copied layer over the steps",
                _schedules(recipes, colours, copied=True),
            )
        )
    return panels


def _label(row: Mapping[str, Any]) -> str:
    return f"trial {row['number']}" if row["number"] else "own"


def _history(rows: Rows) -> Any:
    """Draw each trial's value by its number, and a line of the best so far."""
    known = [row for row in rows if row["value"] is not None]
    marks: list[Row] = []
    line: list[Row] = []
    highest = None
    for row in known:
        kind = row["state"] if row["number"] else "the sweep's own"
        colour, shape = LOOKS[kind]
        value = 100 * row["value"]
        marks.append(
            {"label": kind, "colour": colour, "ink": colour, "shape": shape}
            | {"x": row["number"], "y": value, "tried": tried(row), "trial": row["number"]}
        )
        if row["state"] == State.COMPLETE:
            highest = value if highest is None else max(highest, value)
            line.append(
                {"label": "best so far", "colour": "#e08a1e", "dash": [1, 0]}
                | {"x": row["number"], "y": highest}
            )
    frame = Frame(
        (-0.5, max(row["number"] for row in rows) + 0.5),
        span(row["y"] for row in marks),
        across_title="study trial",
    )
    hover = {"trial": "trial", "label": "state", "y": "validation top-1, %", "tried": "tried"}
    return stack(charts.curves(line, frame, x="x"), charts.points(marks, frame, hover, x="x"))


def _schedules(recipes: Mapping[str, Recipe], colours: Mapping[str, str], *, copied: bool) -> Any:
    """Draw the learning rate of each recipe over the steps."""
    drawn: list[Row] = []
    for label, recipe in recipes.items():
        steps = recipe.steps or 1
        dash = [5, 2] if label == "own" else [1, 0]
        look = {"label": label, "colour": colours[label], "ink": colours[label], "dash": dash}
        for step in range(0, steps, max(1, steps // POINTS)):
            rate = recipe.rate * factor(recipe.schedule, step, steps)
            if copied:
                rate *= recipe.copied_rate if step >= fresh_steps(recipe) else 0.0
            drawn.append({**look, "x": step, "y": rate})
    highest = max(row["y"] for row in drawn)
    frame = Frame((0, max(row["x"] for row in drawn)), (0.0, 1.05 * highest))
    return stack(charts.curves(drawn, frame, x="x"), charts.labels(drawn, frame, x="x"))
