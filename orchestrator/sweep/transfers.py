"""Named tasks and files of weights of a sweep: their transfers, and mistakes in them. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from orchestrator.sweep.fields import A_NAME, NAME
from orchestrator.sweep.schema import Grid, Sweep
from orchestrator.sweep.source import Path
from trainers.spelling import hint

Problem = tuple[Path, str]  # key and message
RECIPE = ("fine_tune", "recipe")


def in_tasks(sweep: Sweep) -> list[Problem]:
    """Return mistakes in the named tasks and files of weights of a sweep."""
    problems: list[Problem] = []
    for name, task in sweep.tasks.items():
        path = ("tasks", name)
        if not re.fullmatch(NAME, name):
            problems.append((path, A_NAME))
        if name in ("A", "B"):
            problems.append((path, f"{name} is the name of a half in tables: give another name"))
        if task.images is not None and task.images_per_class is not None:
            problems.append(((*path, "images"), "expected images or images_per_class, found both"))
        if not task.balanced and task.images is None:
            problems.append(((*path, "balanced"), "balanced belongs to images: give images"))
        for seed in repeated(task.draws):
            problems.append(((*path, "draws"), f"{seed} is given twice"))
    for name, weights in sweep.weights.items():
        path = ("weights", name)
        if not re.fullmatch(NAME, name):
            problems.append((path, A_NAME))
        if name in (*sweep.tasks, "A", "B"):
            problems.append((path, f"{name} is the name of a task or a half: give another name"))
        if weights.deviation and not weights.mean:
            problems.append(((*path, "deviation"), "give mean too"))
    if sweep.weights and not sweep.tasks:
        problems.append((("weights",), "weights are copied to named tasks: give tasks"))
    return problems


def in_directions(sweep: Sweep, grid: Grid) -> list[Problem]:
    """Return unknown names in a grid of named tasks, and keys that it cannot have."""
    problems: list[Problem] = []
    sources, targets = [*sweep.tasks, *sweep.weights], [*sweep.tasks]

    def check(path: Path, name: str, known: Sequence[str]) -> None:
        if name not in known:
            near = hint(name, known) or f"; known: {', '.join(known)}"
            problems.append((path, f"no task {name!r}{near}"))

    for index, name in enumerate(grid.sources):
        check(("sources", index), name, sources)
    for index, name in enumerate(grid.targets or ()):
        check(("targets", index), name, targets)
    for index, (source, target) in enumerate(grid.transfers):
        check(("transfers", index, 0), source, sources)
        check(("transfers", index, 1), target, targets)
        if source == target:
            message = f"{source} to itself is no transfer: selffer copies from the same task"
            problems.append((("transfers", index), message))
    if grid.transfers and (grid.sources or grid.targets):
        problems.append((("transfers",), "expected transfers, or sources and targets, found both"))
    if not problems and not pairs(sweep, grid):
        problems.append((("sources",), "the grid is empty: no source differs from its target"))
    if grid.fine_tune.search is not None:
        message = "a search needs splits that are not reported: named tasks have none"
        problems.append((("fine_tune", "search"), message))
    return problems or [*_in_draws(sweep, grid), *_in_forms(sweep, grid)]


def _in_draws(sweep: Sweep, grid: Grid) -> list[Problem]:
    """Return sources whose draws do not go with those of their target."""
    problems: list[Problem] = []
    for source, target in pairs(sweep, grid):
        if source in sweep.tasks:
            first, second = (len(sweep.tasks[name].draws) or 1 for name in (source, target))
            if 1 not in (first, second) and first != second:
                message = (
                    f"{source} has {first} draws and its target {target} has {second}: "
                    "expected equally many, or one"
                )
                problems.append((("tasks", source, "draws"), message))
    return problems


def _in_forms(sweep: Sweep, grid: Grid) -> list[Problem]:
    """Return the keys that contradict the mean and deviation of a form or a file of weights."""
    problems: list[Problem] = []
    for name in dict.fromkeys(name for name, _ in pairs(sweep, grid) if name in sweep.weights):
        if grid.form.mean and sweep.weights[name].mean:
            message = f"{name} declares its mean: leave mean and deviation out of form"
            problems.append((("form", "mean"), message))
        if grid.recipe.normalise == "source":
            message = f"{name} is a file without images: declare its mean and deviation"
            problems.append((("recipe", "normalise"), message))
    for recipe, path in ((grid.recipe, ("recipe",)), (grid.fine_tune.recipe, RECIPE)):
        for key, default in (("normalise", "target"), ("pixels", "standard")):
            if grid.form.mean and recipe is not None and getattr(recipe, key) != default:
                message = f"the form declares mean and deviation: leave {key} out"
                problems.append(((*path, key), message))
    return problems


def pairs(sweep: Sweep, grid: Grid) -> list[tuple[str, str]]:
    """Return the transfers of a grid of named tasks: pairs of source and target."""
    if grid.transfers:
        return list(grid.transfers)
    sources = grid.sources or (*sweep.tasks, *sweep.weights)
    targets = grid.targets or tuple(sweep.tasks)
    return [(source, target) for target in targets for source in sources if source != target]


def repeated(values: Sequence[Any]) -> list[Any]:
    """Return values that occur more than once."""
    return [value for value, count in Counter(values).items() if count > 1]
