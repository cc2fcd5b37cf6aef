"""Mistakes of a sweep that no single key shows. Pure."""

from __future__ import annotations

import re

from orchestrator.errors import SweepError
from orchestrator.sweep.axes import SEPARATOR
from orchestrator.sweep.fields import A_NAME, NAME
from orchestrator.sweep.inheritance import in_grid
from orchestrator.sweep.schema import COPYING, FROM_SOURCE, Grid, Splits, Sweep
from orchestrator.sweep.source import Source, shown
from orchestrator.sweep.transfers import Problem, in_directions, in_tasks, repeated

POPULATIONS = r"(random(-\d+)?|whole|drawn)(-source)?"  # divisions that no named split may join


def check_consistency(sweep: Sweep, source: Source) -> None:
    """Raise `SweepError` if keys of the sweep contradict each other.

    A mistake in an inherited key is reported once, where the key was written.
    """
    problems: list[Problem] = []
    for name, grid in sweep.parts.items():
        written = name.partition(SEPARATOR)[0]
        if written and not re.fullmatch(NAME, written):
            problems.append((("grids", written), A_NAME))
        named = sweep.has_directions(grid)
        problems += [(in_grid(name, path, source), text) for path, text in _in_grid(grid, named)]
        if named:
            of_tasks = in_directions(sweep, grid)
            problems += [(in_grid(name, path, source), text) for path, text in of_tasks]
        elif sweep.dataset is None:
            problems.append((("dataset",), "the key is missing"))
        problems += [(in_grid(name, path, source), text) for path, text in _in_stops(sweep, grid)]
    problems += in_tasks(sweep)
    problems += _in_features(sweep)
    if problems:
        raise SweepError([source.mistake(path, text) for path, text in dict.fromkeys(problems)])


def _in_grid(grid: Grid, named: bool) -> list[Problem]:
    return [
        *([] if named else [*_in_splits(grid.splits), *_in_halves(grid)]),
        *_in_axes(grid),
        *_in_treatments(grid),
        *_in_lengths(grid),
    ]


def _in_features(sweep: Sweep) -> list[Problem]:
    problems: list[Problem] = []
    for name, asked in sweep.features.items():
        if not re.fullmatch(NAME, name):
            problems.append((("features", name), A_NAME))
        if asked.most is not None and asked.pool != "none":
            message = "it limits the values of pool: none; pooled outputs need no limit"
            problems.append((("features", name, "most"), message))
    return problems


def _in_splits(splits: Splits) -> list[Problem]:
    problems: list[Problem] = []
    names = [f"s{seed}" for seed in splits.random] + [*splits.known, *splits.named]
    if not names and not splits.whole:
        expected = "expected seeds under random, known or named splits, or whole"
        problems.append((("splits",), f"the grid is empty: {expected}"))
    for name in splits.named:
        if not re.fullmatch(NAME, name):
            problems.append((("splits", "named", name), A_NAME))
        elif re.fullmatch(POPULATIONS, name):
            message = f"{name} is the name of other splits in tables: give it another name"
            problems.append((("splits", "named", name), message))
    if splits.drawn and not splits.named:
        problems.append((("splits", "drawn"), "drawn says how named splits came about: give named"))
    for name in repeated([*names, *(["whole"] if splits.whole else [])]):
        problems.append((("splits",), f"two splits are called {name}"))
    if splits.sizes and not splits.random:
        message = "sizes belong to random splits: give seeds under random"
        problems.append((("splits", "sizes"), message))
    for size in repeated(splits.sizes):
        problems.append((("splits", "sizes"), f"{size} is given twice"))
    return problems


def _in_halves(grid: Grid) -> list[Problem]:
    """Return the mistakes in a grid of halves: unknown halves, and keys of named tasks."""
    problems: list[Problem] = []
    for index, letter in enumerate(grid.targets or ()):
        if letter not in ("A", "B"):
            message = f"expected one of A, B, found {shown(letter)}"
            problems.append((("targets", index), message))
    for key in ("sources", "transfers", "form"):
        if getattr(grid, key) != type(grid).model_fields[key].default:
            message = f"{key} belongs to named tasks: give tasks, and no splits in this grid"
            problems.append(((key,), message))
    return problems


def _in_axes(grid: Grid) -> list[Problem]:
    problems: list[Problem] = []
    for key in ("treatments", "seeds", "targets", "images_per_class"):
        if getattr(grid, key) is not None and not getattr(grid, key):
            problems.append(((key,), "the grid is empty: expected at least one"))
    axes = ("treatments", "layers", "seeds", "sources", "targets", "transfers", "images_per_class")
    for key in axes:
        for value in repeated(getattr(grid, key) or ()):
            problems.append(((key,), f"{'all' if value is None else value} is given twice"))
    return problems


def _in_treatments(grid: Grid) -> list[Problem]:
    problems: list[Problem] = []
    for index, treatment in enumerate(grid.treatments):
        if treatment in COPYING and "base" not in grid.treatments:
            message = f"{treatment} copies layers of base: add base"
            problems.append((("treatments", index), message))
        if treatment in FROM_SOURCE and grid.splits.whole:
            message = f"{treatment} copies from another half, and whole has one: use grids"
            problems.append((("treatments", index), message))
        if treatment == "pixels" and grid.recipe.classifier is None:
            message = "pixels fits recipe.classifier to the pixels: add it to the recipe"
            problems.append((("treatments", index), message))
    return problems


def _in_stops(sweep: Sweep, grid: Grid) -> list[Problem]:
    """Return at most one problem: early stopping beside trainings of a fixed length in a figure."""
    tuned = grid.fine_tune.recipe or grid.recipe
    if (grid.recipe.stop is None) != (tuned.stop is None):
        message = "recipe and fine_tune.recipe stand in one figure: stop early in both or in none"
        return [(("fine_tune", "recipe"), message)]
    if grid.recipe.stop and sweep.reference:
        message = "the published networks have a fixed length: leave out stop or reference"
        return [(("recipe", "stop"), message)]
    return []


def _in_lengths(grid: Grid) -> list[Problem]:
    """Return at most one problem, since fine-tuned trials inherit the length of the recipe."""
    for path, recipe in grid.keyed_recipes.items():
        if (recipe.steps is None) == (recipe.epochs is None):
            count = "neither" if recipe.steps is None else "both"
            return [(path, f"expected steps or epochs, found {count}")]
    return []
