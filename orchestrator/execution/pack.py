"""The work on a pack: several trials trained together, each with its own row, as if alone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.errors import StoreError
from orchestrator.execution.assignment import Assignment, Report
from orchestrator.execution.worker import BaseMissingError, Stop, Training, Watcher
from orchestrator.states import Ending


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


def _train(
    pack: PackAssignment,
    trainings: dict[str, Training],
    reports: dict[str, Report],
    watch: Watcher,
    stop: Stop,
) -> None:
    from trainers.devices import is_out_of_memory
    from trainers.lanes.pack import Member, Stopwatch
    from trainers.lanes.pack import run as train
    from trainers.loop import lane

    members, ids = [], []
    for assignment in pack.assignments:
        clock = Stopwatch()
        with clock:
            training = Training(assignment, clock=clock, lanes=len(pack.assignments))
            trainings[training.id] = training
            if (ended := training.ended_before()) is not None:
                reports[training.id] = ended
                continue
            try:
                arguments = training.arguments(training.parents(), stop)
            except BaseMissingError as error:
                reports[training.id] = error.report
                continue
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
                    report = training.take(row)
            if report is not None:
                reports[id] = report
                member.lane.close()
    assert stop() or reports.keys() == trainings.keys(), "a lane ended without a report"
