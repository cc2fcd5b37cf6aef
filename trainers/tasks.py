"""Images of a task, chosen by the labels of a dataset alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from trainers.canonical import key
from trainers.config import DatasetInfo, Task


def members(task: Task, subset: str, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices (M,) of a task's images in one subset, and their labels (M,).

    `labels` (N,) are the class indices of all images of the subset. The images keep the dataset's
    order. Labels count from 0 in the order of `task.classes`; in a task of one class, 1 is the
    class and 0 the rest.

    In training only: the last `reserved` images of each class are left out, and the rest consists
    of these. `images_per_class` keeps the first images of each class and about that number of the
    rest in all, at least one per class. `negatives` is the exact number of the rest instead, chosen
    as `negative_sizes` says. `images` and `draw` choose as `class_sizes` says.
    """
    lookup = np.full(1 + max(int(labels.max(initial=0)), *task.classes, *task.rest), -1)
    lookup[list(task.classes)] = 1 if task.rest else np.arange(len(task.classes))
    lookup[list(task.rest)] = 0
    is_member = lookup[labels] >= 0
    if subset == "train":
        places = {index: np.flatnonzero(labels == index) for index in task.classes + task.rest}
        available = {index: len(images) for index, images in places.items()}
        sizes, slices = class_sizes(task, available), _training_slices(task, available)
        for index, images in places.items():
            if sizes is None:
                chosen = images[slices[index]]
            else:
                chosen = _sample(task, index, images, sizes[index])
            is_member[images] = False
            is_member[chosen] = True
    chosen = np.flatnonzero(is_member)
    return chosen, lookup[labels[chosen]]


def training_images(task: Task, data: DatasetInfo) -> int:
    """Return the number of training images of a task."""
    return sum(label_counts(task, data))


def label_counts(task: Task, data: DatasetInfo) -> list[int]:
    """Return the number of training images of each label of a task; the rest is one label."""
    sizes = class_sizes(task, {index: data.train[index] for index in task.classes})
    if sizes is not None:
        return list(sizes.values())
    available = {index: data.train[index] for index in task.classes + task.rest}
    slices = _training_slices(task, available)
    own, rest = (
        [len(range(available[index])[slices[index]]) for index in classes]
        for classes in (task.classes, task.rest)
    )
    return [*([sum(rest)] if rest else []), *own]


def class_sizes(task: Task, available: Mapping[int, int]) -> dict[int, int] | None:
    """Return the training images of each class of a sampled task; None for other tasks.

    `available` has the training images of each class in the dataset. A balanced total is shared out
    equally, and the first classes get what remains. A total that is not balanced is drawn from all
    images; without a `draw` each class gets its share, rounded by the largest remainder.
    """
    if task.images is None and task.draw is None:
        return None
    classes, total = task.classes, task.images
    counts = [available[index] for index in classes]
    if total is None:
        limit = task.images_per_class
        sizes = counts if limit is None else [min(limit, count) for count in counts]
    elif task.balanced:
        each, more = divmod(total, len(classes))
        sizes = [min(each + (i < more), count) for i, count in enumerate(counts)]
    elif task.draw is not None:
        labels = np.repeat(np.arange(len(classes)), counts)
        drawn = _generator("sizes", task.draw).permutation(len(labels))[:total]
        sizes = np.bincount(labels[drawn], minlength=len(classes)).tolist()
    else:
        shares = [min(total, sum(counts)) * count / sum(counts) for count in counts]
        sizes = [math.floor(share) for share in shares]
        order = sorted(range(len(classes)), key=lambda i: (sizes[i] - shares[i], i))
        for i in order[: min(total, sum(counts)) - sum(sizes)]:
            sizes[i] += 1
    return dict(zip(classes, sizes, strict=True))


def negative_sizes(task: Task) -> dict[int, int]:
    """Return the number of `negatives` from each class of the rest, as equal as possible.

    Some classes have one more than the others. They are spread over the order of the rest, in which
    neighbours are often alike: the first, the middle one, those at the quarters, and so on, sorted
    by their reversed bits. So a larger number keeps the images of a smaller one.
    """
    assert task.negatives is not None
    each, more = divmod(task.negatives, len(task.rest))
    bits = (len(task.rest) - 1).bit_length()
    spread = sorted(range(len(task.rest)), key=lambda i: f"{i:0{bits}b}"[::-1])
    first = set(spread[:more])
    return {index: each + (i in first) for i, index in enumerate(task.rest)}


def _sample(task: Task, index: int, images: np.ndarray, size: int) -> np.ndarray:
    """Return `size` of a class's images; a larger sample of one draw holds every smaller one."""
    if task.draw is None:
        return images[:size]
    return images[_generator("images", task.draw, index).permutation(len(images))[:size]]


def _generator(*name: str | int) -> np.random.RandomState:
    """Return a generator whose numbers never change with numpy's version."""
    return np.random.RandomState(key("sample", *name) % 2**32)


def _training_slices(task: Task, available: Mapping[int, int]) -> dict[int, slice]:
    """Return the slice of each class's training images that belongs to a task.

    `available` has the training images of each class in the dataset.
    """
    limit, slices = task.images_per_class, {}
    each = None if limit is None else math.ceil(limit / max(1, len(task.rest)))
    of_rest: dict[int, int | None] = dict.fromkeys(task.rest, each)
    if task.negatives is not None:
        of_rest |= negative_sizes(task)
    for index, images in available.items():
        reserved_from = max(0, images - task.reserved)
        if index in of_rest:
            count = of_rest[index]
            slices[index] = slice(reserved_from, None if count is None else reserved_from + count)
        else:  # a lone class reserves none of its own images: no other half learns it
            most = images if task.rest else reserved_from
            slices[index] = slice(0, most if limit is None else min(most, limit))
    return slices
