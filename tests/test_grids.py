"""Several grids in one sweep, forms of it, and the axes that make a task smaller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator import experiment, sweep_file
from orchestrator.errors import SweepError
from orchestrator.inline import run_inline
from orchestrator.plan import Plan
from orchestrator.progress import RunProgress
from orchestrator.run import Run
from orchestrator.store import Store

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
ONE = """\
name: one
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {random: [0], sizes: [9]}
treatments: [base, base_long, selffer, transfer, transfer+, random]
layers: [1, 3]
images_per_class: [4, all]
recipe: {rate: 0.03, steps: 3, batch: 6}
"""


def test_what_two_grids_share_is_one_member(plan_of: PlanOf) -> None:
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
    sweep, source = sweep_file.load(f"{tmp_path}/sweep.yaml:short")
    assert (sweep.name, sweep.recipe.rate, sweep.recipe.batch) == ("several-short", 0.01, 8)
    assert {name: grid.layers for name, grid in sweep.grids.items()} == {
        "halves": (2,),
        "own": (1, 3),
        "all": (1, 3),
        "few": (1, 3),
    }
    assert sweep.grids["all"].recipe.steps == 5
    assert source.lines[("recipe", "rate")] == 25
    assert source.argument == f"{tmp_path}/sweep.yaml:short"


def test_images_per_class_limits_the_target_and_not_its_source(plan_of: PlanOf) -> None:
    text = GRIDS.partition("grids:")[0] + (
        "splits: {random: [0]}\ntreatments: [base, selffer, transfer]\nimages_per_class: [2, all]\n"
    )
    planned = plan_of(text, "layers=1")
    by_name = {trial.name: trial for trial in planned.members}
    assert list(by_name) == [
        *("A s0 k2", "A s0", "B s0 k2", "B s0"),
        *("A1A s0 k2", "B1A s0 k2", "B1B s0 k2", "A1B s0 k2"),
        *("A1A s0", "B1A s0", "B1B s0", "A1B s0"),
    ]
    assert by_name["A1A s0 k2"].parent == by_name["A s0 k2"].id
    assert by_name["B1A s0 k2"].parent == by_name["B s0"].id
    assert by_name["B1A s0 k2"].training.target.images_per_class == 2
    assert by_name["B1A s0 k2"].training.source == by_name["B s0"].training.target
    assert {t.images_per_class for t in planned.members} == {2, None}


def test_one_class_stands_against_what_its_source_never_saw(plan_of: PlanOf) -> None:
    planned = plan_of(ONE)
    by_name = {trial.name: trial.training for trial in planned.members}
    lone, others = by_name["B s0-9"].target, by_name["A s0-9"].target
    assert (lone.rest, len(lone.classes), len(others.classes)) == (others.classes, 1, 9)
    assert lone.reserved == others.reserved == 2  # of 10 images a class: 18 negatives in all
    assert others.rest == ()
    assert by_name["A1B s0-9"].target.images_per_class is None
    assert by_name["A1B s0-9 k4"].target.images_per_class == 4
    assert {trial.division for trial in planned.members} == {"random-9"}


def test_one_class_against_the_rest_is_trained_and_scored(plan_of: PlanOf, tmp_path: Path) -> None:
    planned, store = plan_of(ONE), Store(tmp_path / "results")
    run = Run(planned, store, RunProgress(Console(quiet=True), planned.flops))
    run_inline(run)
    rows = {row["name"]: row for row in store.table("trials").to_pylist()}
    assert Counter(row["outcome"] for row in rows.values()) == {"complete": len(planned.trials)}
    row = rows["A3B s0-9"]
    assert (row["classes"], row["total"], row["top5"]) == (2, 30, None)
    assert 0 <= row["auroc"] <= 1
    counts = [
        (r["class_index"], r["correct"], r["total"])
        for r in store.table("classes").to_pylist()
        if r["id"] == row["id"] and r["subset"] == "test"
    ]
    lone = planned.trials[row["id"]].training.target.classes[0]
    assert [(index, total) for index, _, total in counts] == [(None, 27), (lone, 3)]
    assert row["balanced_accuracy"] == sum(right / total for _, right, total in counts) / 2
    assert rows["A s0-9"]["auroc"] is None


MISTAKES = {
    "grids.halves.layers=9": "--set grids.halves.layers: layer 9 is out of range: the network has "
    "layers 1..4, of which 1..3 can be copied",
    "layers=9": "--set layers: layer 9 is out of range: the network has layers 1..4, of which 1..3 "
    "can be copied",
    "grids.halves.recipe.batch=9999": "--set grids.halves.recipe.batch: expected at most 50, the "
    "training images of half A of s0",
    "recipe.batch=60": "--set recipe.batch: expected at most 50, the training images of half A of "
    "s0",
    "recipe.rate=-1": "--set recipe.rate: expected a learning rate, x > 0",
    "grids.all.recipe.schedule={family: step}": "--set grids.all.recipe.schedule: "
    "grids.all.recipe.schedule.every: expected a number of steps, with family 'step' and no other",
    "grids.all.recip.steps=3": "sweep.yaml:14: grids.all.recip: unknown key 'recip'; did you mean "
    "'recipe'?",
    "grids.all.recipe.stps=3": "--set grids.all.recipe.stps: unknown key 'stps'; did you mean "
    "'steps'?",
    "grids.all.splits={}": "--set grids.all.splits: the grid is empty: expected seeds under "
    "random, known or named splits, or whole",
    "grids.all.treatments=[base, transfer]": "--set grids.all.treatments: "
    "grids.all.treatments[1]: transfer copies from another half, and whole has one: use grids",
    "grids.all.targets=[B]": "--set grids.all.targets: half B of whole has no classes",
    "grids.halves.splits.sizes=[10]": "--set grids.halves.splits.sizes: "
    "grids.halves.splits.sizes[0]: expected fewer than the 10 classes of the dataset, found 10",
    "grids.all.splits.sizes=[9]": "--set grids.all.splits.sizes: sizes are of random splits: give "
    "seeds under random",
    "grids.few.images_per_class=[1, 1]": "--set grids.few.images_per_class: 1 is given twice",
    "grids.few.images_per_class=0": "--set grids.few.images_per_class: "
    "grids.few.images_per_class[0]: expected x ≥ 1, found 0",
    "grids.few.recipe.batch=20": "--set grids.few.recipe.batch: expected at most 10, the training "
    "images of half A of whole with 1 a class",
    "grids.own.splits={named: {s0: {A: [1, 2], B: [0, 3, 4, 5, 6, 7, 8, 9]}}}": "sweep.yaml:6: "
    "grids: two grids call different halves s0",
    "grids.own.splits={random: [0], sizes: [9], reserved: 10}": "--set grids.own.splits: "
    "grids.own.splits.reserved: s0-9 sets 10 images of each class of its larger half aside as "
    "negatives, and the smallest class has 10: lower splits.reserved",
}


@pytest.mark.parametrize("change", MISTAKES)
def test_a_mistake_names_the_grid_or_what_it_inherits(change: str, plan_of: PlanOf) -> None:
    with pytest.raises(SweepError) as found:
        plan_of(GRIDS, change)
    assert [m.rpartition("/")[2] for m in found.value.mistakes] == [MISTAKES[change]]


def test_an_unknown_form(plan_of: PlanOf, tmp_path: Path) -> None:
    plan_of(GRIDS)
    with pytest.raises(SweepError, match="unknown form 'shrt'; did you mean 'short'"):
        sweep_file.load(f"{tmp_path}/sweep.yaml:shrt")
    with pytest.raises(SweepError, match="unknown form 'x'; known: none"):
        sweep_file.load("digits:x")


def test_steps_of_a_check_are_few_in_every_grid(plan_of: PlanOf, tmp_path: Path) -> None:
    plan_of(GRIDS)
    sweep, _ = sweep_file.load(f"{tmp_path}/sweep.yaml")
    short = experiment.shorten(sweep, 2)
    assert {grid.recipe.steps for grid in short.parts.values()} == {2}


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ("naturl", "unknown division 'naturl'; known: natural_manmade"),
        ("natural_mnmade", "unknown division 'natural_mnmade'; did you mean 'natural_manmade'?"),
        (
            "natural_manmade",
            "natural_manmade divides classes named by ImageNet's WordNet ids (n01440764, …), some "
            "of each group; the dataset's are 0, 1, 2, …",
        ),
    ],
)
def test_a_division_that_the_classes_do_not_have(known: str, message: str, plan_of: PlanOf) -> None:
    with pytest.raises(SweepError) as found:
        plan_of(GRIDS, f"grids.halves.splits.known=[{known}]")
    assert found.value.mistakes[0].endswith(f"splits.known[0]: {message}")


@pytest.mark.parametrize(
    ("forms", "message"),
    [
        ("[a]", 'forms: expected a name and a mapping for each form, found ["a"]'),
        ("{short: 3}", "forms.short: expected a mapping, found 3"),
    ],
)
def test_forms_are_checked_whether_they_are_asked_for_or_not(
    forms: str, message: str, plan_of: PlanOf
) -> None:
    with pytest.raises(SweepError) as found:
        plan_of(ONE + f"forms: {forms}\n")
    assert [m.partition(": ")[2] for m in found.value.mistakes] == [message]
