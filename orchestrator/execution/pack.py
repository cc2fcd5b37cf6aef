"""The work on a pack: several trials trained together, each with its own row, as if alone."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.errors import StoreError
from orchestrator.execution.assignment import Assignment, Report
from orchestrator.execution.worker import BaseMissingError, Stop, Training, Watcher
from orchestrator.states import Ending

if TYPE_CHECKING:
    from trainers.lanes.pack import Stopwatch
    from trainers.results import Row


@dataclass(frozen=True)
class PackAssignment:
    """Several networks to train as lanes of one pack."""

    assignments: tuple[Assignment, ...]

    @property
    def ids(self) -> Sequence[str]:
        return [assignment.id for assignment in self.assignments]

    @property
    def store(self) -> str:
        return self.assignments[0].store

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


class _Writer:
    """Writes the files of each lane in order, while the others are written and lanes train on."""

    def __init__(self, pool: ThreadPoolExecutor):
        self.pool = pool
        self.last: dict[str, Future[Report | None]] = {}

    def write(self, id: str, action: Callable[[], Report | None]) -> None:
        self.last[id] = self.pool.submit(action)

    def settled(self, id: str) -> Report | None:
        """Wait for the last write of a lane. Return its report if it ended with that."""
        return self.last[id].result() if id in self.last else None

    def reports(self) -> dict[str, Report]:
        """Return the reports of the lanes that have ended with a write."""
        done = {id: x for id, x in self.last.items() if x.done() and not x.exception()}
        return {id: report for id, future in done.items() if (report := future.result())}

    def check(self) -> None:
        """Raise what a write raised, if one did."""
        for future in self.last.values():
            if future.done():
                future.result()


def _take(training: Training, row: Row | Exception, writer: _Writer, watch: Watcher) -> None:
    """Take note of a row of a lane, or of the exception that ended it."""
    from trainers.results import Evaluation

    if not isinstance(row, Exception):
        watch(training.id, row)
    if not isinstance(row, Evaluation) and not writer.settled(training.id):
        take = training.failed if isinstance(row, Exception) else training.take
        writer.write(training.id, functools.partial(take, row))  # type: ignore[arg-type]


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

    # A store may be far away: the files of all lanes are read and written at the same time.
    pool = ThreadPoolExecutor(len(pack.assignments))
    writer = _Writer(pool)
    members: list[Member] = []
    ids: list[str] = []
    try:
        with pool:
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
                    if isinstance(row, Exception) and len(members) > 1 and is_out_of_memory(row):
                        raise row
                    with members[number].watch:
                        _take(trainings[ids[number]], row, writer, watch)
                    writer.check()
                    for id in writer.reports():
                        members[ids.index(id)].lane.close()
    finally:
        reports |= writer.reports()
    writer.check()
    assert stop() or reports.keys() == trainings.keys(), "a lane ended without a report"
