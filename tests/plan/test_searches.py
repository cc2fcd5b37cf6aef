"""The searches of a grid: mistakes that depend on the sweep, and the studies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import SweepError
from orchestrator.execution.check import shorten
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.sweep.load import load_sweep
from tests.searches import SEARCHED

PlanOf = Callable[..., Plan]

GRIDS = """\
name: several
dataset: {name: digits, train: 10, renderings: 1, validation: 20, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
recipe: {rate: 0.03, steps: 3, batch: 8}
layers: [1]
fine_tune: {search: {trials: 2, targets: [A]}}
grids:
  one: {splits: {random: [0]}, treatments: [base, transfer+]}
  other: {splits: {random: [1]}, treatments: [base, transfer+], recipe: {rate: 0.01}}
  plain: {splits: {random: [2]}, treatments: [base, transfer+], fine_tune: {search: null}}
"""
FOUR = """\
import numpy as np


def four():
    labels = np.arange(4).repeat(4)
    images = np.random.RandomState(0).rand(3, 16, 8, 8)
    return {s: (images[i], labels) for i, s in enumerate(("train", "validation", "test"))}
"""


def mistakes(tmp_path: Path, *changes: str, text: str = SEARCHED) -> list[str]:
    """The lines that are reported for the searched sweep with these changes."""
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(SweepError) as error:
        make_plan(resolve(*load_sweep(str(path), changes)))
    return [line.removeprefix(f"{path}:") for line in error.value.mistakes]


MISFITS: list[tuple[list[str], str, str]] = [
    (["fine_tune.search.splits=[0]"], "splits[0]", "s0 has the halves of s0, which is reported"),
    (["fine_tune.search.splits=[5, 5]"], "splits[1]", "s5 and s5 are the same halves"),
    (["fine_tune.search.seeds=[0]"], "seeds[0]", "expected seeds that are not reported, each once"),
    (["fine_tune.search.layers=[4]"], "layers[0]", "expected layers 1..3, each once, found 4"),
    (
        ["treatments=[base, transfer]"],
        "",
        "nothing to tune: treatments has neither selffer+ nor transfer+",
    ),
    (
        ["fine_tune.search.sampler=qmc"],
        "sampler",
        "qmc fills a space whose parameters are always there, and here some depend on two_phases, "
        "family, warms_up, multi_step.drops, cosine.restarts: fix these in the space, or use tpe "
        "or random",
    ),
    (
        ["treatments=[base, transfer+]"],
        "pruner",
        "median prunes trials of 2 cells or more, found 1",
    ),
    (
        ["fine_tune.search.pruner=hyperband"],
        "pruner",
        "hyperband prunes trials of 3 cells or more, found 2",
    ),
    (
        ["fine_tune.search.enqueue=[{rate: 7}]"],
        "enqueue[0]",
        "expected parameters of the space and values within it",
    ),
    (
        ["fine_tune.search.space.rate=1", "fine_tune.search.enqueue=[{copied_rate: 0.5}]"],
        "enqueue",
        "`enqueue` changes the sweep's own schedule, which lies outside the search space",
    ),
]


@pytest.mark.parametrize(("changes", "key", "message"), MISFITS)
def test_a_search_that_does_not_fit_the_sweep(
    changes: list[str], key: str, message: str, tmp_path: Path
) -> None:
    [line] = mistakes(tmp_path, *changes)
    assert message in line
    assert f"fine_tune.search{'.' * bool(key)}{key}" in line


def test_a_search_needs_a_division_that_is_not_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four classes have three divisions into two and two."""
    (tmp_path / "few.py").write_text(FOUR)
    monkeypatch.syspath_prepend(tmp_path)
    halves = [f"{name}: {{A: [0, {other}]}}" for name, other in zip("abc", (1, 2, 3), strict=True)]
    rest = ("[2, 3]", "[1, 3]", "[1, 2]")
    named = [half.replace("}", f", B: {b}}}") for half, b in zip(halves, rest, strict=True)]
    text = SEARCHED.replace("{random: [0]}", f"{{named: {{{', '.join(named)}}}}}")
    assert mistakes(tmp_path, "dataset=few:four", "recipe.batch=4", text=text) == [
        "9: fine_tune.search.splits: every division of the classes is reported: a search needs one "
        "that is not"
    ]


def test_a_study_has_splits_seeds_and_bases_of_its_own(plan_of: PlanOf) -> None:
    planned = plan_of(SEARCHED, "layers=[1, 2, 3]", "fine_tune.search.splits=[7, 8]")
    study = planned.studies[0]
    assert study.role == "fine_tune"
    assert [cell.name for cell in study.cells] == [
        *("A1A+ s7", "A2A+ s7", "A3A+ s7", "B1A+ s7", "B2A+ s7", "B3A+ s7"),
        *("A1A+ s8", "A2A+ s8", "A3A+ s8", "B1A+ s8", "B2A+ s8", "B3A+ s8"),
    ]
    assert [base.name for base in study.bases] == ["A s7", "B s7", "A s8", "B s8"]
    assert {t.training.tested for t in study.cells + study.bases} == {False}
    assert {t.training.seed for t in study.cells + study.bases} == {1000}
    assert {cell.parent for cell in study.cells} == {base.id for base in study.bases}
    assert not {t.id for t in study.cells + study.bases} & {t.id for t in planned.members}


def test_by_default_a_search_takes_an_unreported_split_and_seed(
    plan_of: PlanOf,
) -> None:
    many = plan_of(
        SEARCHED, "splits.random=[1000, 3]", "seeds=[1000, 1]", "layers=[1, 2, 3]"
    ).studies[0]
    assert {cell.split for cell in many.cells} == {"s1001"}
    assert {cell.training.seed for cell in many.cells} == {1001}
    assert [cell.training.treatment.n for cell in many.cells] == [1, 2, 3, 1, 2, 3]


def test_fine_tuned_trials_name_the_study_and_no_other_trial_does(plan_of: PlanOf) -> None:
    planned, plain = plan_of(SEARCHED), plan_of(SEARCHED, "fine_tune={}")
    fine_tune, base_long = planned.studies
    waiting = {trial.name: trial.training.schedule_from for trial in planned.members}
    assert {name for name, study in waiting.items() if study == fine_tune.id} == {
        *("A1A+ s0", "B1A+ s0", "B1B+ s0", "A1B+ s0"),
    }
    assert {name for name, study in waiting.items() if study == base_long.id} == {
        *("A-long s0", "B-long s0"),
    }
    ids = {trial.name: trial.id for trial in plain.members}
    for trial in planned.members:
        assert (trial.id == ids[trial.name]) == (waiting[trial.name] is None)
        assert trial.training.recipe.steps == (6 if "long" in trial.name else 3)
    unsearched = {t.id for t in planned.extra if t.training.tested}
    assert unsearched == {ids[name] for name, study in waiting.items() if study}


def test_a_study_depends_on_its_cells_and_settings_but_not_on_its_budget(plan_of: PlanOf) -> None:
    def series(*changes: str) -> str:
        return plan_of(SEARCHED, *changes).studies[0].series

    one = series()
    assert series("fine_tune.search.trials=9") == one
    assert series("fine_tune.search.compare=false", "name=other") == one
    assert series("splits.random=[1]", "checkpoint_seconds=3") == one
    for change in (
        "at_once=2",
        "sampler=random",
        "pruner=none",
        "seed=1",
        "splits=[5]",
        "space.rate=[0.01, 0.1]",
        "enqueue=[]",
        "startup=3",
    ):
        assert series(f"fine_tune.search.{change}") != one
    assert series("recipe.momentum=0.8") != one


def test_golden_ids_of_studies() -> None:
    """Stores hold them. They depend on the names of the fields of `Parameter`, too."""
    studies = make_plan(resolve(*load_sweep("digits_search"))).studies
    assert {study.role: (study.id, study.series) for study in studies} == {
        "fine_tune": ("94df4fe37cc4b977", "b56490ce227531a6"),
        "base_long": ("b4229dfb950a2cee", "dd5568ca8c453fb2"),
    }


def test_without_an_equal_search_base_long_keeps_its_own_schedule(plan_of: PlanOf) -> None:
    planned = plan_of(SEARCHED, "fine_tune.search.base_long=false")
    assert [study.role for study in planned.studies] == ["fine_tune"]
    long = [trial for trial in planned.members if trial.training.treatment.kind == "base_long"]
    assert {trial.training.schedule_from for trial in long} == {None}
    unequal = {trial.name for trial in planned.members if trial.tuning_unequal}
    assert unequal == {"A-long s0", "B-long s0", "A1A+ s0", "B1A+ s0", "B1B+ s0", "A1B+ s0"}
    equal = plan_of(SEARCHED)
    assert {trial.tuning_unequal for trial in equal.members} == {False}


def test_each_grid_has_a_search_of_its_own(plan_of: PlanOf) -> None:
    planned = plan_of(GRIDS, "fine_tune.search.pruner=none")
    assert [study.role for study in planned.studies] == ["fine_tune"] * 2
    rates = [study.cells[0].training.recipe.rate for study in planned.studies]
    assert rates == [0.03, 0.01]
    assert {cell.split for study in planned.studies for cell in study.cells} == {"s1000"}
    by_split = {t.split: t.training.schedule_from for t in planned.members if t.source}
    assert by_split == {"s0": planned.studies[0].id, "s1": planned.studies[1].id, "s2": None}


def test_a_mistake_in_an_inherited_search_names_the_line_that_has_it(tmp_path: Path) -> None:
    [line] = mistakes(tmp_path, text=GRIDS)
    assert line.startswith("6: fine_tune.search.pruner: median prunes trials of 2 cells")


def test_checks_leave_the_search_out(plan_of: PlanOf) -> None:
    planned = plan_of(SEARCHED)
    assert shorten(planned.sweep, 2).fine_tune.search is None
