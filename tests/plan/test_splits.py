"""The splits of a grid, checked against the classes and the images of the dataset."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from orchestrator.plan.plan import Plan
from tests.sweep_files import assert_mistake, mistakes, valid_but
from trainers.config import DatasetInfo
from trainers.tasks import training_images

pytestmark = pytest.mark.usefixtures("folder")

NAMED = [  # halves of the split x of ten classes, key below the split, part of the reason
    ("{A: [0, 1], B: [2, 3]}", "", "classes [4, 5, 6, 7, 8, 9] are in neither"),
    ("{A: [0, 1, 2, 3, 4, 5], B: [5, 6, 7, 8, 9]}", "", "classes [5] are in A and in B"),
    ("{A: [0, 1, 2, 3, 4], B: [5, 6, 7, 8, 9, 10]}", ".B", "expected an index 0..9 or a name"),
    ("{A: [cat], B: [4]}", ".A", "no class 'cat' in the dataset"),
    ("{A: [0, 1, 2, 3, 3], B: [4, 5, 6, 7, 8, 9]}", ".A", "a class is named twice"),
    ("{A: [], B: [4]}", ".A", "expected at least one class"),
    ("{A: [1.5], B: [2]}", ".A", "expected class indices or names, found 1.5"),
]


@pytest.mark.parametrize(("halves", "key", "reason"), NAMED)
def test_a_named_split_that_does_not_divide_the_classes(halves: str, key: str, reason: str) -> None:
    lines = mistakes(valid_but(f"splits: {{named: {{x: {halves}}}}}"))
    assert_mistake(lines, f"bad.yaml:4: splits.named.x{key}", reason)


def test_named_splits_are_populations_unless_they_are_drawn(plan_of: Callable[..., Plan]) -> None:
    halves = {"low": [0, 1, 2, 3, 4], "even": [0, 2, 4, 6, 8]}
    named = {
        name: {"A": half, "B": [x for x in range(10) if x not in half]}
        for name, half in halves.items()
    }
    own, drawn = (
        {t.id: t.division for t in plan_of(valid_but(f"splits: {json.dumps(splits)}")).members}
        for splits in ({"named": named}, {"named": named, "drawn": True})
    )
    assert set(own.values()) == {"low", "even"}
    assert set(drawn.values()) == {"drawn"}
    assert own.keys() == drawn.keys()


def test_a_split_is_drawn_in_all_grids_or_in_none() -> None:
    splits = "{named: {x: {A: [0, 1, 2, 3, 4], B: [5, 6, 7, 8, 9]}}, drawn: %s}"
    grids = ", ".join(f"{flag}_: {{splits: {splits % flag}}}" for flag in ("true", "false"))
    lines = mistakes(valid_but(f"grids: {{{grids}}}"))
    assert_mistake(lines, "bad.yaml:8: grids", "x is drawn in one grid and not in another")


def test_one_division_under_two_names() -> None:
    named = "named: {x: {A: [2, 4, 5, 6, 9], B: [0, 1, 3, 7, 8]}}"
    assert mistakes(valid_but(f"splits: {{random: [0], {named}}}")) == [
        "bad.yaml:4: splits: s0 and x are the same halves: intervals would count them twice"
    ]


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ("naturl", "unknown division 'naturl'; known: natural_manmade"),
        ("natural_mnmade", "unknown division 'natural_mnmade'; did you mean 'natural_manmade'?"),
        ("natural_manmade", "natural_manmade divides classes named by ImageNet's WordNet ids"),
    ],
)
def test_a_division_that_the_classes_do_not_have(known: str, reason: str) -> None:
    lines = mistakes(valid_but(f"splits: {{known: [{known}]}}"))
    assert_mistake(lines, "bad.yaml:4: splits.known[0]", reason)


@pytest.mark.parametrize(
    ("lines", "place", "reason"),
    [
        (
            "recipe: {batch: 801, steps: 4}",
            "7: recipe.batch",
            "expected at most 800, the training images of half A of s0",
        ),
        ("fine_tune: {recipe: {batch: 801}}", "8: fine_tune.recipe.batch", "at most 800"),
    ],
)
def test_a_batch_larger_than_a_half(lines: str, place: str, reason: str) -> None:
    assert_mistake(mistakes(valid_but(lines)), f"bad.yaml:{place}", reason)


LONE = """\
name: lone
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
splits: {random: [0], sizes: [9]%s}
targets: [B]
treatments: [base, transfer]
layers: 1
images_per_class: [2, 5, all]
recipe: {steps: 3, batch: 4}
"""


@pytest.mark.parametrize(
    ("keys", "reserved", "negatives"),
    [
        ("", 2, [None, None, None]),
        (", negatives: 1", 2, [2, 5, 10]),
        (", negatives: 3", 4, [6, 15, 30]),
        (", negatives: 1.5", 2, [3, 8, 15]),
        (", negatives: 3, reserved: 6", 6, [6, 15, 30]),
    ],
)
def test_the_negatives_of_one_class_follow_its_images(
    keys: str, reserved: int, negatives: list[int | None], plan_of: Callable[..., Plan]
) -> None:
    members = plan_of(LONE % keys).members
    lone = [t.training.target for t in members if t.target == "B" and t.treatment_name == "base"]
    assert [task.negatives for task in lone] == negatives
    assert {t.training.target.reserved for t in members} == {reserved}
    others = {t.training.target for t in members if t.target == "A"}
    assert {task.negatives for task in others} == {None}
    data = DatasetInfo(
        classes=tuple("abcdefghij"),
        shape=(1, 8, 8),
        train=(10,) * 10,
        validation=(2,) * 10,
        test=(3,) * 10,
        fingerprint="",
    )
    images = [training_images(task, data) for task in lone]
    expected = [k + n for k, n in zip((2, 5, 10), negatives, strict=True) if n is not None]
    assert images == (expected or [11, 14, 28])


def test_a_ratio_of_negatives_is_a_condition_where_it_differs(
    plan_of: Callable[..., Plan],
) -> None:
    splits = "{random: [0], sizes: [9], reserved: 4, negatives: %s}"
    grids = ", ".join(f"r{ratio}: {{splits: {splits % ratio}}}" for ratio in (1, 3))
    members = plan_of(LONE % "" + f"grids: {{{grids}}}\n").members
    assert {t.condition for t in members} == {f'{{"splits.negatives": {x}.0}}' for x in (1, 3)}
    assert len({t.id for t in members if t.name.startswith("A s0-9")}) == 1  # a shared source


@pytest.mark.parametrize(
    ("keys", "key", "reason"),
    [
        ("negatives: 0", "negatives", "expected x ≥ 0.01, found 0"),
        ("negatives: 2000", "negatives", "expected x ≤ 1000, found 2000"),
        ("negatives: many", "negatives", 'expected a number, found "many"'),
        (
            "negatives: 0.2",
            "negatives",
            "0.2 negatives for each of the 2 training images of 2 in s0-9 are none in all: raise "
            "the ratio",
        ),
        (
            "negatives: 10",
            "negatives",
            "s0-9 sets 12 images of each class of its larger half aside as negatives, and the "
            "smallest class has 10: lower splits.negatives, or give splits.reserved",
        ),
        (
            "negatives: 3, reserved: 1",
            "reserved",
            "3 negatives for each of the 5 training images of 2 in s0-9 are 15 in all, and 1 of "
            "each of 9 classes are 9: raise it to 2, or lower splits.negatives",
        ),
    ],
)
def test_a_ratio_that_the_images_do_not_allow(keys: str, key: str, reason: str) -> None:
    assert mistakes(LONE % f", {keys}") == [f"bad.yaml:3: splits.{key}: {reason}"]
