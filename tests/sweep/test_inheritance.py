"""Keys that a sweep file leaves out: grids, forms, `--set`, the recipe of fine-tuned trials."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import SweepError
from orchestrator.execution.check import shorten
from orchestrator.plan.plan import Plan
from orchestrator.sweep.load import load_sweep
from tests.sweep_files import VALID, assert_mistake, mistakes, valid, valid_but

PlanOf = Callable[..., Plan]

GRIDS = """\
name: several
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
layers: [1, 3]
recipe: {rate: 0.03, steps: 3, batch: 8}
grids:
  halves:
    splits: {random: [0, 1]}
    treatments: [base, transfer]
  own:
    splits: {random: [0]}
    treatments: [base, selffer]
    targets: [A]
  all:
    splits: {whole: true}
    treatments: [base, random]
    recipe: {steps: 5}
  few:
    splits: {whole: true}
    treatments: [base]
    images_per_class: [1, 10, 1300]
forms:
  short:
    name: several-short
    recipe: {rate: 0.01, steps: 1}
    grids: {halves: {layers: [2]}}
"""


def test_a_trial_of_two_grids_is_one_member(plan_of: PlanOf) -> None:
    planned = plan_of(GRIDS)
    names = [trial.name for trial in planned.members]
    assert names == [
        *("A s0", "B s0", "B1A s0", "B3A s0", "A1B s0", "A3B s0"),
        *("A s1", "B s1", "B1A s1", "B3A s1", "A1B s1", "A3B s1"),
        *("A1A s0", "A3A s0"),
        *("A whole", "R1A whole", "R3A whole"),
        *("A whole k1", "A whole k10", "A whole k1300"),
    ]
    assert len(planned.trials) == len(names) - 1  # ten images a class are all there are
    by_name = {trial.name: trial for trial in planned.members}
    assert by_name["A whole k10"].id == by_name["A whole k1300"].id
    assert by_name["A1A s0"].parent == by_name["A s0"].id


def test_a_grid_changes_single_keys_of_the_recipe(plan_of: PlanOf) -> None:
    recipes = {t.name: t.training.recipe for t in plan_of(GRIDS).members}
    assert (recipes["A whole"].steps, recipes["A whole"].rate) == (5, 0.03)
    assert (recipes["A s0"].steps, recipes["A whole k1"].steps) == (3, 3)


def test_a_form_is_laid_over_the_sweep(plan_of: PlanOf, tmp_path: Path) -> None:
    plan_of(GRIDS)  # writes the file
    sweep, source = load_sweep(f"{tmp_path}/sweep.yaml:short")
    assert (sweep.name, sweep.recipe.rate, sweep.recipe.batch) == ("several-short", 0.01, 8)
    assert {name: grid.layers for name, grid in sweep.grids.items()} == {
        "halves": (2,),
        "own": (1, 3),
        "all": (1, 3),
        "few": (1, 3),
    }
    assert sweep.grids["all"].recipe.steps == 5
    assert source.lines[("recipe", "rate")] == 25
    assert source.command == f"{tmp_path}/sweep.yaml:short"


NAMES = [
    ("grids.halves.layers=9", "--set grids.halves.layers", "layer 9 is out of range"),
    ("layers=9", "--set layers", "layer 9 is out of range"),
    ("grids.halves.recipe.batch=9999", "--set grids.halves.recipe.batch", "at most 50"),
    ("recipe.batch=60", "--set recipe.batch", "at most 50, the training images of half A of s0"),
    ("recipe.rate=-1", "--set recipe.rate", "x > 0"),
    (
        "grids.all.recipe.schedule={family: step}",
        "--set grids.all.recipe.schedule: grids.all.recipe.schedule.every",
        "with family 'step'",
    ),
    ("grids.all.recip.steps=3", "--set grids.all.recip.steps", "did you mean 'recipe'?"),
    ("recpe.steps=3", "--set recpe.steps", "did you mean 'recipe'?"),
    ("steps=3", "--set steps", "did you mean 'recipe.steps'?"),
    ("random=[0]", "--set random", "did you mean 'splits.random'?"),
    ("grids.all.recipe.stps=3", "--set grids.all.recipe.stps", "did you mean 'steps'?"),
    ("grids.all.splits={}", "--set grids.all.splits", "the grid is empty: expected seeds"),
    ("grids.all.targets=[B]", "--set grids.all.targets", "half B of whole has no classes"),
    (
        "grids.halves.splits.sizes=[10]",
        "--set grids.halves.splits.sizes: grids.halves.splits.sizes[0]",
        "fewer than the 10 classes",
    ),
    ("grids.all.splits.sizes=[9]", "--set grids.all.splits.sizes", "give seeds under random"),
    ("grids.few.images_per_class=[1, 1]", "--set grids.few.images_per_class", "1 is given twice"),
    (
        "grids.few.images_per_class=0",
        "--set grids.few.images_per_class: grids.few.images_per_class[0]",
        "expected x ≥ 1, found 0",
    ),
    ("grids.few.recipe.batch=20", "--set grids.few.recipe.batch", "of whole with 1 per class"),
    (
        "grids.own.splits={named: {s0: {A: [1, 2], B: [0, 3, 4, 5, 6, 7, 8, 9]}}}",
        "sweep.yaml:6: grids",
        "two grids call different halves s0",
    ),
]


@pytest.mark.parametrize(("change", "place", "reason"), NAMES)
def test_a_mistake_names_the_grid_or_the_key_it_inherits(
    change: str, place: str, reason: str, plan_of: PlanOf
) -> None:
    with pytest.raises(SweepError) as error:
        plan_of(GRIDS, change)
    lines = [line.rpartition("/")[2] for line in error.value.mistakes]
    assert_mistake(lines, place, reason)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            "grids.all.treatments=[base, transfer]",
            "--set grids.all.treatments: grids.all.treatments[1]: transfer copies from another "
            "half, and whole has one: use grids",
        ),
        (
            "grids.own.splits={random: [0], sizes: [9], reserved: 10}",
            "--set grids.own.splits: grids.own.splits.reserved: s0-9 sets 10 images of each class "
            "of its larger half aside as negatives, and the smallest class has 10: lower "
            "splits.reserved",
        ),
    ],
)
def test_a_mistake_in_a_grid_is_one_line(change: str, line: str, plan_of: PlanOf) -> None:
    with pytest.raises(SweepError) as error:
        plan_of(GRIDS, change)
    assert error.value.mistakes == [line]


EXACT_CHANGES = {
    "recipe": "--set recipe: expected key=value, such as recipe.steps=100",
    "recipe.stps=3": "--set recipe.stps: unknown key 'stps'; did you mean 'steps'?",
    "recipe.steps=many": '--set recipe.steps: expected a whole number, found "many"',
    "recipe.steps=": "bad.yaml:7: recipe: expected steps or epochs, found neither",
    "recipe.steps.x=3": "--set recipe.steps.x=3: steps is not a mapping",
    "splits.random=[3, -1]": "--set splits.random: splits.random[1]: expected x ≥ 0, found -1",
}
CHANGES = [
    ("=3", "--set =3", "expected key=value"),
    ("recipe.=3", "--set recipe.=3", "expected key=value"),
    ("recipe.rate=-1", "--set recipe.rate", "x > 0"),
    ("recipe={rate: -1, steps: 3}", "--set recipe: recipe.rate", "x > 0"),
    ("layers=9", "--set layers", "layer 9 is out of range"),
    ("layers=[1", "--set layers:1", "this is not YAML: while parsing a flow sequence"),
    ("name=../x", "--set name", 'found "../x"'),
    ("network=conv9", "--set network", "did you mean 'conv8'?"),
    ("dataset.canvas=4", "--set dataset.canvas", "8 ≤ x ≤ 256"),
]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("change", EXACT_CHANGES)
def test_a_wrong_change_gives_one_line(change: str) -> None:
    assert mistakes(VALID, change) == [EXACT_CHANGES[change]]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("change", "place", "reason"), CHANGES)
def test_a_wrong_change_is_named(change: str, place: str, reason: str) -> None:
    assert_mistake(mistakes(VALID, change), place, reason)


@pytest.mark.usefixtures("folder")
def test_a_mistake_that_fine_tune_inherits_is_reported_once() -> None:
    text = valid_but("recipe: {rate: -1, steps: 3}\nfine_tune: {recipe: {momentum: 0.5}}")
    assert_mistake(mistakes(text), "bad.yaml:7: recipe.rate", "x > 0")


@pytest.mark.usefixtures("folder")
def test_the_recipe_of_fine_tuned_trials_inherits() -> None:
    sweep = valid(valid_but("fine_tune: {recipe: {rate: 0.001, momentum: 0.5}}"))
    tuned = sweep.fine_tune.recipe
    assert tuned is not None
    assert (tuned.rate, tuned.momentum, tuned.steps) == (0.001, 0.5, 4)
    assert (sweep.recipe.rate, sweep.recipe.momentum) == (0.03, 0.9)
    longer = valid(valid_but("fine_tune: {recipe: {epochs: 2}}")).fine_tune.recipe
    assert longer is not None
    assert (longer.rate, longer.steps, longer.epochs) == (0.03, None, 2)


def test_an_unknown_form(plan_of: PlanOf, tmp_path: Path) -> None:
    plan_of(GRIDS)
    with pytest.raises(SweepError, match="unknown form 'shrt'; did you mean 'short'"):
        load_sweep(f"{tmp_path}/sweep.yaml:shrt")
    with pytest.raises(SweepError, match="unknown form 'x'; known: none"):
        load_sweep("digits:x")


def test_steps_of_a_check_are_few_in_every_grid(plan_of: PlanOf, tmp_path: Path) -> None:
    plan_of(GRIDS)
    sweep, _ = load_sweep(f"{tmp_path}/sweep.yaml")
    short = shorten(sweep, 2)
    assert {grid.recipe.steps for grid in short.parts.values()} == {2}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("forms", "message"),
    [
        ("[a]", 'forms: expected a name and a mapping for each form, found ["a"]'),
        ("{short: 3}", "forms.short: expected a mapping, found 3"),
    ],
)
def test_forms_are_checked_whether_they_are_asked_for_or_not(forms: str, message: str) -> None:
    assert mistakes(VALID + f"forms: {forms}\n") == [f"bad.yaml:8: {message}"]
