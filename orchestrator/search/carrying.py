"""A study being carried out: its rows, its trials that run, its choice.

Its rows are the only truth. A trial that was cut short is suggested again, and comes out the same;
its cells that are in the store are not trained again.
"""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator.frontier import Ending, Node
from orchestrator.plan import Plan, Trial
from orchestrator.search.sampling import distributions_json, suggest, verdict
from orchestrator.search.space import Value
from orchestrator.search.study import Study, best
from orchestrator.spec import Resources
from orchestrator.worker import versions
from trainers.config import Recipe, to_json

if TYPE_CHECKING:
    from orchestrator.store import Store
    from orchestrator.worker import Report


ENDINGS = (Ending.COMPLETE, Ending.FAILED)  # of a cell; after another it is trained again


@dataclass(frozen=True, kw_only=True)
class StudyTrial(Trial):
    """What progress shows of a study trial: its first cell, and the work of all."""

    flops: float


@dataclass
class _Running:
    """A study trial while it runs. `values` are of the cells that are done, in their order."""

    parameters: dict[str, Value]
    cells: tuple[Trial, ...]
    values: list[float] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    seconds: float = 0.0
    failure: str = ""
    pruned: bool = False
    pruner_state: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> tuple[Trial, ...]:
        """The cells that are still to be trained."""
        return () if self.failure or self.pruned else self.cells[len(self.done) :]


class CarriedStudy:
    """The trials of a study, handed out as jobs of several networks each."""

    def __init__(self, study: Study, plan: Plan, store: Store):
        self.study, self.store = study, store
        self.rows: dict[int, Mapping[str, Any]] = {
            row["number"]: row
            for row in store.study_trials(study.series)
            if row["number"] < study.trials
        }
        self.running: dict[int, _Running] = {}
        self.numbers = {study.node(number): number for number in range(study.trials)}
        self.flops = sum(map(plan.flops, study.cells))
        self.bases = study.bases if len(self.rows) < study.trials else ()

    # What the frontier is told ------------------------------------------------------------------

    def nodes(self) -> dict[str, Node]:
        """The study trials, then the study, which ends with them and on which others wait."""
        study = self.study
        bases = tuple(base.id for base in self.bases)
        request = max((cell.request for cell in study.cells), key=_size)
        gaps = [n for n in range(max(self.rows, default=0)) if n not in self.rows]
        nodes = {}
        for node, number in self.numbers.items():
            missing = [gap for gap in gaps if gap <= number - study.at_once]
            waits_for = sorted({*study.after(number), *missing})
            parents = (*bases, *map(study.node, waits_for))
            nodes[node] = Node(parents, self.flops, request, may_fail=True)
        nodes[study.id] = Node(tuple(self.numbers), 0.0)
        return nodes

    def complete(self) -> set[str]:
        """The nodes that need not run again."""
        found = {
            node
            for node, number in self.numbers.items()
            if (row := self.rows.get(number)) and row["state"] != "failed"
        }
        return found | ({self.study.id} if self.choice() else set())

    def failed(self) -> dict[str, str]:
        """The nodes that failed before, and why."""
        found = {
            self.study.node(number): row["error_message"]
            for number, row in self.rows.items()
            if row["state"] == "failed"
        }
        if len(found) == self.study.trials:
            found[self.study.id] = self.reason()
        return found

    def shown(self, node: str) -> StudyTrial:
        """A study trial as progress shows it."""
        first = self.study.cells[0]
        fields = {field.name: getattr(first, field.name) for field in dataclasses.fields(Trial)}
        fields["name"] = f"search of {self.study.role}, trial {self.numbers[node]}"
        return StudyTrial(**fields, flops=self.flops)

    # One trial ----------------------------------------------------------------------------------

    def begin(self, number: int) -> tuple[Trial, ...]:
        """Suggest a trial; the cells that it has to train, without those that the store holds."""
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
            if not running.left or outcome not in ("complete", "failed"):
                break
            [row] = self.store.rows([cell.id], outcome)
            seconds = row["seconds_total"] or 0.0
            self._add(number, row["val_top1"], row["error_message"] or "", seconds)
        if not running.left:
            self.end(number)
        return running.left

    def tell(self, number: int, report: Report) -> bool:
        """Take note of the cell that is next; whether the trial is not to go on."""
        running = self.running[number]
        if running.left and running.left[0].id == report.trial:
            failed = report.ending is Ending.FAILED
            if failed or report.ending is Ending.COMPLETE:
                reason = report.message if failed else ""
                self._add(number, report.val_top1, reason, report.seconds)
            else:
                return True
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

    def close(self, number: int, reports: Mapping[str, Report]) -> tuple[Ending, str]:
        """How a trial's job ended, given all reports of it; its row is written if it is over.

        A report that is of no cell is of the worker.
        """
        running = self.running.get(number)
        if running is None:
            row = self.rows[number]
        else:
            for report in reports.values():
                self.tell(number, report)
            if running.left:
                trouble = next(r for r in reports.values() if r.ending not in ENDINGS)
                return trouble.ending, trouble.message
            row = self.end(number)
        return (
            (Ending.FAILED, row["error_message"])
            if row["state"] == "failed"
            else (Ending.COMPLETE, "")
        )

    def end(self, number: int, failure: str = "") -> Mapping[str, Any]:
        """Write the row of a trial that has ended, unless another run has done so; that row."""
        running = self.running.pop(number)
        failure = running.failure or failure
        state = "failed" if failure else "pruned" if running.pruned else "complete"
        for row in self.store.study_trials(self.study.series, number):
            self.rows[number] = row
            return row
        values = running.values
        self.rows[number] = {
            "series": self.study.series,
            "number": number,
            "role": self.study.role,
            "state": state,
            "value": None if failure else sum(values) / len(values),
            "values": values,
            "pruned_at": len(values) if state == "pruned" else None,
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

    # The study ----------------------------------------------------------------------------------

    def choice(self) -> Mapping[str, Any] | None:
        """The best trial, once all have ended."""
        if len(self.rows) < self.study.trials:
            return None
        return best([self.rows[number] for number in range(self.study.trials)])

    def schedule(self, own: Recipe) -> tuple[Recipe, int]:
        """`own` with the best schedule, and the number of the trial that it comes from."""
        chosen = self.choice()
        assert chosen is not None, "trials that wait for a study start after it"
        number: int = chosen["number"]
        return self.study.recipe(number, json.loads(chosen["parameters"]), own), number

    def reason(self) -> str:
        """Why there is no choice."""
        first = self.rows[0]["error_message"]
        return f"all {self.study.trials} trials of the search failed; the first: {first}"


def _size(request: Resources) -> tuple[float, float, float]:
    return request.gpu, request.cpu, request.memory_gb or 0.0


def needed(studies: Iterable[Study], trials: Iterable[Trial]) -> list[Study]:
    """The studies that some of the trials wait for."""
    wanted = {trial.training.schedule_from for trial in trials}
    return [study for study in studies if study.id in wanted]
