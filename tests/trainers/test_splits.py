"""Splits of the classes: the paper's random ones, named ones, and all classes in A."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from trainers.canonical import ConfigError
from trainers.splits import named_split, random_split, whole

DIGITS = [
    (0, (0, 1, 3, 7, 8), (2, 4, 5, 6, 9)),
    (1, (2, 3, 6, 8, 9), (0, 1, 4, 5, 7)),
    (2, (0, 1, 2, 4, 6), (3, 5, 7, 8, 9)),
    (3, (0, 3, 8, 9, 1), (2, 4, 5, 6, 7)),
]
EXPECTED = " in the dataset; expected an index 0..3 or a name"
CLASSES = ("cat", "dog", "car", "bus")


@pytest.mark.parametrize(("seed", "a", "b"), DIGITS)
def test_halves_of_ten_classes(seed: int, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    split = random_split(seed, 10)
    assert (split.name, split.a, split.b) == (f"s{seed}", tuple(sorted(a)), b)
    assert (split.half("A"), split.half("B")) == (split.a, split.b)


@pytest.mark.parametrize("seed", range(4))
def test_the_papers_rule(seed: int) -> None:
    """The paper's script, ilsvrc12/make_reduced_dataset.py, calls `random.seed([seed])`.

    It then calls `choice` without replacement.
    """
    split = random_split(seed, 1000)
    permuted = np.random.RandomState([seed]).permutation(1000)
    assert split.a == tuple(sorted(permuted[:500].tolist()))
    assert split.b == tuple(sorted(permuted[500:].tolist()))
    chosen = np.random.RandomState([seed]).choice(np.arange(1000), 500, replace=False)
    assert split.a == tuple(sorted(chosen.tolist()))


@pytest.mark.parametrize("classes", [2, 3, 7, 10, 101])
def test_halves_share_nothing_and_leave_nothing_out(classes: int) -> None:
    split = random_split(5, classes)
    assert sorted(split.a + split.b) == list(range(classes))
    assert len(split.a) == classes // 2


def test_the_hash_is_of_the_halves_and_not_of_the_name() -> None:
    first, second = random_split(0, 10), named_split("mine", *DIGITS[0][1:], "0123456789")
    assert first.hash == second.hash
    assert first.hash != named_split("mine", *reversed(DIGITS[0][1:]), "0123456789").hash
    assert len({random_split(seed, 10).hash for seed in range(4)}) == 4


def test_the_hash_of_a_half_is_of_its_indices() -> None:
    """It is the SHA-256 of their JSON, 16 digits, the same for A and B."""
    split = named_split("mine", [2, 0], [1, 3], CLASSES)
    assert split.half_hash("A") == hashlib.sha256(b"[0,2]").hexdigest()[:16]
    assert named_split("turned", [1, 3], [0, 2], CLASSES).half_hash("B") == split.half_hash("A")


def test_a_split_by_names_or_indices() -> None:
    split = named_split("kinds", ["dog", 0], [3, "car"], CLASSES)
    assert (split.a, split.b) == ((0, 1), (2, 3))


@pytest.mark.parametrize(
    ("a", "b", "field", "message"),
    [
        (["cow"], [1, 2, 3], "A", "no class 'cow'" + EXPECTED),
        ([0], [1, 2, 4], "B", "no class 4" + EXPECTED),
        ([0], [-1, 1, 2], "B", "no class -1" + EXPECTED),
        (["cat", 0], [1, 2, 3], "A", "a class is named twice"),
        ([0, 1, 2, 3], [], "B", "expected at least one class"),
        ([0, 1], [1, 2, 3], "", r"the halves overlap: classes [1] are in A and in B"),
        ([0], [1], "", "the halves do not cover the dataset: classes [2, 3] are in neither"),
    ],
)
def test_lists_that_are_no_split(a: Any, b: Any, field: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        named_split("kinds", a, b, CLASSES)
    assert (error.value.field, str(error.value)) == (field, message)


def test_the_larger_side_of_one_seed_contains_the_smaller():
    nine, ten = random_split(3, 12, 9), random_split(3, 12, 10)
    assert (nine.name, nine.division, len(nine.a), len(nine.b)) == ("s3-9", "random-9", 9, 3)
    assert set(nine.a) < set(ten.a)
    assert set(random_split(3, 12).a) < set(nine.a)


def test_a_size_of_half_is_the_half():
    assert random_split(0, 10, 5) == random_split(0, 10)
    assert random_split(0, 10).division == "random"


def test_the_whole_is_a_split_with_one_half():
    split = whole(4)
    assert split.halves == {"A": (0, 1, 2, 3)}
    assert (split.name, split.division, split.b) == ("whole", "whole", ())


def test_classes_that_are_whole_numbers_are_meant_by_these_numbers() -> None:
    classes = ["1", "2", "4", "10"]
    split = named_split("mine", [1, 10], ["2", 4], classes)
    assert (split.a, split.b) == ((0, 3), (1, 2))
    with pytest.raises(ConfigError, match=r"no class 0 in the dataset; expected an index 1\.\.10"):
        named_split("mine", [0, 1], [2, 4], classes)
    with pytest.raises(ConfigError, match=r"do not cover the dataset: classes \[10\] are"):
        named_split("mine", [1, 2], [4], classes)
