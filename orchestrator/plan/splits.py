"""The splits of a grid, and the tasks that their halves make."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from orchestrator.plan.batches import too_large
from orchestrator.sweep.schema import Grid
from orchestrator.sweep.source import Path
from trainers.canonical import ConfigError
from trainers.config import DatasetInfo, DatasetRef, Task
from trainers.splits import Split, known_split, named_split, random_split, whole

OTHER = {"A": "B", "B": "A"}


class SplitError(Exception):
    """A grid's splits do not fit the data. `path` is the key below the grid."""

    def __init__(self, path: Path, message: str):
        super().__init__(message)
        self.path = path


def checked_splits(grid: Grid, dataset: DatasetRef, data: DatasetInfo) -> tuple[Split, ...]:
    """Return the splits of a grid; every half can be trained on and tested.

    Raises `SplitError`.
    """
    splits = splits_of(grid, data.classes)
    for split in splits:
        for letter in split.halves:
            _check_half(grid, split, letter, dataset, data)
    return splits


def splits_of(grid: Grid, classes: tuple[str, ...]) -> tuple[Split, ...]:
    """Return the splits of a grid in canonical order: random, known, named, whole.

    Raises `SplitError`.
    """
    if len(classes) < 2:
        raise SplitError(("dataset",), "expected at least two classes")
    declared, count = grid.splits, len(classes)
    for index, size in enumerate(declared.sizes):
        if size >= count:
            message = f"expected fewer than the {count} classes of the dataset, found {size}"
            raise SplitError(("splits", "sizes", index), message)
    splits = [
        random_split(seed, count, size)
        for size in declared.sizes or (None,)
        for seed in declared.random
    ]
    for index, name in enumerate(declared.known):
        with _errors_at("splits", "known", index):
            splits.append(known_split(name, classes))
    for name, halves in declared.named.items():
        with _errors_at("splits", "named", name):
            a, b = halves.members("A"), halves.members("B")
            splits.append(named_split(name, a, b, classes, drawn=declared.drawn))
    if declared.whole:
        splits.append(whole(count))
    for letter in grid.targets or ():
        if set(grid.targets or ()) != {"A", "B"} and (
            empty := [s.name for s in splits if not s.half(letter)]
        ):
            raise SplitError(("targets",), f"half {letter} of {empty[0]} has no classes")
    return tuple(splits)


@contextlib.contextmanager
def _errors_at(*path: str | int) -> Iterator[None]:
    """Turn a `ConfigError` into a `SplitError` at this key, or at the field below it."""
    try:
        yield
    except ConfigError as error:
        raise SplitError((*path, *([error.field] if error.field else [])), str(error)) from error


def _check_half(
    grid: Grid, split: Split, letter: str, dataset: DatasetRef, data: DatasetInfo
) -> None:
    """Raise `SplitError` if a half has fewer images to train on than a batch."""
    half = f"half {letter} of {split.name}"
    for limit in grid.images_per_class:
        task = task_of(
            dataset, data, split, letter, images_per_class=limit, reserved=grid.splits.reserved
        )
        suffix = "" if limit is None else f" with {limit} per class"
        if problem := too_large(grid, task, data, f"{half}{suffix}"):
            raise SplitError(*problem)


def task_of(
    dataset: DatasetRef,
    data: DatasetInfo,
    split: Split,
    letter: str,
    *,
    images_per_class: int | None = None,
    reserved: int | None = None,
) -> Task:
    """Return the task of one half. A single class is trained against the rest, its negatives.

    `images_per_class` limits the training images; a limit at or above the largest class means no
    limit. `reserved` is the number of images per class of the rest that serve as negatives and that
    the other half leaves out; by default there are as many negatives as images of the single class.
    Raises `SplitError`.
    """
    classes, others = split.half(letter), split.half(OTHER[letter])
    task = Task(dataset=dataset, classes=classes)
    if min(len(classes), len(others)) == 1:
        rest = others if len(classes) == 1 else ()
        task = replace(task, rest=rest, reserved=_negatives(split, data, reserved))
    if images_per_class is None or images_per_class >= max(data.train[i] for i in classes):
        return task
    return replace(task, images_per_class=images_per_class)


def _negatives(split: Split, data: DatasetInfo, reserved: int | None) -> int:
    """Images per class of the larger half that are set aside as negatives of the single class."""
    one, rest = sorted((split.a, split.b), key=len)
    if len(rest) == 1:
        message = (
            f"{split.name} has one class in each half, so there are no images to use as negatives"
        )
        raise SplitError(("splits",), message)
    count = reserved or math.ceil(data.train[one[0]] / len(rest))
    if count >= (fewest := min(data.train[index] for index in rest)):
        message = (
            f"{split.name} sets {count} images of each class of its larger half aside as "
            f"negatives, and the smallest class has {fewest}: lower splits.reserved"
        )
        raise SplitError(("splits", "reserved"), message)
    return count


def halves_of(split: Split) -> frozenset[tuple[int, ...]]:
    """The two halves without their names: equal for splits that divide the classes alike."""
    return frozenset((split.a, split.b))


def summary(splits: tuple[Split, ...], classes: tuple[str, ...]) -> dict[str, Any]:
    """Return the splits as JSON values: name → half → class indices in the dataset's own order.

    `names` has the names of the same classes, `hash` is the `split_hash` of the tables, and
    `hashes` has one hash per half.
    """
    return {
        split.name: {letter: list(split.half(letter)) for letter in "AB"}
        | {"names": {letter: [classes[i] for i in split.half(letter)] for letter in "AB"}}
        | {"hash": split.hash, "hashes": {letter: split.half_hash(letter) for letter in "AB"}}
        for split in splits
    }
