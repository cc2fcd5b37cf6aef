"""The space of schedules: its parameters, and recipes to parameters and back."""

from __future__ import annotations

import random
from typing import Any

import pytest

from orchestrator.plan.search_space import (
    Parameter,
    Tree,
    Value,
    changed,
    conditions,
    parameters_of,
    recipe_of,
    tree_of,
    walk,
)
from orchestrator.sweep.search import FAMILIES, Space
from trainers.recipe import Recipe, Schedule

OWN = Recipe(
    rate=0.03,
    weight_decay=5e-4,
    steps=200,
    schedule=Schedule(family="cosine", warmup=0.1),
)
TREE = tree_of(Space(), OWN, copied=True)
FLAT = Space(
    family=("linear",), warmup=(0.0, 0.0), fresh_first=(0.0, 0.0), layer_decay=(1.0, 1.0)
)  # every parameter exists in every schedule


def draw(tree: Tree, seed: int) -> dict[str, Value]:
    """Draw parameters at random."""
    generator = random.Random(seed)

    def choose(parameter: Parameter) -> Value:
        if parameter.choices:
            return generator.choice(parameter.choices)
        if parameter.whole:
            return generator.randint(int(parameter.low), int(parameter.high))
        return generator.uniform(parameter.low, parameter.high)

    return {p.name: value for p, value in walk(tree, choose) if not p.single}


def names(tree: Tree, **chosen: Value) -> list[str]:
    """Names of the parameters that exist for some chosen values; all others are the lowest."""

    def choose(parameter: Parameter) -> Value:
        lowest = parameter.choices[0] if parameter.choices else parameter.low
        return chosen.get(parameter.name.replace(".", "_"), lowest)

    return [parameter.name for parameter, _ in walk(tree, choose)]


COMMON = ["rate", "weight_decay", "copied_rate", "layer_decay", "two_phases", "family"]
BRANCHES: list[tuple[str, dict[str, Value], list[str]]] = [
    ("constant", {}, ["warms_up"]),
    ("step", {}, ["step.gamma", "step.every", "warms_up"]),
    (
        "multi_step",
        {"multi_step_drops": 2},
        [
            "multi_step.gamma",
            "multi_step.drops",
            "multi_step.first",
            "multi_step.second",
            "warms_up",
        ],
    ),
    ("cosine", {}, ["cosine.floor", "cosine.restarts", "warms_up"]),
    (
        "cosine",
        {"cosine_restarts": 2, "warms_up": True},
        ["cosine.floor", "cosine.restarts", "cosine.growth", "warms_up", "warmup"],
    ),
    ("linear", {}, ["linear.floor", "warms_up"]),
    ("one_cycle", {}, []),
]


@pytest.mark.parametrize(("family", "chosen", "expected"), BRANCHES)
def test_each_family_has_parameters_of_its_own(
    family: str, chosen: dict[str, Value], expected: list[str]
) -> None:
    assert names(TREE, family=family, **chosen) == COMMON + expected
    assert names(TREE, family=family, two_phases=True, **chosen)[5] == "fresh_first"


def test_a_base_has_no_parameters_of_copied_layers() -> None:
    tree = tree_of(Space(), OWN, copied=False)
    assert names(tree, family="one_cycle") == ["rate", "weight_decay", "family"]


def test_rate_and_decay_are_searched_around_the_recipes_own() -> None:
    rate, decay = TREE[:2]
    assert (rate.low, rate.high, rate.log) == (0.001, pytest.approx(0.3), True)
    assert (decay.low, decay.high, decay.log) == (pytest.approx(5e-4 / 30), 0.015, True)
    without = tree_of(Space(), Recipe(steps=9), copied=True)[1]
    assert (without.single, without.only) == (True, 0.0)


def test_fixed_parameters_are_not_suggested_and_conditions_name_the_others() -> None:
    flat = tree_of(FLAT, OWN, copied=True)
    assert conditions(flat) == []
    asked = [p.name for p, _ in walk(flat, lambda p: p.low) if not p.single]
    assert asked == ["rate", "weight_decay", "copied_rate", "linear.floor"]
    assert conditions(TREE) == [
        "two_phases",
        "family",
        "warms_up",
        "multi_step.drops",
        "cosine.restarts",
    ]


