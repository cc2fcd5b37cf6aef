"""The choice of validation images: per class, stable, independent of all other images."""

from __future__ import annotations

import numpy as np
import pytest

from tests.pictures import pixels_of
from trainers.canonical import ConfigError
from trainers.datasets.sets import Labelled, Subset, divide, held_out_mask

NAMES = [f"{label}/{label}_{index}.JPEG" for label in ("cat", "dog") for index in range(20)]
LABELS = np.repeat([0, 1], 20)


def held_out(names: list[str], labels: np.ndarray, per_class: int) -> set[str]:
    mask = held_out_mask(names, labels, np.full(int(labels.max()) + 1, per_class))
    return {name for name, is_held_out in zip(names, mask, strict=True) if is_held_out}


def test_each_class_gives_an_equal_number_and_the_choice_never_changes() -> None:
    assert held_out(NAMES, LABELS, 3) == {
        *("cat/cat_9.JPEG", "cat/cat_1.JPEG", "cat/cat_10.JPEG"),
        *("dog/dog_9.JPEG", "dog/dog_8.JPEG", "dog/dog_6.JPEG"),
    }  # the lowest SHA-256 of the names
    assert held_out(NAMES, LABELS, 2) < held_out(NAMES, LABELS, 3)


def test_neither_order_nor_other_classes_matter() -> None:
    order = np.random.RandomState(0).permutation(40)
    assert held_out([NAMES[i] for i in order], LABELS[order], 4) == held_out(NAMES, LABELS, 4)
    dogs = held_out(NAMES[20:], np.zeros(20, np.int64), 4)
    assert dogs == {name for name in held_out(NAMES, LABELS, 4) if name.startswith("dog")}


def test_one_image_less_changes_at_most_one_choice() -> None:
    before = held_out(NAMES, LABELS, 4)
    for gone in range(40):
        after = held_out(NAMES[:gone] + NAMES[gone + 1 :], np.delete(LABELS, gone), 4)
        assert len(before - after) <= 1


def labelled(count: int, first: int = 0) -> Labelled:
    """Return `count` images of each of two classes; the pixel of an image is its number."""
    labels = np.repeat([0, 1], count)
    images = np.arange(first, first + 2 * count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Labelled(images, [f"c/{number}" for number in range(2 * count)], labels)


def numbers(subset: Subset) -> list[int]:
    return [int(number) for number in pixels_of(subset.images).reshape(-1)]


def test_validation_images_are_held_out_of_training() -> None:
    train, validation, test = divide(
        ("a", "b"), {"train": labelled(20), "val": labelled(3, 100)}, 4
    )
    assert sorted(numbers(train) + numbers(validation)) == list(range(40))
    assert numbers(train) == sorted(numbers(train))
    assert np.bincount(validation.labels).tolist() == [4, 4]
    assert numbers(test) == list(range(100, 106))
    assert [int(label) for label in train.labels] == [n >= 20 for n in numbers(train)]


def test_a_tenth_is_held_out_where_no_number_is_given() -> None:
    _, validation, _ = divide(("a", "b"), {"train": labelled(39), "test": labelled(3)}, None)
    assert np.bincount(validation.labels).tolist() == [3, 3]
    _, validation, _ = divide(("a", "b"), {"train": labelled(5), "test": labelled(3)}, None)
    assert np.bincount(validation.labels).tolist() == [1, 1]


def test_with_nothing_held_out_the_test_set_is_the_validation_set_too() -> None:
    train, validation, test = divide(("a", "b"), {"train": labelled(5), "val": labelled(3)}, 0)
    assert len(train.labels) == 10
    assert validation is test


def test_a_dataset_with_its_own_validation_set() -> None:
    sets = {"train": labelled(5), "val": labelled(3, 50), "test": labelled(2, 80)}
    train, validation, test = divide(("a", "b"), sets, None)
    assert [len(numbers(s)) for s in (train, validation, test)] == [10, 6, 4]
    assert numbers(validation)[0] == 50
    with pytest.raises(ConfigError, match="has its own validation images; expected none") as error:
        divide(("a", "b"), sets, 3)
    assert error.value.field == "held_out"


def test_holding_out_everything() -> None:
    with pytest.raises(ConfigError) as error:
        divide(("a", "b"), {"train": labelled(5), "val": labelled(3)}, 5)
    assert error.value.field == "held_out"
    assert str(error.value) == (
        "holding out 5 images per class for validation leaves 2 classes without training images: "
        "a has 5; expected less"
    )
