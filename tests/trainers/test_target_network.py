"""Targets with another network than their sources: only declared differences are accepted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.errors import SweepError
from orchestrator.execution.inline import run_inline
from orchestrator.execution.run import Run
from orchestrator.plan.plan import Plan
from orchestrator.report.progress import RunProgress
from orchestrator.store.store import Store

PlanOf = Callable[..., Plan]

WIDER = """\
name: wider
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
target_network: {conv: [3, 2], pool: [1, 2], fc: [4], replaced: [layer2.conv.weight], widened: [1]}
splits: {random: [0]}
treatments: [base, selffer, transfer, transfer+]
layers: [1, 2]
recipe: {rate: 0.03, steps: 3, batch: 8}
"""


def test_sources_have_their_own_network_and_targets_theirs(plan_of: PlanOf) -> None:
    planned = plan_of(WIDER)
    by_name = {trial.name: trial for trial in planned.members}
    assert list(by_name)[:4] == ["A s0", "A s0 source", "B s0", "B s0 source"]
    assert by_name["A s0 source"].division == "random-source"
    assert by_name["A s0"].division == by_name["A2B s0"].division == "random"
    assert by_name["A2B s0"].parent == by_name["A s0 source"].id
    assert by_name["B2B s0"].parent == by_name["B s0"].id
    adapt = by_name["A2B s0"].training.adapt
    assert (adapt.replaced, adapt.widened) == (("layer2.conv.weight",), ("layer1",))
    assert by_name["A1B s0"].training.adapt.replaced == ()
    assert by_name["B2B s0"].training.adapt.widened == ()
    widths = {name: planned.layers(by_name[name]).parameters[0] for name in ("A s0", "A s0 source")}
    assert widths == {"A s0": 3 * 10, "A s0 source": 2 * 10}
    assert planned.flops(by_name["A s0"]) > planned.flops(by_name["A s0 source"])


def test_they_train(plan_of: PlanOf, tmp_path: Path) -> None:
    planned, store = plan_of(WIDER), Store(tmp_path / "results")
    run_inline(Run.open(planned, store, RunProgress(Console(quiet=True))))
    assert set(store.outcomes().values()) == {"complete"}
    assert len(store.outcomes()) == len(planned.trials)


MISTAKES = {
    "target_network.replaced=[]": "sweep.yaml:4: target_network: layers 1..2 differ in what is "
    "not declared as replaced or widened: layer2.conv.weight: base has (2, 2, 3, 3), target wants "
    "(2, 3, 3, 3)",
    "target_network.widened=[1, 2]": "sweep.yaml:4: target_network.replaced: layer2.conv.weight is "
    "declared twice",
    "target_network.replaced=[seven]": "--set target_network.replaced: expected numbers of layers "
    "or names such as layer3.conv, found 'seven'",
    "target_network.replaced=layer2": "--set target_network.replaced: expected layers such as "
    '[1, layer3.conv], found "layer2"',
    "target_network.name=conv9": "--set target_network.name: unknown target network 'conv9'; did "
    "you mean 'conv8'?",
    "target_network.width=3": "--set target_network.width: unknown key 'width'; known: conv, pool, "
    "fc, kernel, dropout",
}


@pytest.mark.parametrize("change", MISTAKES)
def test_a_mistake_names_the_declaration(change: str, plan_of: PlanOf) -> None:
    with pytest.raises(SweepError) as error:
        plan_of(WIDER, change)
    assert [m.rpartition("/")[2] for m in error.value.mistakes] == [MISTAKES[change]]
