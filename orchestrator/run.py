"""`Run`: a sweep being carried out. It joins the frontier to the store, whoever trains.

`launch.py` (Ray Tune) and `inline.py` (this process) take jobs from it and tell it how they ended.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from orchestrator.frontier import ENDED, Ending, Frontier, GivenUp, Job, Node, State
from orchestrator.plan import Plan, Trial
from orchestrator.store import Store
from orchestrator.worker import Assignment, Report, driver_row
from trainers.checkpoint import CheckpointError


class Progress(Protocol):
    """What is told of a run while it goes on."""

    def started(self, trial: Trial) -> None: ...

    def ended(self, trial: Trial, ending: Ending, message: str) -> None: ...

    def given_up(self, trial: Trial, state: State, reason: str) -> None: ...


class Run:
    """The trials of a plan that are wanted and not yet in the store, handed out as jobs."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        progress: Progress,
        *,
        only: Iterable[str] | None = None,
        retry_failed: bool = False,
    ):
        """Plan again, subtract what the store holds. Writes the sweep's membership."""
        self.plan, self.store, self.progress = plan, store, progress
        wanted = plan.with_parents(plan.trials if only is None else only)
        self.trials = {id: trial for id, trial in plan.trials.items() if id in wanted}
        outcomes = store.outcomes()
        failed: dict[str, str] = {}
        if not retry_failed:
            ids = [id for id in self.trials if outcomes.get(id) == "failed"]
            failed = {row["id"]: row["error_message"] for row in store.rows(ids, "failed")}
        complete = {id for id in self.trials if outcomes.get(id) == "complete"}
        self.checkpoints = self._parent_checkpoints(complete, failed)
        self.already = len(complete)
        nodes = {
            id: Node((trial.parent,) if trial.parent else (), plan.flops(trial), trial.request)
            for id, trial in self.trials.items()
        }
        self.frontier = Frontier(nodes, complete, failed)
        members = [trial.labels() for trial in plan.members]
        store.write_sweep(plan.sweep.name, members, plan.source.record())
        known = {id for id, outcome in outcomes.items() if outcome == "skipped"}
        self._record([g for g in self.frontier.take_given_up() if g.trial not in known])
        self._tidy()

    def _parent_checkpoints(self, complete: set[str], failed: Collection[str]) -> dict[str, str]:
        """Checkpoint hashes of the bases that are complete and that unfinished trials need.

        A base whose checkpoint is gone or damaged is taken out of `complete`, to be trained again.
        """
        settled = complete.union(failed)
        needed = {t.parent for id, t in self.trials.items() if id not in settled and t.parent}
        found: dict[str, str] = {}
        for row in self.store.rows(sorted(needed & complete)):
            try:
                self.store.get_checkpoint(row["id"], row["checkpoint"])
                found[row["id"]] = row["checkpoint"]
            except CheckpointError:
                complete.discard(row["id"])
        return found

    def take(self) -> tuple[Job, list[Assignment]] | None:
        """The next job and what its worker must know; none until another one ends."""
        job = self.frontier.take()
        if job is None:
            return None
        assignments = []
        for id in job.trials:
            trial = self.trials[id]
            parent = self.checkpoints[trial.parent] if trial.parent else None
            assignments.append(
                Assignment.of(trial, self.plan.sweep, self.store, parent_checkpoint=parent, job=job)
            )
        return job, assignments

    def started(self, job: Job) -> None:
        """A worker has begun with a job: it may have waited for resources since it was taken."""
        for id in job.trials:
            self.progress.started(self.trials[id])

    def end(self, job: Job, reports: Mapping[str, Report]) -> None:
        """Record how a job ended; write the rows of what is given up because of it."""
        for id in job.trials:
            report = reports[id]
            if report.ending is Ending.COMPLETE and report.checkpoint:
                self.checkpoints[id] = report.checkpoint
            self.progress.ended(self.trials[id], report.ending, report.message)
        endings = {id: (reports[id].ending, reports[id].message) for id in job.trials}
        self._record(self.frontier.finish(job, endings))
        self._tidy()

    def _tidy(self) -> None:
        """Drop the checkpoints that only this run needed, once it is done."""
        if self.frontier.done and self.plan.sweep.keep == "none":
            for id in self.trials:
                self.store.drop_checkpoints(id)

    def _record(self, given_up: list[GivenUp]) -> None:
        for item in given_up:
            trial = self.trials[item.trial]
            self.store.write_row(driver_row(trial, item.state.value, item.reason))
            self.progress.given_up(trial, item.state, item.reason)

    @property
    def done(self) -> bool:
        return self.frontier.done

    def open_trials(self) -> list[str]:
        """The trials that have not ended yet."""
        return [id for id, state in self.frontier.state.items() if state not in ENDED]

    def tally(self) -> dict[str, int]:
        """How many trials are complete, failed, lost, skipped and not yet run."""
        counts = {state.value: self.frontier.tally[state] for state in ENDED}
        return counts | {"missing": len(self.open_trials())}
