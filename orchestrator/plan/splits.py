"""The splits of a grid, and the tasks that their halves make."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from orchestrator.plan.batches import too_large
from orchestrator.sweep.schema import Grid, Splits
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
        task = task_of(dataset, data, split, letter, grid.splits, images_per_class=limit)
        suffix = "" if limit is None else f" with {limit} per class"
        if problem := too_large(grid, task, data, f"{half}{suffix}"):
            raise SplitError(*problem)


def task_of(
    dataset: DatasetRef,
    data: DatasetInfo,
    split: Split,
    letter: str,
    declared: Splits,
    *,
    images_per_class: int | None = None,
) -> Task:
    """Return the task of one half. A single class is trained against the rest, its negatives.

    `images_per_class` limits the training images; a limit at or above the largest class means no
    limit. `declared` has the number of images per class of the rest that the other half leaves out,
    and the ratio of negatives to images of the single class. Raises `SplitError`.
    """
    classes, others = split.half(letter), split.half(OTHER[letter])
    task = Task(dataset=dataset, classes=classes)
    if min(len(classes), len(others)) == 1:
        rest = others if len(classes) == 1 else ()
        task = replace(task, rest=rest, reserved=_reserved(split, data, declared))
    if images_per_class is not None and images_per_class < max(data.train[i] for i in classes):
        task = replace(task, images_per_class=images_per_class)
    if task.rest and declared.negatives is not None:
        task = replace(task, negatives=_negatives(task, split, data, declared.negatives))
    return task


def _reserved(split: Split, data: DatasetInfo, declared: Splits) -> int:
    """Images per class of the larger half that are set aside as negatives of the single class.

    By default they are enough for all images of that class, so that a source does not depend on
    the numbers of images of its targets.
    """
    one, rest = sorted((split.a, split.b), key=len)
    if len(rest) == 1:
        message = (
            f"{split.name} has one class in each half, so there are no images to use as negatives"
        )
        raise SplitError(("splits",), message)
    ratio = 1 if declared.negatives is None else declared.negatives
    count = declared.reserved or math.ceil(round(ratio * data.train[one[0]]) / len(rest))
    if count >= (fewest := min(data.train[index] for index in rest)):
        is_given = declared.reserved is not None or declared.negatives is None
        way_out = "splits.reserved" if is_given else "splits.negatives, or give splits.reserved"
        message = (
            f"{split.name} sets {count} images of each class of its larger half aside as "
            f"negatives, and the smallest class has {fewest}: lower {way_out}"
        )
        raise SplitError(("splits", "reserved" if is_given else "negatives"), message)
    return count


def _negatives(task: Task, split: Split, data: DatasetInfo, ratio: float) -> int:
    """Return the number of negatives of a single class; the images set aside must be enough."""
    (one,), positives = task.classes, data.train[task.classes[0]]
    positives = min(positives, task.images_per_class or positives)
    count, most = round(ratio * positives), task.reserved * len(task.rest)
    images = f"the {positives} training images of {data.classes[one]} in {split.name}"
    if not count:
        message = f"{ratio:g} negatives for each of {images} are none in all: raise the ratio"
        raise SplitError(("splits", "negatives"), message)
    if count > most:
        message = (
            f"{ratio:g} negatives for each of {images} are {count} in all, and "
            f"{task.reserved} of each of {len(task.rest)} classes are {most}: raise it to "
            f"{math.ceil(count / len(task.rest))}, or lower splits.negatives"
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
