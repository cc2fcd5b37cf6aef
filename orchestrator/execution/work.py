"""The kinds of work that a worker carries out, and the way in which they travel to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.execution import extraction, measurement, pack, worker
from orchestrator.execution.assignment import Assignment, Report, Work
from orchestrator.execution.extraction import ExtractionAssignment
from orchestrator.execution.measurement import MeasurementAssignment
from orchestrator.execution.pack import PackAssignment
from orchestrator.execution.worker import Stop, Watcher
from orchestrator.store.store import Store
from orchestrator.store.under_way import announced

if TYPE_CHECKING:
    from trainers.results import Row


class Kind(NamedTuple):
    """One kind of work."""

    type: type[Any]
    run: Callable[[Any, Watcher, Stop], list[Report]]


KINDS: dict[str, Kind] = {
    "training": Kind(
        Assignment, lambda work, watch, stop: [worker.run(work, watch=watch, stop=stop)]
    ),
    "pack": Kind(PackAssignment, lambda work, watch, stop: pack.run(work, watch=watch, stop=stop)),
    "measurement": Kind(
        MeasurementAssignment, lambda work, _, stop: [measurement.run(work, stop=stop)]
    ),
    "extraction": Kind(
        ExtractionAssignment, lambda work, _, stop: [extraction.run(work, stop=stop)]
    ),
}


def to_text(work: Work) -> str:
    """Return work as a string that `from_text` reads."""
    return json.dumps([_kind(work), work.to_json()])


def from_text(text: str) -> Work:
    """Return the work that `to_text` wrote."""
    kind, content = json.loads(text)
    work: Work = KINDS[kind].type.from_json(content)
    return work


def carry_out(
    work: Work, *, watch: Watcher = lambda *_: None, stop: Stop = lambda: False
) -> list[Report]:
    """Carry out one piece of work and return how that ended: one report, of a pack one per trial.

    `watch` receives every row of a training, with the id of the trial. `stop` ends the work; a
    training leaves a snapshot. Whatever is no outcome of the work itself is raised.
    """
    return KINDS[_kind(work)].run(work, watch, stop)


def carry_out_watched(
    work: Work, *, watch: Watcher = lambda *_: None, stop: Stop = lambda: False
) -> list[Report]:
    """Carry out one piece of work. Those who watch the store see which trials it trains."""
    from trainers.results import Evaluation, Failure, Result

    if not isinstance(work, Assignment | PackAssignment):
        return carry_out(work, watch=watch, stop=stop)
    with announced(Store(work.store), work.ids) as announcement:

        def take(id: str, row: Row) -> None:
            if isinstance(row, Evaluation):
                announcement.evaluated(id, row.step, row.goal)
            elif isinstance(row, Result | Failure):
                announcement.ended(id)
            watch(id, row)

        return carry_out(work, watch=take, stop=stop)


def _kind(work: Work) -> str:
    return next(name for name, kind in KINDS.items() if isinstance(work, kind.type))
