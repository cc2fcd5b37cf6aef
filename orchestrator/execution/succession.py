"""Comparison of a plan with the recorded sweep of the same name."""

from __future__ import annotations

from typing import Any

from orchestrator.errors import LayerwiseError, StoreError, SweepError
from orchestrator.plan.plan import Plan
from orchestrator.store.store import Store, SweepRecord
from orchestrator.sweep.load import load_recorded
from orchestrator.sweep.schema import Grid
from orchestrator.sweep.settings import differences, settings

# A larger grid keeps its cells; every other key changes them.
AXES = set(Grid.model_fields) - {"recipe", "fine_tune"}
CELL = [
    "split_hash",
    "images_per_class",
    "source",
    "target",
    "treatment",
    "n",
    "frozen",
    "seed",
]
MOST_SHOWN = 3


def leaving(plan: Plan, store: Store) -> int:
    """Return how many recorded trials the plan lacks because code or data changed since.

    A sweep may grow under its name. Raises `LayerwiseError` if recorded trials are not in the plan
    because settings differ: their results and report would be replaced.
    """
    name = plan.sweep.name
    if name not in store.sweep_names():
        return 0
    try:
        ids = store.members(name, ["id"])["id"].to_pylist()
    except StoreError:
        if store.sweep_path(name) in store.damage.reasons or name not in store.sweep_names():
            return 0  # the run writes a record again that is damaged, or was set aside meanwhile
        raise
    left = set(ids) - {trial.id for trial in plan.members}
    if not left:
        return 0
    recorded = store.members(name).to_pylist()
    left = {row["id"] for row in recorded} - {trial.id for trial in plan.members}
    cells = {_cell(trial.labels()) for trial in plan.members}
    cells_stay = all(_cell(row) in cells for row in recorded)
    if texts := _differences(plan, store.sweep_record(name), cells_stay):
        more = f" and {len(texts) - MOST_SHOWN} more" if len(texts) > MOST_SHOWN else ""
        raise LayerwiseError(
            f"{store.root} has another sweep {name!r}: {', '.join(texts[:MOST_SHOWN])}{more}. "
            "Give this one another `name:`, or leave the file as it was and change it with --set, "
            "or replace the other one with `layerwise run --replace`"
        )
    return len(left)


def _cell(labels: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(labels[name] for name in CELL)


def _differences(plan: Plan, record: SweepRecord, cells_stay: bool) -> list[str]:
    """Return the settings that differ: `recipe.steps was 400 and is 100`.

    If all recorded cells are in the plan, keys that only make it larger do not count.
    """
    forms = plan.source.forms if record.forms is None else record.forms
    try:
        old = settings(load_recorded(plan.sweep.name, record.text, forms)[0])
    except SweepError:
        return [] if record.text == plan.source.record() else ["its file was another"]
    new = settings(plan.sweep)
    texts = differences(old, new)
    if cells_stay:
        grids = {_grid(key) for key in old}
        texts = {k: v for k, v in texts.items() if not _is_axis(k) and _grid(k) in grids}
    return [f"{key} {text}" for key, text in texts.items()]


def _grid(key: str) -> str | None:
    """Return the grid of a key such as `grids.small.seeds`; None for a key of the sweep."""
    parts = key.split(".")
    return parts[1] if parts[0] == "grids" else None


def _is_axis(key: str) -> bool:
    parts = key.split(".")
    return parts[2 if parts[0] == "grids" else 0] in AXES
