"""What a run finds in its store when it opens: what is complete, what failed, what is to be done.

Rows count only if they were read: a name says how a trial ended, and half a file may have it. So
the outcomes are those of the rows that `Store.check` read. If a file turns out to be damaged after
that, everything is looked at once more without it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from orchestrator.errors import StoreError
from orchestrator.execution import extraction, measurement
from orchestrator.execution.derived import DerivedRun
from orchestrator.execution.frontier import Frontier, Node
from orchestrator.execution.items import Bench, Item, TrialItem, WeightsItem
from orchestrator.execution.study_items import items_of
from orchestrator.execution.study_run import StudyRun, open_searches
from orchestrator.plan.packs import packs_of
from orchestrator.plan.plan import Plan
from orchestrator.plan.trial import Trial
from orchestrator.states import State
from orchestrator.store.recovery import recover
from orchestrator.store.row_tables import Checked
from orchestrator.store.store import Store
from orchestrator.sweep.schema import Resources
from trainers.checkpoint import CheckpointError

LOOKS = 20  # at a store in which damaged files keep appearing


@dataclass(frozen=True)
class Opening:
    """The work items of a plan, of which the store holds some already."""

    trials: Mapping[str, Trial]
    """The trials that are wanted, with the bases of searches that they wait for."""
    items: Mapping[str, Item]
    bench: Bench
    complete: Collection[str]
    """Ids of items that need not be carried out."""
    failed: Mapping[str, str]
    """Reasons of the items that failed in an earlier run and are not tried again, by id."""
    skipped: Collection[str]
    """Trials that have the row of one that was skipped."""
    lacking: Mapping[str, str]
    """Missing files of complete trials, which are trained again, by the trial's name."""

    def frontier(self) -> Frontier:
        nodes = {id: item.node for id, item in self.items.items()}
        return Frontier(nodes, self.complete, self.failed)


def look(
    plan: Plan,
    store: Store,
    *,
    only: Iterable[str] | None,
    retry_failed: bool,
    search: bool,
) -> Opening:
    """Look at what the store holds of a plan, and set damaged files aside.

    The options are those of `Run.open`. What is counted on is there also after a loss of power.
    Raises `StoreError`.
    """
    for _ in range(LOOKS):
        checked = store.check(plan.trials, curves=True)
        if recover(store.row_tables):
            checked = store.check(plan.trials, curves=True)
        known = len(store.damage.reasons)
        found = _look(plan, store, checked, plan.wanted(only), retry_failed, search)
        store.keep_rows()
        if len(store.damage.reasons) == known:
            store.damage.set_aside()
            return found
    raise StoreError(f"files in {store.root} keep being damaged")


def _look(
    plan: Plan,
    store: Store,
    checked: Checked,
    wanted: Collection[str],
    retry_failed: bool,
    search: bool,
) -> Opening:
    bench, lacking = Bench(plan.sweep, store), dict(checked.lacking)
    outcomes = {id: x for id, x in checked.outcomes.items() if id not in lacking}
    incomplete = {id for id in wanted if outcomes.get(id) != State.COMPLETE}
    searches = open_searches(plan, bench, incomplete, every=search) if plan.studies else []
    search_bases = {base.id for one in searches for base in one.bases}
    chosen = {*wanted, *search_bases}
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
    again = {id for id in trials if checked.outcomes.get(id) == State.COMPLETE} - complete
    bench.replaced = attempts_of(store, again)
    is_open = bool(unsettled or searches or any(one.is_open for one in derived))
    items = _items(plan, trials, searches, bench, bases, is_open=is_open)
    for one in derived:
        complete |= one.complete()
        failed |= {} if retry_failed else one.failed()
        items |= one.items(bench)
    return Opening(
        trials=trials,
        items=items,
        bench=bench,
        complete=complete,
        failed=failed,
        skipped={id for id, outcome in outcomes.items() if outcome == State.SKIPPED},
        lacking={trial.name: lacking[id] for id, trial in trials.items() if id in lacking},
    )


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


def attempts_of(store: Store, trials: Collection[str]) -> dict[str, str]:
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
