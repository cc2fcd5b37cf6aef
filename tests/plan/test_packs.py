"""Trials that can be lanes of one pack, and the passes through frozen layers that they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from orchestrator.plan.packs import most_lanes, obstacle, packs_of
from orchestrator.plan.plan import Plan
from orchestrator.plan.sharing import executed_flops

PlanOf = Callable[..., Plan]

GRID = """\
name: grid
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {random: [0, 1]}
treatments: [base, base_long, selffer, transfer, transfer+, random]
layers: [1, 2, 3]
recipe: {rate: 0.03, steps: 4, batch: 8}
"""


def test_trials_of_equal_shape_and_length_share_a_kind(plan_of: PlanOf) -> None:
    plan = plan_of(GRID)
    packs = packs_of(plan)
    assert packs.keys() == plan.trials.keys()
    of_kind = Counter(packs.values())
    long = {packs[id] for id, t in plan.trials.items() if t.training.treatment.kind == "base_long"}
    assert (len(of_kind), len(long), of_kind[long.pop()]) == (2, 1, 4)
    assert most_lanes(plan) == 16
    assert most_lanes(plan_of(GRID, "lanes=3")) == 3
    assert packs_of(plan_of(GRID, "lanes=1")) == {}


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        (["axes={recipe.rate: [0.1, 0.2]}"], 2),
        (["axes={recipe.batch: [4, 8]}"], 4),
        (["axes={recipe.optimiser: [sgd, adam]}"], 4),
        (["resources={transfer: {memory_gb: 2}}"], 3),
    ],
)
def test_what_lanes_may_differ_in(plan_of: PlanOf, changes: list[str], kinds: int) -> None:
    assert len(set(packs_of(plan_of(GRID, *changes)).values())) == kinds


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (["recipe.l2_sp=0.1", "treatments=[base, transfer+]"], "a penalty"),
        (["treatments=[base, stitched]"], "a stitched network"),
        (["resources.default.cpu=2"], "several threads"),
        (["resources.default.cpu=2", "resources.default.gpu=0.5"], None),
        (["network.conv=[512, 512]"], "a large network"),
        (["network.conv=[512, 512]", "lanes=2"], None),
        (["lanes=1"], "lanes: 1"),
    ],
)
def test_trials_that_are_trained_alone(
    plan_of: PlanOf, changes: list[str], reason: str | None
) -> None:
    plan = plan_of(GRID, *changes)
    assert obstacle(plan, plan.members[-1]) == reason


def test_equal_passes_through_frozen_layers_are_counted_once(plan_of: PlanOf) -> None:
    """Layers 1 to 3 of each base pass 2 + 3·5 images per class once, for each of both halves."""
    plan = plan_of(GRID, "splits.random=[0]", "treatments=[base, transfer]")
    macs = plan.macs(plan.members[0])
    bases = [trial for trial in plan.members if trial.parent is None]
    copies = [trial for trial in plan.members if trial.parent is not None]
    images = 5 * (10 + 2 + 3)
    above = sum(
        plan.flops(trial) - 2 * sum(macs[: trial.training.treatment.n]) * 32 for trial in copies
    )
    expected = sum(map(plan.flops, bases)) + above + 2 * 2 * sum(macs[:3]) * images
    assert executed_flops(plan, plan.trials) == expected


def test_crops_share_the_pass_of_each_batch_within_a_pack(plan_of: PlanOf) -> None:
    changes = ["splits.random=[0]", "treatments=[base, transfer]", "recipe.mirror=true"]
    plan = plan_of(GRID, *changes)
    macs = plan.macs(plan.members[0])
    saved = 2 * 2 * (2 * macs[0] + macs[1]) * 32
    whole = sum(map(plan.flops, plan.trials.values()))
    assert executed_flops(plan, plan.trials) == whole - saved
    alone = plan_of(GRID, *changes, "lanes=1")
    assert executed_flops(alone, alone.trials) == whole
