"""`Run`: a sweep being carried out. It joins the frontier to the store, whoever trains.

`cluster/` (Ray Tune) and `inline.py` (this process) take work from it and report how it ended.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import StoreError
from orchestrator.execution.assignment import Report, Work
from orchestrator.execution.frontier import Attempt, GivenUp
from orchestrator.execution.items import Item, Unit
from orchestrator.execution.opening import Opening, attempts_of, look
from orchestrator.execution.pack import PackAssignment
from orchestrator.execution.progress import Progress
from orchestrator.execution.succession import leaving
from orchestrator.plan.extraction import extractions_of
from orchestrator.plan.measurement import measurements_of
from orchestrator.plan.packs import most_lanes
from orchestrator.plan.plan import Plan
from orchestrator.states import OUTCOMES, Ending, State
from orchestrator.store.compaction import LOOSE, compact
from orchestrator.store.store import Store
from orchestrator.sweep.schema import Resources
from trainers.checkpoint import CheckpointError


@dataclass(frozen=True)
class Job:
    """Attempts that one worker carries out: one, or those of a pack."""

    attempts: tuple[Attempt, ...]
    works: Sequence[Work]
    ids: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Ids of the trials that each item of a pack consists of."""

    @property
    def request(self) -> Resources:
        """Resources that the worker needs."""
        return self.attempts[0].request

    @property
    def first(self) -> str:
        """Id of the item with the most expensive path."""
        return self.attempts[0].item

    def reports_of(self, attempt: Attempt, reports: Mapping[str, Report]) -> Mapping[str, Report]:
        """Return the reports that are of one attempt: of a pack, those on its trial."""
        if len(self.attempts) == 1:
            return reports
        ids = {attempt.item} | self.ids.get(attempt.item, frozenset())
        return {id: report for id, report in reports.items() if id in ids}


