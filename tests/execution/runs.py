"""Runs in this process: of a small sweep, with their events, and of searches without training."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.execution.assignment import Assignment, Report
from orchestrator.execution.inline import run_inline
from orchestrator.execution.items import Item
from orchestrator.execution.pack import PackAssignment
from orchestrator.execution.run import Job, Run
from orchestrator.plan.plan import Plan
from orchestrator.states import Ending, State
from orchestrator.store.schemas import result_columns
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


# Searches ----------------------------------------------------------------------------------------

Row = dict[str, Any]
Value = Callable[[Assignment], float]

SHORT = ("fine_tune.search.trials=2", "treatments=[base, selffer+, transfer+]")


def studies(store: Store) -> list[Row]:
    """The rows of all studies, in the columns that are results."""
    rows: list[Row] = store.table("studies", result_columns("studies")).to_pylist()
    return sorted(rows, key=lambda row: (row["role"], row["number"]))


def trials(store: Store) -> dict[str, Row]:
    rows = store.table("trials", result_columns("trials")).to_pylist()
    return {row["id"]: row for row in rows}


def networks(work: Any) -> list[Assignment]:
    """The networks that a piece of work trains."""
    return list(work.assignments) if isinstance(work, PackAssignment) else [work]


def simulate(run: Run, value: Value, *, slots: int = 1, seed: int = 0) -> None:
    """Carry out a run without training: networks reach `value`, on `slots` workers of any speed."""
    generator = random.Random(seed)
    jobs: list[tuple[Job, list[Any], dict[str, Report]]] = []
    while True:
        while len(jobs) < slots and (taken := run.take()) is not None:
            run.started(taken)
            jobs.append((taken, [one for work in taken.works for one in networks(work)], {}))
        if not jobs:
            break
        job, left, reports = jobs.pop(generator.randrange(len(jobs)))
        assignment = left.pop(0)
        reached = value(assignment)
        id = assignment.labels["id"]
        ending = Ending.COMPLETE if math.isfinite(reached) else Ending.FAILED
        message = "" if ending is Ending.COMPLETE else f"{assignment.labels['name']}: loss is nan"
        reports[id] = Report(id, ending, message, "0" * 64, val_top1=reached)
        if run.tell(job, reports[id]) or not left:
            run.end(job, reports)
        else:
            jobs.append((job, left, reports))
    assert run.done


def by_rate(assignment: Assignment) -> float:
    """The nearer the rate is to 0.01, the better; cells differ a little."""
    training = assignment.trained()
    cell = {"selffer": 0.02, "transfer": 0.0}.get(training.treatment.kind, 0.0)
    return 0.9 - abs(training.recipe.rate - 0.01) + cell + training.treatment.n / 1000
