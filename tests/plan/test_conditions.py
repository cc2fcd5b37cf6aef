"""Conditions of grids that differ in a setting, in plans, statistics and counts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.plan.conditions import readable
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.report.status import Status
from orchestrator.store.store import Store
from orchestrator.sweep.load import load_sweep

PlanOf = Callable[..., Plan]

HEAD = """\
name: two
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {random: [0, 1]}
layers: [1]
recipe: {rate: 0.03, steps: 3, batch: 8}
"""
RATES = f"""{HEAD}treatments: [base, transfer]
grids:
  fast: {{recipe: {{rate: 0.05}}}}
  slow: {{recipe: {{rate: 0.0005}}}}
"""
SHARED = f"""{HEAD}grids:
  scratch: {{treatments: [base]}}
  short: {{treatments: [base, transfer+], fine_tune: {{recipe: {{steps: 2}}}}}}
  long: {{treatments: [base, transfer+], fine_tune: {{recipe: {{steps: 4}}}}}}
"""
FAST, SLOW = ('{"recipe.rate": 0.05}', '{"recipe.rate": 0.0005}')


COMPARED = {
    "across_stacked": ["fine_tune.feature_l2=0.0", "fine_tune.feature_l2=0.01"],
    "extraction_vs_finetuning": [
        "fine_tune.fresh_first=0.0, classifier=none",
        "fine_tune.fresh_first=0.5, classifier=none",
        *(f"classifier={kind} (none)" for kind in ("knn", "logistic", "svm")),
    ],
    "stitching": ["stitch=least_squares", "stitch=random"],
}


def test_grids_of_two_rates_have_a_condition_each(plan_of: PlanOf) -> None:
    members = plan_of(RATES).members
    assert Counter(trial.condition for trial in members) == {FAST: 8, SLOW: 8}
    for trial in members:
        assert json.loads(trial.condition or "") == {"recipe.rate": trial.training.recipe.rate}
        assert trial.name.endswith(f" {readable(trial.condition)}")
    assert len({trial.name for trial in members}) == len({trial.id for trial in members}) == 16
    assert {"A s0 rate=0.05", "A s0 rate=0.0005"} <= {trial.name for trial in members}


def test_a_training_that_conditions_share_is_a_member_of_each(
    plan_of: PlanOf, tmp_path: Path
) -> None:
    """The grid of bases leaves fine-tuning open, so it adds no condition and no member."""
    planned = plan_of(SHARED)
    conditions = [json.dumps({"fine_tune.recipe.steps": steps}) for steps in (2, 4)]
    assert Counter(trial.condition for trial in planned.members) == dict.fromkeys(conditions, 8)
    bases = [x for x in planned.members if x.treatment_name == "base" and x.name.startswith("A s0")]
    assert [x.condition for x in bases] == conditions
    assert [x.name for x in bases] == ["A s0 fine_tune.steps=2", "A s0 fine_tune.steps=4"]
    assert len({x.id for x in bases}) == 1
    assert (len(planned.members), len(planned.trials)) == (16, 12)  # four bases are shared
    status = Status.of(planned, Store(tmp_path / "store"))
    counts = {name: sum(states.values()) for name, states in status.by_treatment().items()}
    assert counts == {"base": 4, "transfer+": 8}  # a training counts once


def test_grids_that_contradict_each_other_are_not_pooled_under_a_third(plan_of: PlanOf) -> None:
    """Both leave fine-tuning open, and the third grid leaves the classifier open."""
    members = plan_of(f"""{HEAD}grids:
  one: {{treatments: [base, transfer], recipe: {{classifier: {{kind: knn, choices: [1]}}}}}}
  two: {{treatments: [base, transfer], recipe: {{classifier: {{kind: svm}}}}}}
  tuned: {{treatments: [base, transfer+], fine_tune: {{recipe: {{fresh_first: 0.5}}}}}}
  plain: {{treatments: [base, transfer, transfer+]}}
""").members
    cells = Counter((x.condition, x.name, x.treatment_name) for x in members)
    assert set(cells.values()) == {1}
    frozen = Counter(readable(x.condition) for x in members if x.treatment_name == "transfer")
    assert frozen == dict.fromkeys(
        [
            "classifier=knn (average, 1)",
            "classifier=svm (average)",
            "fine_tune.fresh_first=0.0, classifier=none",
        ],
        4,
    )


def test_grids_without_a_common_place_have_no_condition(plan_of: PlanOf) -> None:
    """Networks of other numbers of images are never compared, so their recipes may differ."""
    apart = RATES.replace("slow: {", "slow: {images_per_class: 4, ").replace(", transfer", "")
    assert {trial.condition for trial in plan_of(apart).members} == {None}
    same = RATES.replace("rate: 0.0005", "rate: 0.05").replace("slow: {", "slow: {seeds: [1], ")
    assert {trial.condition for trial in plan_of(same).members} == {None}


@pytest.mark.parametrize("path", sorted(Path("sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_bundled_sweeps_have_the_conditions_that_they_compare(path: Path) -> None:
    form = ":tiny_base" * (path.stem == "which_layers")  # the sweep itself needs images of yours
    planned = make_plan(resolve(*load_sweep(f"{path.stem}{form}")))
    conditions = {readable(trial.condition) for trial in planned.members}
    assert conditions == set(COMPARED.get(path.stem, [""]))


def test_a_condition_reads_short() -> None:
    text = '{"fine_tune.recipe.steps": 100, "recipe.schedule.kind": "cosine"}'
    assert readable(text) == "fine_tune.steps=100, schedule.kind=cosine"
    assert readable(None) == ""


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (None, ""),
        ('{"fine_tune.recipe.rate": 0.05, "recipe.rate": 0.05}', "rate=0.05"),
        ('{"fine_tune.recipe.rate": 0.1, "recipe.rate": 0.05}', "fine_tune.rate=0.1, rate=0.05"),
        ('{"recipe.schedule.family": "step"}', "schedule.family=step"),
    ],
)
def test_a_condition_in_words(condition: str | None, text: str) -> None:
    assert readable(condition) == text
