"""Trainings, recipes and references are read back as they were recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.plan.plan import Plan
from orchestrator.sweep.records import recipe_from, reference_of, training_from
from orchestrator.sweep.source import Source
from tests.trainers.test_config import TRAININGS
from tests.trainings import training
from trainers.canonical import canonical, to_json
from trainers.config import DatasetRef, Task, Training

LONE = Task(dataset=DatasetRef(name="digits"), classes=(2,), rest=(0, 1), reserved=3)
SWEEP = """\
name: small
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {random: [0]}
treatments: [base, transfer+]
layers: [1]
recipe: {rate: 0.03, steps: 3, batch: 8, schedule: {family: multi_step, milestones: [0.5, 0.75]}}
"""


@pytest.mark.parametrize("one", [*TRAININGS, replace(training(), target=LONE)])
def test_a_training_is_read_back(one: Training) -> None:
    again = training_from(canonical(one))
    assert again == one
    assert again.id == one.id
    assert hash(again) == hash(one)


def test_options_with_lists_are_read_back(plan_of: Callable[..., Plan]) -> None:
    for trial in plan_of(SWEEP).members:
        again = training_from(canonical(trial.training))
        assert (again, again.id) == (trial.training, trial.id)
        recipe = json.loads(json.dumps(to_json(trial.training.recipe)))
        assert recipe_from(recipe) == trial.training.recipe


def test_other_json_is_refused() -> None:
    with pytest.raises(ValueError, match="network"):
        training_from('{"target": {}}')
    with pytest.raises(ValueError, match="colour"):
        recipe_from({"colour": "red"})


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("name: demo\n", None),
        ("name: demo\nreference: null\n", None),
        ("name: demo\nreference: paper\n", "paper"),
        ("name: demo\nreference: null\n# changed by: --set reference=paper\n", "paper"),
        ("name: demo\nreference: paper\n# changed by: --set reference=null\n", "null"),
        ("not: [a sweep\n# changed by: --set reference=paper\n", "paper"),
        ("not: [a sweep", None),
        ("- a list", None),
        ("", None),
    ],
)
def test_the_reference_of_a_sweep_that_was_recorded_as_text(
    text: str, reference: str | None
) -> None:
    assert reference_of(text) == reference


def test_the_last_change_of_the_reference_counts() -> None:
    changes = ["reference=null", "seeds=[1]", "reference=paper"]
    source = Source("demo.yaml", "name: demo\nreference: null", changes=changes)
    assert reference_of(source.record()) == "paper"
