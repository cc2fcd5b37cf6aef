"""Axes: recipe keys with lists of values, of which each combination is a grid."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.plan.plan import Plan
from orchestrator.sweep.load import load_sweep
from tests.sweep_files import VALID, mistakes, valid, valid_but

PlanOf = Callable[..., Plan]
AXES = "axes: {recipe.rate: [0.01, 0.1], recipe.batch: [8, 16]}"


def test_each_combination_is_trained_under_its_condition(plan_of: PlanOf) -> None:
    planned = plan_of(valid_but(AXES))
    conditions = [
        json.dumps({"recipe.batch": batch, "recipe.rate": rate})
        for rate in (0.01, 0.1)
        for batch in (8, 16)
    ]
    assert Counter(trial.condition for trial in planned.members) == dict.fromkeys(conditions, 6)
    for trial in planned.members:
        recipe = trial.training.recipe
        assert json.loads(trial.condition or "") == {
            "recipe.batch": recipe.batch,
            "recipe.rate": recipe.rate,
        }
    assert "A s0 batch=8, rate=0.01" in {trial.name for trial in planned.members}


def test_an_axis_is_the_same_trainings_as_grids(plan_of: PlanOf) -> None:
    axis = plan_of(valid_but("axes: {recipe.rate: [0.01, 0.1]}"))
    grids = plan_of(valid_but("grids: {a: {recipe: {rate: 0.01}}, b: {recipe: {rate: 0.1}}}"))
    assert [(x.id, x.labels()) for x in axis.members] == [(x.id, x.labels()) for x in grids.members]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("lines", "key", "values"),
    [
        ("axes: {recipe.epochs: [1.0, 2.0]}", "epochs", [1.0, 2.0]),
        ("axes: {recipe.steps: [1, 2]}\nrecipe: {epochs: 2.0}", "steps", [1, 2]),
        ("grids: {a: {axes: {recipe.rate: [0.2]}}, b: {}}\n" + AXES, "rate", [0.2, 0.01, 0.1]),
    ],
)
def test_an_axis_replaces_the_key(lines: str, key: str, values: list[float]) -> None:
    recipes = [grid.recipe for grid in valid(valid_but(lines)).parts.values()]
    assert list(dict.fromkeys(getattr(recipe, key) for recipe in recipes)) == values


@pytest.mark.usefixtures("folder")
def test_an_axis_keeps_the_other_keys_of_a_schedule_and_of_fine_tuning() -> None:
    lines = """\
recipe: {steps: 4, schedule: {family: cosine, warmup: 0.5}}
fine_tune: {recipe: {momentum: 0.5}}
axes: {recipe.schedule.floor: [0.1, 0.2]}"""
    for grid, floor in zip(valid(valid_but(lines)).parts.values(), (0.1, 0.2), strict=True):
        for recipe in grid.recipes:
            schedule = recipe.schedule
            assert (schedule.family, schedule.warmup, schedule.floor) == ("cosine", 0.5, floor)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("axes", "line"),
    [
        ("[0.1]", "axes: expected keys with lists, {recipe.rate: [0.01, 0.1]}, found [0.1]"),
        ("{recipe.rate: 0.1}", "axes.recipe.rate: expected a list of values, found 0.1"),
        ("{recipe.rate: []}", "axes.recipe.rate: expected a list of values, found []"),
        ("{recipe.rate: [0.1, 0.1]}", "axes.recipe.rate: 0.1 is given twice"),
        ("{recipe.rate: [0.1, -1]}", "axes.recipe.rate: expected a learning rate, x > 0"),
        ("{recipe.rate: [a]}", 'axes.recipe.rate: expected a number, found "a"'),
        ("{recipe.rat: [1]}", "axes.recipe.rat: unknown key 'rat'; did you mean 'rate'?"),
        ("{recipe.batch: [9999]}", "axes.recipe.batch: expected at most 800, the training"),
        (
            "{seeds: [[1]]}",
            "axes.seeds: expected a key of recipe or fine_tune.recipe, such as recipe.rate",
        ),
    ],
)
def test_a_wrong_axis_is_one_line(axes: str, line: str) -> None:
    [found] = mistakes(valid_but(f"axes: {axes}"))
    assert found.startswith(f"bad.yaml:8: {line}")


@pytest.mark.usefixtures("folder")
def test_a_mistake_in_an_axis_that_fine_tuning_inherits_is_one_line() -> None:
    text = valid_but("fine_tune: {recipe: {momentum: 0.5}}\naxes: {recipe.rate: [-1, -2]}")
    assert mistakes(text) == ["bad.yaml:9: axes.recipe.rate: expected a learning rate, x > 0"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "change", ["recipe.rate=0.5", "recipe={rate: 0.5, steps: 4}", "grids.a.recipe.rate=0.5"]
)
def test_a_change_is_not_lost_to_an_axis(change: str) -> None:
    text = valid_but("axes: {recipe.rate: [0.01, 0.1]}\ngrids: {a: {}}")
    key = change.partition("=")[0]
    assert mistakes(text, change) == [
        f"--set {key}: recipe.rate is an axis, of which each value is trained; "
        "change the axis: --set 'axes.recipe.rate=[…]'"
    ]


@pytest.mark.usefixtures("folder")
def test_a_change_replaces_an_axis_or_makes_one() -> None:
    for text in (VALID, valid_but("axes: {recipe.rate: [0.01, 0.1]}")):
        sweep = valid(text, "axes.recipe.rate=[0.2, 0.3]")
        assert [grid.recipe.rate for grid in sweep.parts.values()] == [0.2, 0.3]
    sweep = valid(valid_but(AXES), "recipe={steps: 3}")  # sets no key of an axis
    assert {grid.recipe.steps for grid in sweep.parts.values()} == {3}
    Path("valid.yaml").write_text(VALID)
    assert load_sweep("valid.yaml", ["axes.recipe.rate=[0.2]"])[0].name == (
        "tiny+axes.recipe.rate=0.2"
    )
