"""Conditions: the settings that distinguish the grids of a sweep, beyond its own axes. Pure.

Networks are compared under one condition only. Treatments, layers, splits, targets, seeds and
images per class are axes of a comparison; all other settings that differ are its condition.
"""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from orchestrator.plan.grid import OF_FINE_TUNED, OF_FROZEN, OF_LEARNING_COPIES, OF_STITCHED
from orchestrator.plan.trial import Trial
from orchestrator.sweep.schema import Grid
from trainers.config import Treatment
from trainers.recipe import Recipe

Settings = dict[str, Any]  # dotted key → value
Place = tuple[str, int | None]  # division and images per class

STITCHED = ("stitched", "stitched_self")  # all that is copied is frozen, whatever the recipe says
OF_RANDOM = ("init_random",)  # keys of a recipe that only random filters use


def with_conditions(grids: Sequence[tuple[Grid, Sequence[Trial]]]) -> Iterator[Trial]:
    """Yield the trials of the grids with their conditions, and with names that tell them apart.

    Grids of equal settings share a condition. A grid that leaves a setting open, because none of
    its treatments uses it, belongs to every condition that agrees with it otherwise, so one
    training may be a member under several conditions. The condition is None where no other grid
    has the same splits and images per class under other settings.
    """
    settings = [_settings(grid) for grid, _ in grids]
    by_place: dict[Place, list[Settings]] = defaultdict(list)
    for (_, trials), used in zip(grids, settings, strict=True):
        for place in dict.fromkeys(map(_place, trials)):
            by_place[place].append(used)
    for (_, trials), used in zip(grids, settings, strict=True):
        conditions = {
            place: _conditions(used, by_place[place])
            for place in dict.fromkeys(map(_place, trials))
        }
        for trial in trials:
            for condition in conditions[_place(trial)]:
                yield _under(trial, condition)


def readable(condition: str | None) -> str:
    """Return `rate=0.05, fine_tune.steps=100` for a condition in JSON, and nothing for None.

    A setting that fine-tuning has from the recipe is named once.
    """
    settings = json.loads(condition) if condition else {}
    inherited = {f"fine_tune.{key}": value for key, value in settings.items()}
    settings = {k: v for k, v in settings.items() if k not in inherited or inherited[k] != v}
    return ", ".join(
        f"{key.removeprefix('recipe.').replace('.recipe.', '.')}="
        f"{value if isinstance(value, str) else json.dumps(value)}"
        for key, value in settings.items()
    )


def _place(trial: Trial) -> Place:
    return trial.division, trial.images_per_class


def _settings(grid: Grid) -> Settings:
    """Return the settings that the treatments of a grid use."""
    kinds = {name for name in grid.treatments if not Treatment.of(name).fine_tuned}
    tuned = kinds != set(grid.treatments)
    settings: Settings = {
        f"splits.{key}": getattr(grid.splits, key) for key in ("reserved", "negatives")
    }
    unused = set(OF_FINE_TUNED)
    unused |= set() if grid.recipe.freeze or grid.recipe.learn else set(OF_LEARNING_COPIES)
    unused |= set() if "random" in kinds else set(OF_RANDOM)
    unused |= set() if kinds - {"base", "base_long", *STITCHED} else set(OF_FROZEN)
    unused |= set() if kinds & {*STITCHED} else set(OF_STITCHED)
    settings |= _flat("recipe", grid.recipe, unused)
    settings |= {f"form.{key}": value for key, value in dataclasses.asdict(grid.form).items()}
    if tuned or "base_long" in kinds:
        fine_tune = grid.fine_tune.recipe or grid.recipe
        settings |= _flat("fine_tune.recipe", fine_tune, {*OF_RANDOM, *OF_FROZEN, *OF_STITCHED})
        search = grid.fine_tune.search
        settings["fine_tune.search"] = search and search.model_dump(mode="json")
    return settings


def _flat(prefix: str, recipe: Recipe, unused: Collection[str]) -> Settings:
    values = {k: v for k, v in dataclasses.asdict(recipe).items() if k not in unused}
    schedule = {f"schedule.{k}": v for k, v in values.pop("schedule").items()}
    if "classifier" in values:
        values["classifier"] = recipe.classifier.label if recipe.classifier else "none"
    values["detector"] = recipe.detector.label if recipe.detector else "default"
    return {f"{prefix}.{key}": value for key, value in (values | schedule).items()}


def _conditions(used: Settings, beside: Sequence[Settings]) -> list[Settings]:
    """Return the conditions of a grid among those with the same splits and images per class."""
    differing = {
        key
        for settings in beside
        for key, value in settings.items()
        if any(other.get(key, value) != value for other in beside)
    }
    reduced = [{k: v for k, v in settings.items() if k in differing} for settings in beside]
    own = {k: v for k, v in used.items() if k in differing}
    agreeing = [x for x in reduced if _agree(x, own) and _may_join(own, x, reduced)]
    most = max(map(len, agreeing))
    conditions: list[Settings] = []
    for settings in agreeing:
        if len(settings) == most and settings not in conditions:
            conditions.append(settings)
    return conditions


def _agree(one: Settings, other: Settings) -> bool:
    return all(other.get(key, value) == value for key, value in one.items())


def _may_join(own: Settings, condition: Settings, grids: Sequence[Settings]) -> bool:
    """Return whether a grid is pooled under a condition with none that it contradicts."""
    if own.items() <= condition.items():
        return True
    return all(_agree(grid, own) for grid in grids if _agree(grid, condition))


def _under(trial: Trial, settings: Settings) -> Trial:
    if not settings:
        return trial
    condition = json.dumps(dict(sorted(settings.items())), default=str)
    name = f"{trial.name} {readable(condition)}"
    return dataclasses.replace(trial, condition=condition, name=name)
