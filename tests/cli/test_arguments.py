"""Arguments that several commands share: trials selected by `--only`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.cli.arguments import selected
from orchestrator.errors import LayerwiseError
from orchestrator.plan.plan import Plan

PlanOf = Callable[..., Plan]

SMALL = """\
name: small
dataset: digits
splits: {random: [0]}
treatments: [base, base_long, selffer, transfer, transfer+, random]
layers: [1, 3]
recipe: {rate: 0.03, steps: 10}
"""
SELECTED = {
    "treatment = 'base'": ["A s0", "B s0"],
    "treatment='transfer' and n=3": ["B3A s0", "B3A+ s0", "A3B s0", "A3B+ s0"],
    "treatment = 'transfer' AND NOT frozen AND n = 3": ["B3A+ s0", "A3B+ s0"],
    "treatment = 'transfer' AND NOT frozen AND n >= 3 AND target = 'A'": ["B3A+ s0"],
    "treatment = 'transfer' AND frozen = true AND n != 3": ["B1A s0", "A1B s0"],
    "name = 'A1B s0'": ["A1B s0"],
    "name IN ('A1B+ s0', 'R3B s0')": ["A1B+ s0", "R3B s0"],
    "source = 'A' AND target = 'A'": ["A1A s0", "A3A s0"],
    "source != 'A' AND target = 'A' AND n = 1": ["B1A s0", "B1A+ s0"],
    "parent IS NULL AND target = 'B'": ["B s0", "B-long s0", "R1B s0", "R3B s0"],
    "n < 1 AND target = 'B'": ["B s0", "B-long s0"],
    "split = 's0' AND seed = 0 AND n > 1 AND treatment = 'selffer'": ["A3A s0", "B3B s0"],
    "sweep = 'small' AND n <= 0 AND treatment != 'base'": ["A-long s0", "B-long s0"],
}


@pytest.mark.parametrize("condition", SELECTED)
def test_only(condition: str, plan_of: PlanOf) -> None:
    planned = plan_of(SMALL)
    ids = selected(planned, condition)
    assert ids is not None
    assert [t.name for t in planned.members if t.id in ids] == SELECTED[condition]


def test_without_only_no_trial_is_selected(plan_of: PlanOf) -> None:
    assert selected(plan_of(SMALL), None) is None


COLUMNS = (
    "on the columns id, name, sweep, split, split_hash, division, condition, "
    "images_per_class, source, target, treatment, n, frozen, seed, parent, upper"
)
FINE_TUNED = "fine-tuned trials are treatment = 'transfer' AND NOT frozen"
WRONG = {
    "seed = 1": '--only: no trial of sweep small matches "seed = 1"; there are seed: 0',
    "treatment = 'random' AND NOT frozen": "--only: no trial of sweep small matches "
    "\"treatment = 'random' AND NOT frozen\"; there are treatment: "
    "base, base_long, random, selffer, transfer; frozen: false, true",
    "treatment = 'transfer+'": f"--only: no label is 'transfer+'; {FINE_TUNED}",
    "treatment=transfer+ and n=3": f"--only: no label is 'transfer+'; {FINE_TUNED}",
    "treatment != 'transfer+'": f"--only: no label is 'transfer+'; {FINE_TUNED}",
}


@pytest.mark.parametrize("condition", WRONG)
def test_conditions_that_no_trial_meets(condition: str, plan_of: PlanOf) -> None:
    with pytest.raises(LayerwiseError) as caught:
        selected(plan_of(SMALL), condition)
    assert str(caught.value) == WRONG[condition]


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("treatment=transfer and n=3", 'column "transfer" not found'),
        ('name = "A1B s0"', 'column "A1B s0" not found'),
        ("layer = 3", 'column "layer" not found'),
        ("tuning_unequal", 'column "tuning_unequal" not found'),
        ("n = 1 and and n = 2", "syntax error"),
        ("n = 'three'", "Could not convert string 'three'"),
        ("", "without selection list"),
    ],
)
def test_conditions_that_are_no_sql(condition: str, reason: str, plan_of: PlanOf) -> None:
    with pytest.raises(LayerwiseError) as caught:
        selected(plan_of(SMALL), condition)
    message = str(caught.value)
    assert message.startswith("--only: expected an SQL condition, such as ")
    assert f"in single quotes, {COLUMNS}; " in message
    assert reason in message
    assert "\n" not in message