PARAMETERS: list[tuple[dict[str, Value], dict[str, Any]]] = [
    ({"family": "constant", "warms_up": False}, {"family": "constant"}),
    (
        {"family": "step", "step.gamma": 0.5, "step.every": 0.2512, "warms_up": False},
        {"family": "step", "gamma": 0.5, "every": 50},
    ),
    (
        {
            "family": "multi_step",
            "multi_step.gamma": 0.1,
            "multi_step.drops": 3,
            "multi_step.first": 0.5,
            "multi_step.second": 0.5,
            "multi_step.third": 0.2,
            "warms_up": True,
            "warmup": 0.05,
        },
        {"family": "multi_step", "gamma": 0.1, "milestones": (0.5, 0.75, 0.8), "warmup": 0.05},
    ),
    (
        {
            "family": "cosine",
            "cosine.floor": 0.1,
            "cosine.restarts": 2,
            "cosine.growth": 1.5,
            "warms_up": False,
        },
        {"family": "cosine", "floor": 0.1, "restarts": 2, "growth": 1.5},
    ),
    (
        {"family": "linear", "linear.floor": 0.2, "warms_up": False},
        {"family": "linear", "floor": 0.2},
    ),
    ({"family": "one_cycle"}, {"family": "one_cycle"}),
]


@pytest.mark.parametrize(("of_family", "schedule"), PARAMETERS)
def test_a_recipe_from_parameters(of_family: dict[str, Value], schedule: dict[str, Any]) -> None:
    others = {"rate": 0.02, "weight_decay": 1e-4, "copied_rate": 0.1, "layer_decay": 0.5}
    fields = {**others, "fresh_first": 0.25}
    given = {**fields, "two_phases": True, **of_family}
    expected = Recipe(**fields, steps=200, schedule=Schedule(**schedule))
    assert recipe_of(TREE, given, OWN) == expected
    assert recipe_of(TREE, {**given, "two_phases": False}, OWN).fresh_first == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_from_a_recipe_and_back(family: Any) -> None:
    tree = tree_of(Space(family=(family,)), OWN, copied=True)
    for seed in range(30):
        recipe = recipe_of(tree, draw(tree, seed), OWN)
        parameters = parameters_of(tree, recipe)
        assert parameters is not None
        again = recipe_of(tree, parameters, OWN)
        assert again.schedule.milestones == pytest.approx(recipe.schedule.milestones, abs=2e-6)
        if family != "multi_step":
            assert again == recipe


def test_the_sweeps_own_schedule_lies_in_the_space_by_default() -> None:
    assert parameters_of(TREE, OWN) == {
        "rate": 0.03,
        "weight_decay": 5e-4,
        "copied_rate": 1.0,
        "layer_decay": 1.0,
        "two_phases": False,
        "family": "cosine",
        "cosine.floor": 0.0,
        "cosine.restarts": 0,
        "warms_up": True,
        "warmup": 0.1,
    }


@pytest.mark.parametrize(
    "space",
    [
        Space(rate=(0.1, 1.0)),
        Space(rate=(0.1, 0.1)),
        Space(family=("linear", "step")),
        Space(warmup=(0.0, 0.0)),
        Space(fresh_first=(0.5, 0.5)),
        Space(restarts=(1.0, 2.0)),
    ],
)
def test_a_schedule_outside_of_the_space(space: Space) -> None:
    assert parameters_of(tree_of(space, OWN, copied=True), OWN) is None


def test_changes_of_a_schedule() -> None:
    own = parameters_of(TREE, OWN)
    assert own is not None
    assert changed(TREE, own, {"copied_rate": 0.1}) == {**own, "copied_rate": 0.1}
    one_cycle = changed(TREE, own, {"family": "one_cycle"})
    assert one_cycle is not None
    assert list(one_cycle) == COMMON
    wrong: list[dict[str, Any]] = [
        {"copied_rate": 7.0},
        {"family": "step"},  # without its own parameters
        {"step.gamma": 0.1},  # of a family that is not chosen
        {"colour": 1},
        {"two_phases": 1},
    ]
    for changes in wrong:
        assert changed(TREE, own, changes) is None
