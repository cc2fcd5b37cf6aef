"""Named tasks: their directions, samples, forms, and mistakes in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from orchestrator.errors import SweepError
from orchestrator.execution.inline import run_inline
from orchestrator.execution.run import Run
from orchestrator.plan.filter import find
from orchestrator.plan.plan import Plan
from orchestrator.report.progress import RunProgress
from orchestrator.stats.statistics import Statistics
from orchestrator.store.store import Store

PlanOf = Callable[..., Plan]

NAMED = """\
name: named
tasks:
  wide: {dataset: {name: digits, canvas: 14}, images: 100}
  small:
    dataset: {name: digits, canvas: 12}
    classes: [1, 3, 5]
    images_per_class: 12
    draws: [0, 1]
sources: [wide]
targets: [small]
form: {size: 12}
network: {conv: [4, 4], pool: [1], fc: [8]}
treatments: [base, selffer, transfer, transfer+, random]
layers: [1, 2]
recipe: {rate: 0.03, steps: 4, batch: 16}
"""


def cells(plan: Plan) -> list[tuple[Any, ...]]:
    return [(t.name, t.division, t.split, t.source, t.target) for t in plan.members]


def test_a_direction_has_the_base_of_its_source_and_the_controls_of_its_target(
    plan_of: PlanOf,
) -> None:
    plan = plan_of(NAMED)
    of_draw = [row for row in cells(plan) if row[2] == "d1"]
    to = "wide to small"
    assert of_draw == [
        ("small d1 k12", to, "d1", None, "small"),
        ("small-1-small d1 k12", to, "d1", "small", "small"),
        ("small-2-small d1 k12", to, "d1", "small", "small"),
        ("wide-1-small d1 k12", to, "d1", "wide", "small"),
        ("wide-2-small d1 k12", to, "d1", "wide", "small"),
        ("wide-1-small+ d1 k12", to, "d1", "wide", "small"),
        ("wide-2-small+ d1 k12", to, "d1", "wide", "small"),
        ("R-1-small d1 k12", to, "d1", None, "small"),
        ("R-2-small d1 k12", to, "d1", None, "small"),
    ]
    (source,) = [row for row in cells(plan) if row[1] == "source wide"]
    assert source == ("wide", "source wide", "all", None, "wide")
    transfer = find(plan, "wide-2-small d0 k12").training
    assert transfer.parent == find(plan, "wide").id
    assert transfer.source is not None
    assert (transfer.source.images, transfer.target.draw) == (100, 0)
    assert len(transfer.target.labels) == 3
    # A form that the stored images have already is left out of the id.
    assert (transfer.source.form.size, transfer.target.form.size) == (12, None)


def test_without_names_all_tasks_are_sources_and_targets_and_bases_are_shared(
    plan_of: PlanOf,
) -> None:
    plan = plan_of(NAMED.replace("sources: [wide]\ntargets: [small]\n", ""))
    divisions = {trial.division for trial in plan.members}
    assert divisions == {"wide to small", "small to wide", "source wide", "source small"}
    wide = {trial.id for trial in plan.members if trial.name == "wide"}
    assert len(wide) == 1
    declared = plan_of(NAMED, "sources=[]", "targets=null", "transfers=[[small, wide]]")
    assert {t.division for t in declared.members} == {"small to wide", "source small"}


def test_a_limit_of_the_grid_replaces_that_of_the_target_alone(plan_of: PlanOf) -> None:
    plan = plan_of(NAMED, "images_per_class=[10, 20]", "recipe.batch=8")
    limits = {(t.target, t.images_per_class) for t in plan.members}
    assert limits == {("wide", None), ("small", 10), ("small", 20)}


def test_halves_and_named_tasks_share_one_table(plan_of: PlanOf) -> None:
    own = "sources: [wide]\ntargets: [small]\nform: {size: 12}\n"
    grids = "grids: {halves: {splits: {random: [0]}}, named: {sources: [wide], targets: [small]"
    text = NAMED.replace(own, "dataset: digits\n") + grids + ", form: {size: 12}}}\n"
    plan = plan_of(text)
    labels = {(t.division, t.source, t.target) for t in plan.members if t.training.treatment.n == 1}
    assert labels == {
        *(("random", source, target) for source in ("A", "B", None) for target in "AB"),
        *(("wide to small", source, "small") for source in ("wide", "small", None)),
    }
    assert {trial.condition for trial in plan.members} == {None}


MISTAKES = [
    ("tasks.small.classes=[1]", "tasks.small.classes: expected at least two classes, found 1"),
    ("tasks.small.classes=[1, 77]", "no class 77 in the dataset"),
    ("sources=[wid]", "sources[0]: no task 'wid'; did you mean 'wide'?"),
    ("targets=[wide]", "the grid is empty: no source differs from its target"),
    ("form=null", "form"),
    ("form.size=null", "bring both to one form with form.size"),
    ("form.channels=3", "the networks see colour: give the rule grey_to_colour: repeat"),
    ("form.famly=3", "unknown key 'famly'; known: size, fit, channels"),
    ("tasks.wide.images=9", "wide leaves class 9 without a training image: raise images"),
    ("tasks.wide.images=9999999", ""),
    ("tasks.wide.draws=[0, 1, 2]", "wide has 3 draws and its target small has 2: expected equally"),
    ("tasks.small.draws=[0, 0]", "tasks.small.draws: 0 is given twice"),
    ("tasks.small.images_per_class=9999", "the draws are equal: no class has more than 160 images"),
    ("tasks.small.images=30", "expected images or images_per_class, found both"),
    ("recipe.batch=64", "expected at most 36, the training images of small"),
    ("tasks.small.dataset=digts", "unknown dataset 'digts'; did you mean 'digits'?"),
    ("splits={random: [0]}", "sources belongs to named tasks"),
    ("fine_tune={search: {}}", "a search needs splits that are not reported"),
    ("tasks.small.imgs=3", "unknown key 'imgs'"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES, ids=[x for x, _ in MISTAKES])
def test_mistakes_in_named_tasks(plan_of: PlanOf, change: str, message: str) -> None:
    if not message:
        assert find(plan_of(NAMED, change), "wide").training.target.images is None
        return
    with pytest.raises(SweepError) as error:
        plan_of(NAMED, change)
    lines = str(error.value).splitlines()
    assert any(message in line for line in lines), lines


def test_an_unbalanced_sample_that_leaves_a_class_empty(plan_of: PlanOf) -> None:
    with pytest.raises(SweepError, match=r"leaves class . without a training image: raise images"):
        plan_of(NAMED, "tasks.wide={dataset: digits, images: 6, balanced: false, draws: [3]}")


def test_named_tasks_are_trained_and_compared_over_draws(plan_of: PlanOf, tmp_path: Any) -> None:
    store = Store(str(tmp_path / "store"))
    run_inline(Run.open(plan_of(NAMED), store, RunProgress(Console(quiet=True))))
    statistics = Statistics.of_sweep(store, "named")
    rows = [x for x in statistics.effects.to_pylist() if x["at_chance"] == "included"]
    assert {x["division"] for x in rows} == {"wide to small"}
    transfer = [x for x in rows if x["effect"] == "transfer"]
    assert [(x["n"], x["n_splits"], x["unit"], x["df"]) for x in transfer] == [
        (1, 2, "draw", 1),
        (2, 2, "draw", 1),
    ]
    assert all(x["low"] is not None for x in transfer)
    proven = [row["frozen_proven"] for row in store.table("trials").to_pylist() if row["frozen"]]
    assert proven == [True] * 12


DRAWN = """\
name: drawn
tasks:
  one: {dataset: {name: generated, root: ROOT/one, classes: 3, SIZES}}
  two: {dataset: {name: generated, root: ROOT/two, classes: 2, seed: 5, SIZES}}
transfers: [[one, two]]
form: {size: 12, channels: 1, colour_to_grey: luma}
network: {conv: [4], pool: [1], fc: [4]}
treatments: [base, transfer]
layers: [1]
recipe: {rate: 0.03, steps: 2, batch: 4, normalise: source, crop: 10}
"""


@pytest.mark.usefixtures("fresh_data", "own_cache")
def test_each_task_has_a_root_and_the_source_may_normalise(
    plan_of: PlanOf, tmp_path: Any, fresh_data: Callable[[], None]
) -> None:
    sizes = "images: 4, test: 1, size: 16, held_out: 1"
    text = DRAWN.replace("SIZES", sizes).replace("ROOT", str(tmp_path))
    plan, store = plan_of(text), Store(str(tmp_path / "store"))
    fresh_data()
    run_inline(Run.open(plan, store, RunProgress(Console(quiet=True))))
    rows = store.table("trials").to_pylist()
    assert [row["error_message"] for row in rows] == [None] * 3
    assert sorted(path.name for path in tmp_path.glob("*/*/train")) == ["train", "train"]
    moved = plan_of(text.replace("/one", "/elsewhere"))
    assert set(moved.trials) == set(plan.trials)  # a place is part of no id
