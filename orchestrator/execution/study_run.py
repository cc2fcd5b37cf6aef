"""`StudyRun`: a study being carried out. `study_items.py` has its work items.

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
from typing import Any, NamedTuple

from orchestrator.execution.assignment import Report
from orchestrator.execution.items import Bench
from orchestrator.execution.provenance import versions
from orchestrator.execution.suggestions import distributions_json, suggest, verdict
from orchestrator.plan.packs import packs_of
from orchestrator.plan.plan import Plan
from orchestrator.plan.search_space import Value
from orchestrator.plan.study import Study, best
from orchestrator.plan.trial import Trial
from orchestrator.states import Ending, State
from trainers.canonical import to_json
from trainers.recipe import Recipe


class _Ended(NamedTuple):
    """End of a cell."""

    value: float | None
    failure: str = ""
    seconds: float = 0.0
    is_lost: bool = False
    """It has no row."""


@dataclass
class _Running:
    """A study trial while it runs."""

    parameters: dict[str, Value]
    cells: tuple[Trial, ...]
    ended: dict[int, _Ended] = field(default_factory=dict)
    """Cells that have ended, by their places. They may end in any order."""
    values: list[float] = field(default_factory=list)
    """Validation top-1 of the cells that are complete, in their order."""
    done: list[str] = field(default_factory=list)
    """Ids of the cells that count, in their order: none after a cell that is still to be trained,
    and none after the one that ended the trial."""
    seconds: float = 0.0
    failure: str = ""
    pruned: bool = False
    pruner_state: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> tuple[Trial, ...]:
        """Cells that do not count yet."""
        return () if self.failure or self.pruned else self.cells[len(self.done) :]

    def needs(self, place: int) -> bool:
        """Return whether a cell is still to be trained."""
        failed = any(self.ended[p].failure for p in self.ended if p < place)
        return bool(self.left) and place not in self.ended and not failed


class StudyRun:
    """The rows, the running trials and the choice of one study."""

    def __init__(
        self,
        study: Study,
        plan: Plan,
        bench: Bench,
        packs: Mapping[str, int] | None = None,
    ):
        """Read the rows of a study. `packs` has the kinds of pack of the cells that can be lanes.

        Cells are work items of their own if all of them can.
        """
        self.packs = [(packs or {}).get(cell.id) for cell in study.cells]
        self.in_lanes = None not in self.packs
        self.study, self.bench, self.store = study, bench, bench.store
        self.rows: dict[int, Mapping[str, Any]] = {
            row["number"]: row
            for row in self.store.study_trials(study.series)
            if row["number"] < study.trials
        }
        self.running: dict[int, _Running] = {}
        self.flops = sum(map(plan.flops, study.cells))
        self.bases = study.bases if len(self.rows) < study.trials else ()

    # What is known ------------------------------------------------------------------------------

    def gaps(self) -> list[int]:
        """Numbers of trials whose rows are gone, although later ones have theirs."""
        return [n for n in range(max(self.rows, default=0)) if n not in self.rows]

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
        self.running.pop(number, None)
        running = self._suggested(number)
        for place in range(len(running.cells)):
            if not running.left or self.begin_cell(number, place):
                break
        if not running.left:
            self.record(number)
        return running.left

    def begin_cell(self, number: int, place: int) -> Trial | None:
        """Return one cell of a trial, unless it need not be trained or the store holds it."""
        running = self._suggested(number)
        cell = running.cells[place]
        if not running.needs(place):
            return None
        row = self.store.row(cell.id, (State.COMPLETE, State.FAILED))
        if row is None:
            return cell
        failure = row["error_message"] or ""
        self._end_cell(number, place, _Ended(row["val_top1"], failure, row["seconds_total"] or 0.0))
        return None

    def _suggested(self, number: int) -> _Running:
        """Return a trial that runs. It is suggested when its first cell begins."""
        if number not in self.running:
            parameters = suggest(self.study, self.rows, number)
            cells = tuple(
                dataclasses.replace(
                    cell, training=dataclasses.replace(cell.training, recipe=recipe)
                )
                for cell in self.study.cells
                for recipe in [self.study.recipe(number, parameters, cell.training.recipe)]
            )
            self.running[number] = _Running(parameters, cells)
        return self.running[number]

    def tell(self, number: int, report: Report) -> bool:
        """Take note of the report on a cell. True if the trial must stop."""
        running = self.running[number]
        for place, cell in enumerate(running.cells):
            if cell.id == report.trial and running.needs(place):
                if not report.ending.is_outcome:
                    return True
                failure = report.message if report.ending is Ending.FAILED else ""
                self._end_cell(number, place, _Ended(report.val_top1, failure, report.seconds))
        return not running.left

    def lose_cell(self, number: int, place: int, reason: str) -> None:
        """Take note that a cell was lost. The trial fails, unless an earlier cell ends it."""
        if self._suggested(number).needs(place):
            self._end_cell(number, place, _Ended(None, reason, is_lost=True))

    def _end_cell(self, number: int, place: int, ended: _Ended) -> None:
        """Let the cells that have ended count, in their order: it decides what is pruned."""
        running = self.running[number]
        running.ended[place] = ended
        while running.left and (cell := running.ended.get(len(running.done))):
            if cell.is_lost:
                running.failure = cell.failure
                return
            running.done.append(running.left[0].id)
            running.seconds += cell.seconds
            if cell.failure:
                running.failure = cell.failure
                return
            assert cell.value is not None
            running.values.append(cell.value)
            running.pruned, running.pruner_state = verdict(
                self.study, self.rows, number, running.values
            )

    def end(self, number: int, reports: Mapping[str, Report]) -> tuple[Ending, str]:
        """Return how an attempt at a trial ended, and write the trial's row if it is over.

        A report whose id matches no cell describes the worker itself. Without reports, all cells
        must have ended.
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


def open_searches(
    plan: Plan, bench: Bench, incomplete: Collection[str], *, every: bool
) -> list[StudyRun]:
    """The studies of a plan that some of the incomplete trials wait for, or all of them."""
    waiting = {plan.trials[id].training.schedule_from for id in incomplete}
    packs = packs_of(plan)
    return [
        StudyRun(study, plan, bench, packs)
        for study in plan.studies
        if every or study.id in waiting
    ]
