"""What is wrong with a sweep that no key shows alone. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from orchestrator.inheritance import in_grid
from orchestrator.spec import A_NAME, NAME, Grid, Splits, Sweep
from orchestrator.yaml_source import Path, Source

Found = tuple[Path, str]


def contradictions(sweep: Sweep, source: Source) -> list[Found]:
    """Where and what; an inherited key is named once, where it was written."""
    found: list[Found] = []
    for name, grid in sweep.parts.items():
        if name and not re.fullmatch(NAME, name):
            found.append((("grids", name), A_NAME))
        found += [(in_grid(name, path, source), text) for path, text in _of_grid(grid)]
    return list(dict.fromkeys(found))


def _of_grid(grid: Grid) -> list[Found]:
    found = _of_splits(grid.splits)
    for field in ("treatments", "seeds", "targets", "images_per_class"):
        if not getattr(grid, field):
            found.append(((field,), "the grid is empty: expected at least one"))
    for field in ("treatments", "layers", "seeds", "targets", "images_per_class"):
        for value in repeated(getattr(grid, field)):
            found.append(((field,), f"{'all' if value is None else value} is given twice"))
    for index, treatment in enumerate(grid.treatments):
        if treatment.startswith(("selffer", "transfer")) and "base" not in grid.treatments:
            found.append((("treatments", index), f"{treatment} copies layers of base: add base"))
        if treatment.startswith("transfer") and grid.splits.whole:
            message = f"{treatment} copies from another half, and whole has one: use grids"
            found.append((("treatments", index), message))
    for path, recipe in (
        (("recipe",), grid.recipe),
        (("fine_tune", "recipe"), grid.fine_tune.recipe),
    ):
        if recipe is not None and (recipe.steps is None) == (recipe.epochs is None):
            count = "neither" if recipe.steps is None else "both"
            found.append((path, f"expected steps or epochs, found {count}"))
            break  # what fine-tuned trials inherit is said once
    return found


def _of_splits(splits: Splits) -> list[Found]:
    names = [f"s{seed}" for seed in splits.random] + [*splits.known, *splits.named]
    found: list[Found] = []
    if not names and not splits.whole:
        expected = "expected seeds under random, known or named splits, or whole"
        found.append((("splits",), f"the grid is empty: {expected}"))
    for name in splits.named:
        if not re.fullmatch(NAME, name):
            found.append((("splits", "named", name), A_NAME))
    for name in repeated([*names, *(["whole"] if splits.whole else [])]):
        found.append((("splits",), f"two splits are called {name}"))
    if splits.sizes and not splits.random:
        found.append((("splits", "sizes"), "sizes are of random splits: give seeds under random"))
    for size in repeated(splits.sizes):
        found.append((("splits", "sizes"), f"{size} is given twice"))
    return found


def repeated(values: Sequence[Any]) -> list[Any]:
    """What occurs more than once."""
    return [value for value, count in Counter(values).items() if count > 1]
