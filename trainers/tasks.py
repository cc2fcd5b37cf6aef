"""Images of a task, chosen by the labels of a dataset alone."""

from __future__ import annotations

import math

import numpy as np

from trainers.config import DatasetInfo, Task


def members(task: Task, subset: str, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices (M,) of a task's images in one subset, and their labels (M,).

    `labels` (N,) are the class indices of all images of the subset. The images keep the dataset's
    order. Labels count from 0 in the order of `task.classes`; in a task of one class, 1 is the
    class and 0 the rest.

    In training only: the last `reserved` images of each class are left out, and the rest consists
    of these. `images_per_class` keeps the first images of each class and about that number of the
    rest in all, at least one per class.
    """
    lookup = np.full(1 + max(int(labels.max(initial=0)), *task.classes, *task.rest), -1)
    lookup[list(task.classes)] = 1 if task.rest else np.arange(len(task.classes))
    lookup[list(task.rest)] = 0
    is_member = lookup[labels] >= 0
    if subset == "train":
        for index in task.classes + task.rest:
            images = np.flatnonzero(labels == index)
            is_member[np.delete(images, _training_slice(task, index, len(images)))] = False
    chosen = np.flatnonzero(is_member)
    return chosen, lookup[labels[chosen]]


def training_images(task: Task, data: DatasetInfo) -> int:
    """Return the number of training images of a task."""
    return sum(
        len(range(data.train[index])[_training_slice(task, index, data.train[index])])
        for index in task.classes + task.rest
    )


def _training_slice(task: Task, index: int, images: int) -> slice:
    """Return the slice of a class's training images that belong to a task."""
    reserved_from = max(0, images - task.reserved)
    limit = images if task.images_per_class is None else task.images_per_class
    if index in task.rest:
        each = limit if task.images_per_class is None else math.ceil(limit / len(task.rest))
        return slice(reserved_from, min(images, reserved_from + each))
    # A lone class reserves none of its own images: no other half learns it.
    return slice(0, min(images if task.rest else reserved_from, limit))
