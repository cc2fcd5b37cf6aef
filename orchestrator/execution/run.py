"""`Run`: a sweep being carried out. It joins the frontier to the store, whoever trains.

`cluster/` (Ray Tune) and `inline.py` (this process) take work from it and report how it ended.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import StoreError
from orchestrator.execution import extraction, measurement
from orchestrator.execution.assignment import Report, Work
from orchestrator.execution.derived import DerivedRun
from orchestrator.execution.frontier import Attempt, Frontier, GivenUp, Node
from orchestrator.execution.items import Bench, Item, TrialItem, Unit, WeightsItem
from orchestrator.execution.pack import PackAssignment
from orchestrator.execution.progress import Progress
from orchestrator.execution.study_items import items_of
from orchestrator.execution.study_run import StudyRun, open_searches
from orchestrator.execution.succession import leaving
from orchestrator.plan.extraction import extractions_of
from orchestrator.plan.measurement import measurements_of
from orchestrator.plan.packs import most_lanes, packs_of
from orchestrator.plan.plan import Plan
from orchestrator.plan.trial import Trial
from orchestrator.states import OUTCOMES, Ending, State
from orchestrator.store.compaction import LOOSE, compact
from orchestrator.store.recovery import recover
from orchestrator.store.store import Store
from orchestrator.sweep.schema import Resources
from trainers.checkpoint import CheckpointError


@dataclass(frozen=True)
class Unusable:
    """Results in the store that a run does not take over."""

    left: int = 0
    """Number of recorded trials of earlier code or data, which leave the sweep."""
    lacking: Mapping[str, str] = field(default_factory=dict)
    """Missing files of complete trials, which are trained again, by the trial's name."""


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

    def __init__(
        self,
        plan: Plan,
        trials: Mapping[str, Trial],
        items: Mapping[str, Item],
        frontier: Frontier,
        bench: Bench,
        progress: Progress,
        unusable: Unusable | None = None,
    ):
        """Join the parts of a run. Writes nothing; `Run.open` makes a run from a plan."""
        self.plan, self.trials, self.items = plan, trials, items
        self.frontier, self.bench, self.progress = frontier, bench, progress
        self.store = bench.store
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
        self.unusable = unusable or Unusable()
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
        bench, wanted = Bench(plan.sweep, store), plan.wanted(only)
        lacking = store.check(plan.trials, curves=True)
        if recover(store.row_tables):
            lacking = store.check(plan.trials, curves=True)
        recorded = store.outcomes()
        outcomes = {id: x for id, x in recorded.items() if id not in lacking}
        incomplete = {id for id in wanted if outcomes.get(id) != State.COMPLETE}
        searches = open_searches(plan, bench, incomplete, every=search) if plan.studies else []
        search_bases = {base.id for one in searches for base in one.bases}
        chosen = wanted | search_bases
        trials = {id: t for id, t in plan.trials.items() if id in chosen}
        complete = {id for id in trials if outcomes.get(id) == State.COMPLETE}
        derived = [
            DerivedRun(kind, plan, store, trials, complete, retry_failed=retry_failed)
            for kind in (measurement.KIND, extraction.KIND)
        ]
        for one in derived:
            lacking |= one.lacking
            complete -= one.lacking.keys()
        failed = {} if retry_failed else _failures(store, trials, outcomes)
        unsettled = trials.keys() - complete - failed.keys()
        bases = search_bases | {parent for id in unsettled for parent in trials[id].parents}
        bases |= {id for one in derived for id in one.networks & plan.weights.keys()}
        bench.checkpoints = _checkpoints(store, bases & complete)
        complete -= bases - bench.checkpoints.keys()  # those are trained again
        for one in derived:
            bench.checkpoints = one.checkpoints | bench.checkpoints
        copied = _copied_weights(plan, store, bases)
        bench.checkpoints |= copied
        complete |= copied.keys()
        for search_run in searches:
            complete |= search_run.complete()
            failed |= search_run.failed()
        again = {id for id in trials if recorded.get(id) == State.COMPLETE} - complete
        bench.replaced = _attempts(store, again)
        is_open = bool(unsettled or searches or any(one.is_open for one in derived))
        items = _items(plan, trials, searches, bench, bases, is_open=is_open)
        for one in derived:
            complete |= one.complete()
            failed |= {} if retry_failed else one.failed()
            items |= one.items(bench)
        store.keep_rows()
        frontier = Frontier({id: item.node for id, item in items.items()}, complete, failed)
        store.damage.set_aside()
        missing = {t.name: lacking[id] for id, t in trials.items() if id in lacking}
        unusable = Unusable(left, missing)
        run = cls(plan, trials, items, frontier, bench, progress, unusable)
        run._record_sweep()
        skipped = {id for id, outcome in outcomes.items() if outcome == State.SKIPPED}
        run._give_up([g for g in frontier.take_given_up() if g.item not in skipped])
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
        self.bench.replaced |= _attempts(self.store, {base})
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


