"""The work on a pack: several trials trained together, each with its own row, as if alone."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.errors import StoreError
from orchestrator.execution.assignment import Assignment, Report
from orchestrator.execution.worker import BaseMissingError, Stop, Training, Watcher
from orchestrator.states import Ending

if TYPE_CHECKING:
    from trainers.lanes.pack import Stopwatch


@dataclass(frozen=True)
class PackAssignment:
    """Several networks to train as lanes of one pack."""

    assignments: tuple[Assignment, ...]

    @property
    def ids(self) -> Sequence[str]:
        return [assignment.id for assignment in self.assignments]

    def to_json(self) -> str:
        return json.dumps([assignment.to_json() for assignment in self.assignments])

    @classmethod
    def from_json(cls, text: str) -> PackAssignment:
        return cls(tuple(Assignment.from_json(one) for one in json.loads(text)))


def run(pack: PackAssignment, *, watch: Watcher, stop: Stop) -> list[Report]:
    """Train the networks of a pack, and return a report of each; see `worker.run`.

    A trial that fails, fails alone. If the pack as a whole fails, every trial that has not ended is
    reported so, and is to be repeated in a smaller pack.
    """
    from trainers.devices import free_memory

    trainings: dict[str, Training] = {}
    reports: dict[str, Report] = {}
    try:
        _train(pack, trainings, reports, watch, stop)
    except StoreError as error:
        ending, reason = Ending.STORE_FAILED, str(error)
    except Exception as error:
        if len(pack.assignments) == 1:
            if not trainings:
                raise
            return [trainings[pack.ids[0]].failed(error)]
        ending, reason = Ending.PACK_FAILED, f"{type(error).__name__}: {error}"
    else:
        ending, reason = Ending.STOPPED, ""
    finally:
        free_memory("cuda" if pack.assignments[0].request["gpu"] else "cpu")
    return [reports.get(id) or Report(id, ending, reason) for id in pack.ids]


class _Prepared(NamedTuple):
    training: Training
    clock: Stopwatch
    arguments: dict[str, Any] | None = None
    report: Report | None = None
    """Says that its base is gone or damaged, or that another attempt has completed it."""


def _prepare(assignment: Assignment, *, lanes: int, stop: Stop) -> _Prepared:
    from trainers.lanes.pack import Stopwatch

    clock = Stopwatch()
    with clock:
        training = Training(assignment, clock=clock, lanes=lanes)
        if ended := training.ended_before():
            return _Prepared(training, clock, report=ended)
        try:
            arguments = training.arguments(training.parents(), stop)
        except BaseMissingError as error:
            return _Prepared(training, clock, report=error.report)
    return _Prepared(training, clock, arguments)


def _prepared(pack: PackAssignment, pool: ThreadPoolExecutor, stop: Stop) -> list[_Prepared]:
    """Return the trainings of a pack. One of each base comes first, and the node keeps the base."""
    prepare = functools.partial(_prepare, lanes=len(pack.assignments), stop=stop)
    first = {tuple(one.checkpoints.items()): one.id for one in pack.assignments}.values()
    waves = [[x for x in pack.assignments if (x.id in first) is wave] for wave in (True, False)]
    prepared = {one.training.id: one for wave in waves for one in pool.map(prepare, wave)}
    return [prepared[id] for id in pack.ids]


def _train(
    pack: PackAssignment,
    trainings: dict[str, Training],
    reports: dict[str, Report],
    watch: Watcher,
    stop: Stop,
) -> None:
    from trainers.devices import is_out_of_memory
    from trainers.lanes.pack import Member
    from trainers.lanes.pack import run as train
    from trainers.loop import lane
    from trainers.results import Failure, Result

    members: list[Member] = []
    ids: list[str] = []
    writing: dict[str, Future[Report | None]] = {}
    try:
        # A store may be far away, so its files are read and written at the same time.
        with ThreadPoolExecutor(len(pack.assignments)) as pool:
            for training, clock, arguments, ended in _prepared(pack, pool, stop):
                trainings[training.id] = training
                if ended:
                    reports[training.id] = ended
                    continue
                assert arguments is not None
                members.append(Member(lane(training.trained, **arguments), clock))
                ids.append(training.id)
            with contextlib.closing(train(members)) as events:
                for number, row in events:
                    id, member = ids[number], members[number]
                    training = trainings[id]
                    with member.watch:
                        if isinstance(row, Exception):
                            if len(members) > 1 and is_out_of_memory(row):
                                raise row
                            report: Report | None = training.failed(row)
                        else:
                            watch(row)
                            if isinstance(row, Result | Failure):  # the last one of its lane
                                writing[id] = pool.submit(training.take, row)
                                continue
                            report = training.take(row)
                    if report is not None:
                        reports[id] = report
                        member.lane.close()
    finally:
        written = {id: future for id, future in writing.items() if not future.exception()}
        reports |= {id: report for id, future in written.items() if (report := future.result())}
    for future in writing.values():
        future.result()
    assert stop() or reports.keys() == trainings.keys(), "a lane ended without a report"
