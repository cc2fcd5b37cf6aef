"""The work items of a search: its trials, their networks, and the choice of the best.

A trial of a study trains several networks, its cells, one after the other. Where cells can be lanes
each of them is an item, so that those of several trials, and of several studies, share packs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.execution.assignment import Assignment, Report
from orchestrator.execution.frontier import Attempt, Node
from orchestrator.execution.items import DriverItem, Item, Unit
from orchestrator.execution.study_run import StudyRun
from orchestrator.states import Ending, State
from orchestrator.sweep.schema import Resources


def items_of(study_run: StudyRun) -> dict[str, Item]:
    """Return the items of a study by id: its trials, then the choice that other trials wait for."""
    study, gaps = study_run.study, study_run.gaps()
    bases = tuple(base.id for base in study_run.bases)
    request = max((cell.request for cell in study.cells), key=_size)
    items: dict[str, Item] = {}
    for number in range(study.trials):
        missing = [gap for gap in gaps if gap <= number - study.at_once]
        earlier = sorted({*study.after(number), *missing})
        parents = (*bases, *map(study.node, earlier))
        is_over = number in study_run.rows
        cells = [] if is_over or not study_run.in_lanes else _cells(study_run, number, parents)
        items |= {cell.id: cell for cell in cells}
        parents = tuple(cell.id for cell in cells) or parents
        node = Node(parents, study_run.flops, request, may_fail=True)
        items[study.node(number)] = StudyTrialItem(study_run, number, node, in_lanes=bool(cells))
    trials = tuple(study.node(number) for number in range(study.trials))
    return items | {study.id: ChoiceItem(study_run, Node(trials, 0.0))}


def _cells(study_run: StudyRun, number: int, parents: tuple[str, ...]) -> list[StudyCellItem]:
    """Return the cells of a trial. Each waits for the one before it where this may be the last.

    Their cost is that of the trial, which waits for them.
    """
    cells: list[StudyCellItem] = []
    for place, cell in enumerate(study_run.study.cells):
        waits = (cells[-1].id,) if cells and study_run.study.can_prune(number) else ()
        pack = study_run.packs[place]
        node = Node((*parents, *waits), 0.0, cell.request, may_fail=True, pack=pack)
        cells.append(StudyCellItem(study_run, number, place, node))
    return cells


@dataclass
class StudyTrialItem:
    """One trial of a study: networks trained one after the other with the same schedule.

    With `in_lanes`, all of them have ended when it begins, and it writes the trial's row.
    """

    study_run: StudyRun
    number: int
    node: Node
    in_lanes: bool = False
    is_shown: bool = True
    unit: Unit = "trial"
    part_of: str | None = None

    @property
    def id(self) -> str:
        return self.study_run.study.node(self.number)

    @property
    def name(self) -> str:
        return f"search of {self.study_run.study.role}, trial {self.number}"

    def begin(self, attempt: Attempt) -> list[Assignment]:
        if self.in_lanes:
            return []
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
class StudyCellItem:
    """One network of a trial of a study, as a lane."""

    study_run: StudyRun
    number: int
    place: int
    node: Node
    is_shown: bool = False
    unit: Unit = "trial"

    @property
    def id(self) -> str:
        return f"{self.part_of}-{self.place}"

    @property
    def part_of(self) -> str:
        return self.study_run.study.node(self.number)

    @property
    def name(self) -> str:
        study = self.study_run.study
        return f"{study.cells[self.place].name} of search of {study.role}, trial {self.number}"

    def begin(self, attempt: Attempt) -> Sequence[Assignment]:
        cell = self.study_run.begin_cell(self.number, self.place)
        return [self.study_run.bench.assign(cell, attempt)] if cell else []

    def tell(self, report: Report) -> bool:  # noqa: ARG002
        return False

    def end(self, reports: Mapping[str, Report]) -> tuple[Ending, str]:
        for report in reports.values():
            self.study_run.tell(self.number, report)
            return report.ending, report.message
        return Ending.COMPLETE, ""  # nothing was left to do

    def give_up(self, state: State, reason: str) -> None:
        if state is State.LOST:
            self.study_run.lose_cell(self.number, self.place, reason)


@dataclass
class ChoiceItem(DriverItem):
    """The choice of a study's best trial. Nothing is trained; other trials wait for it."""

    study_run: StudyRun
    node: Node

    @property
    def id(self) -> str:
        return self.study_run.study.id

    @property
    def name(self) -> str:
        return f"search of {self.study_run.study.role}"

    def begin(self, attempt: Attempt) -> list[Assignment]:  # noqa: ARG002
        return []

    def end(self, reports: Mapping[str, Report]) -> tuple[Ending, str]:  # noqa: ARG002
        if self.study_run.choice():
            return Ending.COMPLETE, ""
        return Ending.FAILED, self.study_run.reason()


def _size(request: Resources) -> tuple[float, float, float]:
    return request.gpu, request.cpu, request.memory_gb or 0.0