class Run:
    """The work items of a sweep that the store lacks, handed out until all of them have ended."""

    def __init__(self, plan: Plan, found: Opening, progress: Progress, left: int = 0):
        """Join the parts of a run. Writes nothing; `Run.open` makes a run from a plan."""
        self.plan, self.trials, self.items = plan, found.trials, found.items
        self.frontier, self.bench, self.progress = found.frontier(), found.bench, progress
        self.store = found.bench.store
        self.lacking = found.lacking
        """Missing files of complete trials, which are trained again, by the trial's name."""
        self.left = left
        """Number of recorded trials of earlier code or data, which leave the sweep."""
        self.already = self.tally()["complete"]
        self.store_failure = ""
        """Reason why the store cannot be used. The run then hands out nothing more."""
        self.slots = 1
        """Jobs that can run at the same time, about."""
        self.jobs = 0
        """Jobs that were taken and have not ended."""
        self.begun: set[str] = set()
        """Items that progress shows as running."""
        self.most_lanes = most_lanes(plan)
        self.rows_written = 0
        """Row files of this run since the last compaction."""

    @classmethod
    def open(
        cls,
        plan: Plan,
        store: Store,
        progress: Progress,
        *,
        only: Iterable[str] | None = None,
        retry_failed: bool = False,
        search: bool = False,
        replace: bool = False,
    ) -> Run:
        """Subtract what the store holds from the plan, and record the sweep in the store.

        `only` are ids of trials; their parents come along. Searches that these trials wait for are
        carried out too, and with `search` all searches of the plan. Rows are written for trials
        that are skipped because a parent failed in an earlier run. Raises `LayerwiseError`, before
        anything is written, if the store has a sweep of this name with other settings and `replace`
        is false.
        """
        left = 0 if replace else leaving(plan, store)
        store.make()
        found = look(plan, store, only=only, retry_failed=retry_failed, search=search)
        run = cls(plan, found, progress, left)
        run._record_sweep()
        run._give_up([g for g in run.frontier.take_given_up() if g.item not in found.skipped])
        run._tidy()
        return run

    # For whoever trains -------------------------------------------------------------------------

    def take(self) -> Job | None:
        """Return the next job, or None until another one ends.

        None as well once the store has failed.
        """
        while not self.store_failure:
            idle = self.slots - self.jobs
            attempts = self.frontier.take_pack(self.most_lanes, self.slots, idle)
            if not attempts:
                return None
            works: dict[str, Sequence[Work]] = {}
            with self._noting_failures():
                works = {x.item: self.items[x.item].begin(x) for x in attempts}
            done = Job(tuple(x for x in attempts if not works.get(x.item)), ())
            if done.attempts:
                self.jobs += 1
                self.started(done)
                self.end(done, {})
            left = tuple(x for x in attempts if works.get(x.item))
            if left:
                self.jobs += 1
                return self._job(left, works)
        return None

    def _job(self, attempts: tuple[Attempt, ...], works: Mapping[str, Sequence[Work]]) -> Job:
        """Return a job. The trials of a pack are one piece of work; none is in it twice."""
        if self.frontier.nodes[attempts[0].item].pack is None:
            return Job(attempts, works[attempts[0].item])
        lanes: dict[str, Any] = {x.ids[0]: x for part in works.values() for x in part}
        ids = {item: frozenset(x.ids[0] for x in part) for item, part in works.items()}
        return Job(attempts, [PackAssignment(tuple(lanes.values()))], ids)

    def started(self, job: Job) -> None:
        """Take note that a worker has begun. The job may have waited for resources."""
        for attempt in job.attempts:
            shown = self._shown(attempt)
            if shown and shown.id not in self.begun:
                self.begun.add(shown.id)
                self.progress.started(shown)

    def _shown(self, attempt: Attempt) -> Item | None:
        """The item that progress shows while an attempt runs."""
        item = self.items[attempt.item]
        return item if item.is_shown else self.items.get(item.part_of or "")

    def tell(self, job: Job, report: Report) -> bool:
        """Take note of one report. True if the job must stop after it."""
        return any(self.items[attempt.item].tell(report) for attempt in job.attempts)

    def end(
        self,
        job: Job,
        reports: Mapping[str, Report],
        can_be_met: Callable[[Resources], bool] = lambda _: True,
    ) -> None:
        """Record how a job ended, and write the rows of what is given up because of it.

        `reports` are by the id of the trial or measurement. `can_be_met` tells whether some node
        could hold a raised request.
        """
        self.jobs -= 1
        for report in reports.values():
            if report.damaged_base:
                with self._noting_failures():
                    self._train_again(*report.damaged_base)
        for attempt in job.attempts:
            self._end(attempt, job.reports_of(attempt, reports), can_be_met, len(job.attempts))

    def _end(
        self,
        attempt: Attempt,
        reports: Mapping[str, Report],
        can_be_met: Callable[[Resources], bool],
        lanes: int,
    ) -> None:
        item = self.items[attempt.item]
        ending, message = Ending.STORE_FAILED, self.store_failure
        with self._noting_failures():
            if reports or not self.store_failure:
                ending, message = item.end(reports)
        if ending is Ending.OUT_OF_MEMORY and lanes > 1:  # a smaller pack needs less
            ending = Ending.PACK_FAILED
        if ending is Ending.STORE_FAILED:
            self.store_failure = self.store_failure or message
        shown = self._shown(attempt)
        interrupted = shown and shown.id in self.begun and not ending.is_outcome
        if shown and (shown is item or interrupted):
            self.begun.discard(shown.id)
            accuracy = reports[item.id].top1 if item.id in reports else None
            self.progress.ended(shown, ending, message, accuracy)
        given_up = self.frontier.finish(attempt, ending, message, can_be_met)
        self.rows_written += len(reports) + len(given_up)
        with self._noting_failures():
            self._give_up(given_up)
            self._tidy()
            if self.rows_written >= LOOSE:
                self.rows_written = 0
                compact(self.store, everything=False)

    @contextlib.contextmanager
    def _noting_failures(self) -> Iterator[None]:
        """Let a failure of the store end the run in good order, not with an exception."""
        try:
            yield
        except StoreError as error:
            self.store_failure = self.store_failure or str(error)

    @property
    def done(self) -> bool:
        """True if every item has ended."""
        return self.frontier.done

    def open_items(self) -> list[Item]:
        """Items that progress counts and that have not ended."""
        return [
            item
            for id, item in self.items.items()
            if item.is_shown and self.frontier.state[id] not in OUTCOMES
        ]

    def number_of(self, unit: Unit) -> int:
        """Number of items that progress counts as `unit`."""
        return sum(item.is_shown and item.unit == unit for item in self.items.values())

    def ended_items(self, unit: Unit = "trial") -> Counter[State]:
        """Number of items that progress counts as `unit` and that ended, in each outcome."""
        shown = (id for id, item in self.items.items() if item.is_shown and item.unit == unit)
        return Counter(state for id in shown if (state := self.frontier.state[id]) in OUTCOMES)

    def tally(self) -> dict[str, int]:
        """Number of trials in each outcome, and of those `missing`: not ended yet."""
        states = Counter(self.frontier.state[id] for id in self.trials)
        counts = {outcome.value: states[outcome] for outcome in OUTCOMES}
        return counts | {State.MISSING.value: len(self.trials) - sum(counts.values())}

    def compact(self) -> None:
        """Move the rows that this run wrote to parts, which any program reads."""
        with self._noting_failures():
            if not self.store_failure and self.store.names("rows"):
                compact(self.store)

    # Writing to the store -----------------------------------------------------------------------

    def _record_sweep(self) -> None:
        """Write which trials the sweep consists of, its text, its reference and its searches."""
        names = ("id", "series", "role", "trials")
        searches = [{name: getattr(study, name) for name in names} for study in self.plan.studies]
        facts: dict[str, str] = {"reference": self.plan.sweep.reference or ""}
        facts["forms"] = json.dumps(self.plan.source.forms)
        facts |= {"studies": json.dumps(searches)} if searches else {}
        for name, derived in (("measurements", measurements_of), ("extractions", extractions_of)):
            if ids := list(derived(self.plan)):
                facts[name] = json.dumps(ids)
        members = [trial.labels() for trial in self.plan.members]
        self.store.write_sweep(self.plan.sweep.name, members, self.plan.source.record(), **facts)

    def _train_again(self, base: str, checkpoint: str) -> None:
        """Train a base whose checkpoint is gone or damaged, unless that has already begun.

        The report of a pack comes late: the base may have been trained again meanwhile.
        """
        is_newest = self.bench.checkpoints[base] == checkpoint
        if not is_newest or self.frontier.state[base] is not State.COMPLETE:
            return
        with contextlib.suppress(CheckpointError):
            self.store.get_checkpoint(base, checkpoint)
            return
        self.bench.replaced |= attempts_of(self.store, {base})
        self.frontier.redo(base)
        self.progress.again(self.items[base])

    def _give_up(self, given_up: list[GivenUp]) -> None:
        for given in given_up:
            item = self.items[given.item]
            item.give_up(given.state, given.reason)
            if item.is_shown:
                self.progress.given_up(item, given.state, given.reason)

    def _tidy(self) -> None:
        """At the end of the run, drop the files that only it needed.

        Snapshots of complete trials may appear late, from a worker that was taken for dead.
        """
        if not self.done:
            return
        self.compact()
        for id in sorted(self.trials.keys() & set(self.store.names("progress"))):
            if self.frontier.state[id] is State.COMPLETE:
                self.store.drop_progress(id)
        if self.plan.sweep.keep == "none":
            for id in (*self.trials, *self.plan.weights):
                self.store.drop_checkpoints(id)