def _copied_weights(plan: Plan, store: Store, parents: Collection[str]) -> dict[str, str]:
    """SHA-256 of the files of weights among `parents` that the store holds, by id."""
    copied = {}
    for id, weights in plan.weights.items():
        with contextlib.suppress(CheckpointError):
            if id in parents:
                store.get_checkpoint(id, weights.sha256)
                copied[id] = weights.sha256
    return copied


def _failures(store: Store, trials: Collection[str], outcomes: Mapping[str, str]) -> dict[str, str]:
    """Reasons of the trials that failed in an earlier run, by id."""
    ids = [id for id in trials if outcomes.get(id) == State.FAILED]
    return {row["id"]: row["error_message"] for row in store.rows(ids, State.FAILED)}


def _attempts(store: Store, trials: Collection[str]) -> dict[str, str]:
    """Return the attempt of the row of each of these trials, by its id."""
    if not trials:
        return {}
    rows = store.table("trials", ["id", "attempt"]).to_pylist()
    return {row["id"]: row["attempt"] for row in rows if row["id"] in trials}


def _checkpoints(store: Store, bases: Collection[str]) -> dict[str, str]:
    """SHA-256 of the checkpoints of complete bases, without those that are gone or damaged."""
    checkpoints: dict[str, str] = {}
    for id, sha256 in sorted(store.checkpoints(bases).items()):
        try:
            store.get_checkpoint(id, sha256)
        except CheckpointError:
            continue
        checkpoints[id] = sha256
    return checkpoints


def _items(
    plan: Plan,
    trials: Mapping[str, Trial],
    searches: Collection[StudyRun],
    bench: Bench,
    parents: Collection[str],
    *,
    is_open: bool,
) -> dict[str, Item]:
    """The items of a run by id, parents first: weights, bases of searches, searches, trials.

    `parents` are the ids that open trials copy from. A trial that is complete waits for no file.
    Unless something is open, nothing is handed out: costs and packs would decide nothing.
    """
    by_study = {one.study.id: one for one in searches}
    packs = packs_of(plan) if is_open else {}

    def of_trial(trial: Trial) -> TrialItem:
        study = by_study.get(trial.training.schedule_from or "")
        needs = [parent for parent in trial.parents if parent in trials or parent in items]
        needs += [study.study.id] if study else []
        cost = plan.flops(trial) if is_open else 0.0
        return TrialItem(
            trial,
            Node(tuple(needs), cost, trial.request, pack=packs.get(trial.id)),
            bench,
            schedule=study.schedule_of(trial) if study else None,
        )

    items: dict[str, Item] = {
        id: WeightsItem(weights, Node((), 0.0, Resources()), bench)
        for id, weights in plan.weights.items()
        if id in parents
    }
    items |= {b.id: of_trial(trials[b.id]) for s in searches for b in s.bases}
    for one in searches:
        items |= items_of(one)
    return items | {id: of_trial(trial) for id, trial in trials.items() if id not in items}
