"""`StudyRun`: a study being carried out. Its trials are work items of several networks each.

Its rows are the only truth. A trial that was cut short is suggested again and comes out the same;
its networks that are in the store are not trained again.
"""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orchestrator.execution.assignment import Assignment, Report
from orchestrator.execution.frontier import Attempt, Node
from orchestrator.execution.items import Bench, Item, Unit
from orchestrator.execution.provenance import versions
from orchestrator.execution.suggestions import distributions_json, suggest, verdict
from orchestrator.plan.plan import Plan
from orchestrator.plan.search_space import Value
from orchestrator.plan.study import Study, best
from orchestrator.plan.trial import Trial
from orchestrator.states import Ending, State
from orchestrator.sweep.schema import Resources
from trainers.canonical import to_json
from trainers.recipe import Recipe


@dataclass
class _Running:
    """A study trial while it runs."""

    parameters: dict[str, Value]
    cells: tuple[Trial, ...]
    values: list[float] = field(default_factory=list)
    """Validation top-1 of the cells that are complete, in their order."""
    done: list[str] = field(default_factory=list)
    """Ids of the cells that have ended, in their order."""
    seconds: float = 0.0
    failure: str = ""
    pruned: bool = False
    pruner_state: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> tuple[Trial, ...]:
        """Cells that are still to be trained."""
        return () if self.failure or self.pruned else self.cells[len(self.done) :]


class StudyRun:
    """The rows, the running trials and the choice of one study."""

    def __init__(self, study: Study, plan: Plan, bench: Bench):
        self.study, self.bench, self.store = study, bench, bench.store
        self.rows: dict[int, Mapping[str, Any]] = {
            row["number"]: row
            for row in self.store.study_trials(study.series)
            if row["number"] < study.trials
        }
        self.running: dict[int, _Running] = {}
        self.flops = sum(map(plan.flops, study.cells))
        self.bases = study.bases if len(self.rows) < study.trials else ()

    # As work items ------------------------------------------------------------------------------

    def items(self) -> dict[str, Item]:
        """The study trials, then the choice of the best, for which other trials wait."""
        study = self.study
        bases = tuple(base.id for base in self.bases)
        request = max((cell.request for cell in study.cells), key=_size)
        gaps = [n for n in range(max(self.rows, default=0)) if n not in self.rows]
        items: dict[str, Item] = {}
        for number in range(study.trials):
            missing = [gap for gap in gaps if gap <= number - study.at_once]
            earlier = sorted({*study.after(number), *missing})
            parents = (*bases, *map(study.node, earlier))
            node = Node(parents, self.flops, request, may_fail=True)
            items[study.node(number)] = StudyTrialItem(self, number, node)
        return items | {study.id: ChoiceItem(self, Node(tuple(items), 0.0))}

    def complete(self) -> set[str]:
        """Ids of the items that need not run again."""
        ended = {n: row["state"] for n, row in self.rows.items()}
        items = {self.study.node(n) for n, state in ended.items() if state != State.FAILED}
        return items | ({self.study.id} if self.choice() else set())

    def failed(self) -> dict[str, str]:
        """Ids of the items that failed in an earlier run, and why."""
        reasons = {
            self.study.node(number): row["error_message"]
            for number, row in self.rows.items()
            if row["state"] == State.FAILED
        }
        if len(reasons) == self.study.trials:
            reasons[self.study.id] = self.reason()
        return reasons

    # One trial ----------------------------------------------------------------------------------

    def begin(self, number: int) -> tuple[Trial, ...]:
        """Suggest a trial and return the cells to train: those that the store does not hold."""
        parameters = suggest(self.study, self.rows, number)
        cells = tuple(
            dataclasses.replace(cell, training=dataclasses.replace(cell.training, recipe=recipe))
            for cell in self.study.cells
            for recipe in [self.study.recipe(number, parameters, cell.training.recipe)]
        )
        running = self.running[number] = _Running(parameters, cells)
        outcomes = self.store.outcomes()
        for cell in cells:
            outcome = outcomes.get(cell.id)
            if not running.left or outcome not in (State.COMPLETE, State.FAILED):
                break
            [row] = self.store.rows([cell.id], outcome)
            seconds = row["seconds_total"] or 0.0
            self._add(number, row["val_top1"], row["error_message"] or "", seconds)
        if not running.left:
            self.record(number)
        return running.left

    def tell(self, number: int, report: Report) -> bool:
        """Take note of the report on the next cell. True if the trial must stop."""
        running = self.running[number]
        if running.left and running.left[0].id == report.trial:
            if not report.ending.is_outcome:
                return True
            failure = report.message if report.ending is Ending.FAILED else ""
            self._add(number, report.val_top1, failure, report.seconds)
        return not running.left

    def _add(self, number: int, value: float | None, failure: str, seconds: float) -> None:
        running = self.running[number]
        running.done.append(running.left[0].id)
        running.seconds += seconds
        if failure:
            running.failure = failure
            return
        assert value is not None
        running.values.append(value)
        running.pruned, running.pruner_state = verdict(
            self.study, self.rows, number, running.values
        )

    def end(self, number: int, reports: Mapping[str, Report]) -> tuple[Ending, str]:
        """Return how an attempt at a trial ended, and write the trial's row if it is over.

        A report whose id matches no cell describes the worker itself.
        """
        running = self.running.get(number)
        if running is None:
            row = self.rows[number]
        else:
            for report in reports.values():
                self.tell(number, report)
            if running.left:
                trouble = next(r for r in reports.values() if not r.ending.is_outcome)
                return trouble.ending, trouble.message
            row = self.record(number)
        if row["state"] == State.FAILED:
            return Ending.FAILED, row["error_message"]
        return Ending.COMPLETE, ""

    def record(self, number: int, failure: str = "") -> Mapping[str, Any]:
        """Write and return the row of a trial that is over, unless another run has written it."""
        running = self.running.pop(number)
        failure = running.failure or failure
        for row in self.store.study_trials(self.study.series, number):
            self.rows[number] = row
            return row
        state = State.FAILED if failure else State.PRUNED if running.pruned else State.COMPLETE
        values = running.values
        self.rows[number] = {
            "series": self.study.series,
            "number": number,
            "role": self.study.role,
            "state": state.value,
            "value": None if failure else sum(values) / len(values),
            "values": values,
            "pruned_at": len(values) if state is State.PRUNED else None,
            "planned": len(self.study.cells),
            "cells": running.done,
            "parameters": json.dumps(running.parameters, sort_keys=True),
            "distributions": distributions_json(self.study.tree, running.parameters),
            "pruner_state": json.dumps(running.pruner_state, sort_keys=True),
            "recipe": json.dumps(to_json(running.cells[0].training.recipe), sort_keys=True),
            "search": json.dumps(self.study.declaration, sort_keys=True),
            "error_message": failure or None,
            "sweep": self.study.sweep,
            "seconds": running.seconds,
            "host": socket.gethostname(),
            "versions": versions(),
            "ended": datetime.now(UTC),
        }
        self.store.write_study_trial(self.rows[number])
        return self.rows[number]

    # The choice ---------------------------------------------------------------------------------

    def choice(self) -> Mapping[str, Any] | None:
        """The row of the best trial, once all have ended."""
        if len(self.rows) < self.study.trials:
            return None
        return best([self.rows[number] for number in range(self.study.trials)])

    def schedule_of(self, trial: Trial) -> Callable[[], tuple[Recipe, int]]:
        """Return a function that gives a trial's recipe with the best schedule, once it is known.

        The second part of its result is the number of the study trial that the schedule is from.
        """

        def schedule() -> tuple[Recipe, int]:
            chosen = self.choice()
            assert chosen is not None, "trials that wait for a study start after it"
            number, parameters = chosen["number"], json.loads(chosen["parameters"])
            return self.study.recipe(number, parameters, trial.training.recipe), number

        return schedule

    def reason(self) -> str:
        """Return the reason that no trial can be chosen."""
        first = self.rows[0]["error_message"]
        return f"all {self.study.trials} trials of the search failed; the first: {first}"


