"""Images of tasks: several classes, and one class against the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainers.config import DatasetInfo, DatasetRef, Task
from trainers.tasks import members, negative_sizes, training_images

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2])
DATA = DatasetRef(name="digits")
PAIR = Task(dataset=DATA, classes=(2, 0))
ONE = Task(dataset=DATA, classes=(2,), rest=(0, 1), reserved=1)
THREE = replace(ONE, reserved=3)
INFO = DatasetInfo(
    classes=("a", "b", "c"),
    shape=(1, 2, 2),
    train=(4, 4, 4),
    validation=(1, 1, 1),
    test=(1, 1, 1),
    fingerprint="",
)


ALL = [0, 2, 3, 5, 6, 8, 9, 11]
SIX = [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("task", "subset", "indices", "labels"),
    [
        (PAIR, "train", ALL, [1, 0] * 4),
        (replace(PAIR, images_per_class=1), "train", [0, 2], [1, 0]),
        (replace(PAIR, reserved=3), "train", [0, 2], [1, 0]),
        (replace(PAIR, reserved=1, images_per_class=9), "train", ALL[:6], [1, 0] * 3),
        (replace(PAIR, images_per_class=1), "test", ALL, [1, 0] * 4),
        (ONE, "train", [2, 5, 8, 9, 10, 11], [1, 1, 1, 0, 0, 1]),
        (replace(ONE, images_per_class=2), "train", [2, 5, 9, 10], [1, 1, 0, 0]),
        (THREE, "train", [2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [1, 0, 0, 1, 0, 0, 1, 0, 0, 1]),
        (replace(THREE, images_per_class=1), "train", [2, 3, 4], [1, 0, 0]),
        (replace(THREE, images_per_class=3), "train", [2, 3, 4, 5, 6, 7, 8], [1, 0, 0, 1, 0, 0, 1]),
        (replace(ONE, negatives=1), "train", [2, 5, 8, 9, 11], [1, 1, 1, 0, 1]),
        (replace(THREE, images_per_class=1, negatives=1), "train", [2, 3], [1, 0]),
        (replace(THREE, images_per_class=1, negatives=3), "train", [2, 3, 4, 6], [1, 0, 0, 0]),
        (replace(THREE, images_per_class=2, negatives=4), "train", SIX, [1, 0, 0, 1, 0, 0]),
        (replace(ONE, negatives=1), "test", list(range(12)), [0, 0, 1] * 4),
        (ONE, "validation", list(range(12)), [0, 0, 1] * 4),
    ],
)
def test_members_are_chosen_by_label_in_the_datasets_order(task, subset, indices, labels):
    actual = members(task, subset, LABELS)
    assert (actual[0].tolist(), actual[1].tolist()) == (indices, labels)
    if subset == "train":
        assert training_images(task, INFO) == len(indices)


@pytest.mark.parametrize(
    ("negatives", "more"),  # the classes of nine that have one more than the others
    [(0, []), (1, [0]), (2, [0, 8]), (3, [0, 4, 8]), (4, [0, 2, 4, 8]), (5, [0, 2, 4, 6, 8])],
)
def test_the_classes_that_give_one_more_negative_are_spread(
    negatives: int, more: list[int]
) -> None:
    task = Task(dataset=DATA, classes=(9,), rest=tuple(range(9)), reserved=4)
    for each in range(3):
        sizes = negative_sizes(replace(task, negatives=9 * each + negatives))
        assert sizes == {index: each + (index in more) for index in range(9)}


def test_more_negatives_hold_those_of_fewer() -> None:
    task = Task(dataset=DATA, classes=(999,), rest=tuple(range(999)), reserved=4)
    before = dict.fromkeys(range(999), 0)
    for negatives in range(1, 3 * 999, 7):
        sizes = negative_sizes(replace(task, negatives=negatives))
        assert sum(sizes.values()) == negatives
        assert max(sizes.values()) - min(sizes.values()) <= 1
        assert all(sizes[index] >= before[index] for index in sizes)
        before = sizes


def test_reserved_images_belong_to_one_task_only():
    source = Task(dataset=DATA, classes=(0, 1), reserved=ONE.reserved)
    seen = set(members(source, "train", LABELS)[0].tolist())
    other = set(members(ONE, "train", LABELS)[0].tolist())
    assert seen | other == set(range(12))
    assert not seen & other


def test_a_class_without_an_image_in_the_subset_is_empty():
    indices, labels = members(Task(dataset=DATA, classes=(5,)), "train", LABELS)
    assert (indices.tolist(), labels.tolist()) == ([], [])


def test_a_task_against_the_rest_has_two_labels():
    assert (PAIR.labels, ONE.labels) == ((2, 0), (None, 2))
