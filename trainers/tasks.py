"""Which images a task consists of, decided from the labels of a dataset alone."""

from __future__ import annotations

import math

import numpy as np

from trainers.config import DatasetInfo, Task


def members(task: Task, subset: str, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices (M,) of a task's images among those with class indices `labels` (N,); their labels.

    Images stay in the dataset's order. Labels (M,) count from 0 in the order of `task.classes`;
    against the rest, 1 is the class and 0 the rest. In training only: the last `reserved` images of
    each class are left out, of the rest only these are taken, and `images_per_class` keeps the
    first ones of each class and about as many of the rest in all, at least one of each class.
    """
    lookup = np.full(1 + max(int(labels.max(initial=0)), *task.classes, *task.rest), -1)
    lookup[list(task.classes)] = 1 if task.rest else np.arange(len(task.classes))
    lookup[list(task.rest)] = 0
    keep = lookup[labels] >= 0
    if subset == "train":
        for index in task.classes + task.rest:
            of_class = np.flatnonzero(labels == index)
            taken = _taken(task, index, len(of_class))
            keep[np.delete(of_class, taken)] = False
    chosen = np.flatnonzero(keep)
    return chosen, lookup[labels[chosen]]


def training_images(task: Task, data: DatasetInfo) -> int:
    """How many training images a task has."""
    return sum(
        len(range(data.train[index])[_taken(task, index, data.train[index])])
        for index in task.classes + task.rest
    )


def _taken(task: Task, index: int, images: int) -> slice:
    """Which of a class's training images a task takes."""
    end = max(0, images - task.reserved)
    most = images if task.images_per_class is None else task.images_per_class
    if index in task.rest:
        few = most if task.images_per_class is None else math.ceil(most / len(task.rest))
        return slice(end, min(images, end + few))
    if task.rest:
        end = images  # nothing of the class itself is reserved: no other half learns it
    return slice(0, min(end, most))