@dataclass
class StudyTrialItem:
    """One trial of a study: networks trained one after the other with the same schedule."""

    study_run: StudyRun
    number: int
    node: Node
    is_shown: bool = True
    unit: Unit = "trial"

    @property
    def id(self) -> str:
        return self.study_run.study.node(self.number)

    @property
    def name(self) -> str:
        return f"search of {self.study_run.study.role}, trial {self.number}"

    def begin(self, attempt: Attempt) -> list[Assignment]:
        cells = self.study_run.begin(self.number)
        return [self.study_run.bench.assign(cell, attempt) for cell in cells]

    def tell(self, report: Report) -> bool:
        return self.study_run.tell(self.number, report)

    def end(self, reports: Mapping[str, Report]) -> tuple[Ending, str]:
        return self.study_run.end(self.number, reports)

    def give_up(self, state: State, reason: str) -> None:
        if state is State.LOST:  # recorded as failed; a skipped study trial has no row
            self.study_run.record(self.number, reason)


@dataclass
class ChoiceItem:
    """The choice of a study's best trial. Nothing is trained; other trials wait for it."""

    study_run: StudyRun
    node: Node
    is_shown: bool = False
    unit: Unit = "trial"

    @property
    def id(self) -> str:
        return self.study_run.study.id

    @property
    def name(self) -> str:
        return f"search of {self.study_run.study.role}"

    def begin(self, attempt: Attempt) -> list[Assignment]:  # noqa: ARG002
        return []

    def tell(self, report: Report) -> bool:  # noqa: ARG002
        return False

    def end(self, reports: Mapping[str, Report]) -> tuple[Ending, str]:  # noqa: ARG002
        if self.study_run.choice():
            return Ending.COMPLETE, ""
        return Ending.FAILED, self.study_run.reason()

    def give_up(self, state: State, reason: str) -> None:
        """Do nothing: a study has no row of its own."""


def open_searches(
    plan: Plan, bench: Bench, incomplete: Collection[str], *, every: bool
) -> list[StudyRun]:
    """The studies of a plan that some of the incomplete trials wait for, or all of them."""
    waiting = {plan.trials[id].training.schedule_from for id in incomplete}
    return [StudyRun(study, plan, bench) for study in plan.studies if every or study.id in waiting]


def _size(request: Resources) -> tuple[float, float, float]:
    return request.gpu, request.cpu, request.memory_gb or 0.0
