"""Samples of training images: totals, draws, and classes that a sample shares out."""

from __future__ import annotations

import numpy as np

from trainers.config import DatasetInfo, DatasetRef, Task
from trainers.tasks import class_sizes, members, training_images

LABELS = np.array([0, 1, 0, 2, 0, 1, 0, 2, 0, 0])  # six, two and two images
SIZES = {0: 6, 1: 2, 2: 2}


def sample(**facts: object) -> Task:
    return Task(dataset=DatasetRef(name="x"), classes=(0, 1, 2), **facts)  # type: ignore[arg-type]


def chosen(task: Task, subset: str = "train") -> list[int]:
    return list(members(task, subset, LABELS)[0])


def test_a_balanced_total_is_shared_out_equally() -> None:
    assert chosen(sample(images=4)) == [0, 1, 2, 3]
    assert class_sizes(sample(images=5), SIZES) == {0: 2, 1: 2, 2: 1}


def test_a_total_that_is_not_balanced_keeps_the_shares() -> None:
    assert class_sizes(sample(images=5, balanced=False), SIZES) == {0: 3, 1: 1, 2: 1}
    assert class_sizes(sample(images=99, balanced=False), SIZES) == SIZES
    drawn = class_sizes(sample(images=5, balanced=False, draw=0), SIZES)
    assert drawn is not None
    assert sum(drawn.values()) == 5


def test_a_draw_is_random_repeatable_and_nested() -> None:
    draws = {seed: chosen(sample(images_per_class=1, draw=seed)) for seed in range(6)}
    assert len({tuple(x) for x in draws.values()}) > 1
    assert chosen(sample(images_per_class=1, draw=3)) == draws[3]
    for seed, images in draws.items():
        assert len(images) == 3
        assert set(images) < set(chosen(sample(images_per_class=2, draw=seed)))
    assert chosen(sample(images_per_class=1, draw=0), "test") == list(range(10))


def test_the_number_of_images_is_known_without_the_labels() -> None:
    info = DatasetInfo(
        classes=("a", "b", "c"),
        shape=(1, 1, 1),
        train=(6, 2, 2),
        validation=(1, 1, 1),
        test=(1, 1, 1),
        fingerprint="",
    )
    for task in (
        sample(images=5),
        sample(images=5, balanced=False),
        sample(images=7, balanced=False, draw=2),
        sample(images_per_class=3, draw=1),
    ):
        assert training_images(task, info) == len(chosen(task))
