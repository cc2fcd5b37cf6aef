"""Work items, which the frontier hands out and workers carry out. One class per kind.

A trial is one kind, and the copy of a file of weights into the store is another. A trial of a
study, and each of its networks where these are lanes, are of `study_items.py`. Work on trained
networks that leaves rows of its own, a measurement or an extraction of features, is of
`derived.py`. Nothing above this module asks which kind an item is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from orchestrator.execution.assignment import Assignment, Report, Work
from orchestrator.execution.frontier import Attempt, Node
from orchestrator.execution.rows import driver_row
from orchestrator.plan.trial import Trial
from orchestrator.plan.weights import WeightsParent
from orchestrator.states import Ending, State
from orchestrator.store.store import Store
from orchestrator.sweep.schema import Sweep
from trainers.recipe import Recipe

Unit = Literal["trial", "measurement", "extraction"]


class Item(Protocol):
    """A unit of work with its place in the graph."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str:
        """Name that progress shows."""

    @property
    def node(self) -> Node:
        """Parents, cost in FLOPs and request."""

    @property
    def is_shown(self) -> bool:
        """True if progress counts it."""

    @property
    def unit(self) -> Unit:
        """Kind of thing that progress counts it as."""

    @property
    def part_of(self) -> str | None:
        """Id of the item that progress shows while this one runs, if it is another one."""

    def begin(self, attempt: Attempt) -> Sequence[Work]:
        """Return what a worker must do now, in order. Empty if there is nothing left to do."""

    def tell(self, report: Report) -> bool:
        """Take note of the report on one assignment. True if the attempt must stop after it."""

    def end(self, reports: Mapping[str, Report]) -> tuple[Ending, str]:
        """Return how an attempt ended and why, from its reports by trial id.

        A report under the item's own id describes the worker, for example its death.
        """

    def give_up(self, state: State, reason: str) -> None:
        """Record that the item was lost or skipped."""


@dataclass
class Bench:
    """Sweep, store and checkpoints, which the items of one run share."""

    sweep: Sweep
    store: Store
    checkpoints: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the checkpoint of each base that is complete, by trial id."""
    replaced: dict[str, str] = field(default_factory=dict)
    """Attempt of the row of each trial that is trained again although it has one, by its id."""

    def assign(
        self, trial: Trial, attempt: Attempt, schedule: tuple[Recipe, int] | None = None
    ) -> Assignment:
        """Return the assignment of a trial whose parents are complete."""
        return Assignment.of(
            trial,
            self.sweep,
            self.store,
            checkpoints={parent: self.checkpoints[parent] for parent in trial.parents},
            attempt=attempt,
            schedule=schedule,
            replaces=self.replaced.get(trial.id, ""),
        )


@dataclass
class TrialItem:
    """A trial of the plan: one network, trained once."""

    trial: Trial
    node: Node
    bench: Bench
    schedule: Callable[[], tuple[Recipe, int]] | None = None
    """Returns the recipe that a search chose, where the trial waits for one."""
    is_shown: bool = True
    unit: Unit = "trial"
    part_of: str | None = None

    @property
    def id(self) -> str:
        return self.trial.id

    @property
    def name(self) -> str:
        return self.trial.name

    def begin(self, attempt: Attempt) -> list[Assignment]:
        schedule = self.schedule() if self.schedule else None
        return [self.bench.assign(self.trial, attempt, schedule)]

    def tell(self, report: Report) -> bool:  # noqa: ARG002
        return False

    def end(self, reports: Mapping[str, Report]) -> tuple[Ending, str]:
        report = reports[self.id]
        if report.ending is Ending.COMPLETE and report.checkpoint:
            self.bench.checkpoints[self.id] = report.checkpoint
        return report.ending, report.message

    def give_up(self, state: State, reason: str) -> None:
        self.bench.store.write_row(driver_row(self.trial, state, reason))


class DriverItem:
    """An item that the driver carries out itself, without a worker."""

    is_shown = False
    unit: Unit = "trial"
    part_of: str | None = None

    def tell(self, report: Report) -> bool:  # noqa: ARG002
        return False

    def give_up(self, state: State, reason: str) -> None:
        """Do nothing: it has no row, and trials that wait for it say that they were skipped."""


@dataclass
class WeightsItem(DriverItem):
    """A file of weights, which the driver copies into the store once."""

    weights: WeightsParent
    node: Node
    bench: Bench

    @property
    def id(self) -> str:
        return self.weights.id

    @property
    def name(self) -> str:
        return self.weights.name

    def begin(self, attempt: Attempt) -> list[Assignment]:  # noqa: ARG002
        sha256 = self.bench.store.put_checkpoint(self.id, self.weights.data)
        self.bench.checkpoints[self.id] = sha256
        return []

    def end(self, reports: Mapping[str, Report]) -> tuple[Ending, str]:  # noqa: ARG002
        return Ending.COMPLETE, ""
