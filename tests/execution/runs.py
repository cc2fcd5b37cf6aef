"""A small sweep, and runs of it in this process whose events are noted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.execution.inline import run_inline
from orchestrator.execution.items import Item
from orchestrator.execution.run import Run
from orchestrator.plan.plan import Plan
from orchestrator.states import Ending, State
from orchestrator.store.store import Store

PlanOf = Callable[..., Plan]

SMALL = """\
name: small
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {random: [0]}
treatments: [base, selffer, transfer]
layers: [1]
recipe: {rate: 0.03, steps: 3, batch: 8}
lanes: 1
"""
ALL = ["A s0", "B s0", "A1A s0", "B1A s0", "B1B s0", "A1B s0"]


@dataclass
class Events:
    """The `Progress` that notes the events of a run, by the names of its items."""

    begun: list[str] = field(default_factory=list)
    endings: list[tuple[str, Ending]] = field(default_factory=list)
    gave_up: list[tuple[str, State, str]] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    def started(self, item: Item) -> None:
        self.begun.append(item.name)

    def ended(self, item: Item, ending: Ending, message: str, *_: object) -> None:  # noqa: ARG002
        self.endings.append((item.name, ending))

    def given_up(self, item: Item, state: State, reason: str) -> None:
        self.gave_up.append((item.name, state, reason))

    def again(self, item: Item) -> None:
        self.repeated.append(item.name)


def carry_out(plan: Plan, store: Store, **options: Any) -> tuple[Events, dict[str, int]]:
    """Run a plan. Returns the events, and the number of trials in each state."""
    events = Events()
    run = Run.open(plan, store, events, **options)
    run_inline(run)
    assert run.done
    return events, {state: count for state, count in run.tally().items() if count}


def ids(plan: Plan) -> dict[str, str]:
    return {trial.name: trial.id for trial in plan.members}
