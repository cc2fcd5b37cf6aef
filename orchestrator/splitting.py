"""The splits of a grid, and the tasks that their halves are."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from orchestrator.spec import Grid
from orchestrator.yaml_source import Path
from trainers.config import ConfigError, DatasetInfo, DatasetRef, Task
from trainers.splits import Split, known_split, named_split, random_split, whole
from trainers.tasks import training_images


class SplitError(Exception):
    """A grid's splits do not fit the data. `path` names the key below the grid."""

    def __init__(self, path: Path, message: str):
        super().__init__(message)
        self.path = path


def splits_of(grid: Grid, classes: tuple[str, ...]) -> tuple[Split, ...]:
    """The splits of a grid in canonical order. Raises `SplitError`."""
    if len(classes) < 2:
        raise SplitError(("dataset",), "expected at least two classes")
    wanted, count = grid.splits, len(classes)
    for index, size in enumerate(wanted.sizes):
        if size >= count:
            message = f"expected fewer than the {count} classes of the dataset, found {size}"
            raise SplitError(("splits", "sizes", index), message)
    splits = [
        random_split(seed, count, size)
        for size in wanted.sizes or (None,)
        for seed in wanted.random
    ]
    for index, name in enumerate(wanted.known):
        with _below("splits", "known", index):
            splits.append(known_split(name, classes))
    for name, halves in wanted.named.items():
        with _below("splits", "named", name):
            splits.append(named_split(name, halves.members("A"), halves.members("B"), classes))
    if wanted.whole:
        splits.append(whole(count))
    for letter in grid.targets:
        if grid.targets != ("A", "B") and (empty := [s.name for s in splits if not s.half(letter)]):
            raise SplitError(("targets",), f"half {letter} of {empty[0]} has no classes")
    return tuple(splits)


@contextlib.contextmanager
def _below(*path: str | int) -> Iterator[None]:
    """Turns a `ConfigError` into a mistake at this key of the grid, or at the field below it."""
    try:
        yield
    except ConfigError as error:
        raise SplitError((*path, *([error.field] if error.field else [])), str(error)) from error


def task_of(
    dataset: DatasetRef,
    data: DatasetInfo,
    split: Split,
    letter: str,
    *,
    images_per_class: int | None = None,
    reserved: int | None = None,
) -> Task:
    """The task that a half is. A lone class stands against the other half's reserved images.

    `reserved` is by default as many of each class as give the lone class its own number of images
    in all. As many images a class as there are at most are all of them. Raises `SplitError`.
    """
    own, other = split.half(letter), split.half("B" if letter == "A" else "A")
    task = Task(dataset=dataset, classes=own)
    if min(len(own), len(other)) == 1:
        if len(own) == len(other):
            message = f"{split.name} is one class against one: neither would have negatives"
            raise SplitError(("splits",), message)
        lone, rest = (own[0], other) if len(own) == 1 else (other[0], own)
        count = reserved or math.ceil(data.train[lone] / len(rest))
        if count >= (fewest := min(data.train[index] for index in rest)):
            message = (
                f"{split.name} sets {count} images of each class of its larger half aside as "
                f"negatives, and the smallest class has {fewest}: lower splits.reserved"
            )
            raise SplitError(("splits", "reserved"), message)
        task = replace(task, rest=rest if own == (lone,) else (), reserved=count)
    if images_per_class is None or images_per_class >= max(data.train[index] for index in own):
        return task
    return replace(task, images_per_class=images_per_class)


def check_half(
    grid: Grid, split: Split, letter: str, dataset: DatasetRef, data: DatasetInfo
) -> None:
    """Raise `SplitError` if a half cannot be trained on or tested."""
    where = f"half {letter} of {split.name}"
    for subset in ("validation", "test"):
        if not sum(getattr(data, subset)[index] for index in split.half(letter)):
            raise SplitError(("dataset",), f"{where} has no {subset} images")
    for most in grid.images_per_class:
        task = task_of(
            dataset, data, split, letter, images_per_class=most, reserved=grid.splits.reserved
        )
        images = training_images(task, data)
        few = "" if most is None else f" with {most} a class"
        for path, recipe in (
            (("recipe", "batch"), grid.recipe),
            (("fine_tune", "recipe", "batch"), grid.fine_tune.recipe),
        ):
            if recipe is not None and recipe.batch > images:
                message = f"expected at most {images}, the training images of {where}{few}"
                raise SplitError(path, message)


def summary(splits: tuple[Split, ...]) -> dict[str, Any]:
    """The splits as JSON values: name → half → class indices in the dataset's own order.

    Beside the halves stand `hash`, the `split_hash` of the tables, and `hashes`, of each half.
    """
    return {
        split.name: {letter: list(split.half(letter)) for letter in "AB"}
        | {"hash": split.hash, "hashes": {letter: split.half_hash(letter) for letter in "AB"}}
        for split in splits
    }
