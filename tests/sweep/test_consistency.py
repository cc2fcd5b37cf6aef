"""Mistakes that no single key shows: empty grids, repeated values, treatments without a base."""

from __future__ import annotations

import pytest

from tests.sweep_files import VALID, assert_mistake, mistakes, valid_but, valid_without

pytestmark = pytest.mark.usefixtures("folder")

A_NAME = "expected up to 64 letters, digits, _ and -, the first a letter or digit"
EMPTY = "the grid is empty: expected at least one"
NO_SPLITS = "the grid is empty: expected seeds under random, known or named splits, or whole"

EXACT = {
    "splits: {}": f"4: splits: {NO_SPLITS}",
    "splits: {named: {../x: {A: [1], B: [2]}}}": f"4: splits.named.../x: {A_NAME}",
    "splits: {random: [0, 0]}": "4: splits: two splits are called s0",
    "treatments: []": f"5: treatments: {EMPTY}",
    "treatments: [base, base]": "5: treatments: base is given twice",
    "recipe: {steps: 4, epochs: 1}": "7: recipe: expected steps or epochs, found both",
}
CASES = [
    (
        "splits: {random: [3], named: {s3: {A: [0], B: [1]}}}",
        "4: splits",
        "two splits are called s3",
    ),
    ("splits: {named: {random-9: {A: [0], B: [1]}}}", "4: splits.named.random-9", "other splits"),
    ("splits: {random: [0], drawn: true}", "4: splits.drawn", "give named"),
    ("seeds: []", "8: seeds", EMPTY),
    ("seeds: [1, 1]", "8: seeds", "1 is given twice"),
    ("targets: []", "8: targets", EMPTY),
    ("layers: [1, 1]", "6: layers", "1 is given twice"),
    ("images_per_class: [all, all]", "8: images_per_class", "all is given twice"),
    ("recipe: {rate: 1}", "7: recipe", "steps or epochs, found neither"),
    ("grids: {../x: {seeds: [1]}}", "8: grids.../x", A_NAME),
]


@pytest.mark.parametrize("lines", EXACT)
def test_a_mistake_is_one_line(lines: str) -> None:
    assert mistakes(valid_but(lines)) == [f"bad.yaml:{EXACT[lines]}"]


@pytest.mark.parametrize(("lines", "place", "reason"), CASES)
def test_a_mistake_names_line_and_key(lines: str, place: str, reason: str) -> None:
    assert_mistake(mistakes(valid_but(lines)), f"bad.yaml:{place}", reason)


def test_a_sweep_without_splits() -> None:
    assert mistakes(valid_without("splits")) == [f"bad.yaml:1: splits: {NO_SPLITS}"]


def test_every_treatment_that_lacks_its_base_is_named() -> None:
    assert mistakes(valid_but("treatments: [base_long, selffer+, transfer]")) == [
        "bad.yaml:5: treatments[1]: selffer+ copies layers of base: add base",
        "bad.yaml:5: treatments[2]: transfer copies layers of base: add base",
    ]


def test_pixels_need_a_classifier() -> None:
    message = "pixels fits recipe.classifier to the pixels: add it to the recipe"
    assert mistakes(valid_but("treatments: [base, pixels]")) == [
        f"bad.yaml:5: treatments[1]: {message}"
    ]


def test_an_inherited_mistake_is_reported_once() -> None:
    text = VALID + "seeds: [1, 1]\ngrids: {one: {layers: 1}, two: {layers: 2}}\n"
    assert mistakes(text) == ["bad.yaml:8: seeds: 1 is given twice"]
