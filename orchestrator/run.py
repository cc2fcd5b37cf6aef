"""`Run`: a sweep being carried out. It joins the frontier to the store, whoever trains.

`launch/` (Ray Tune) and `inline.py` (this process) take jobs from it and tell it how they ended.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from orchestrator.frontier import ENDED, Ending, Frontier, GivenUp, Job, Node, State
from orchestrator.plan import Plan, Trial
from orchestrator.search.carrying import CarriedStudy, StudyTrial, needed
from orchestrator.store import Store
from orchestrator.worker import Assignment, Report, driver_row
from trainers.checkpoint import CheckpointError


class Progress(Protocol):
    """What is told of a run while it goes on."""

    def started(self, trial: Trial) -> None: ...

    def ended(self, trial: Trial, ending: Ending, message: str) -> None: ...

    def given_up(self, trial: Trial, state: State, reason: str) -> None: ...

    def again(self, trial: Trial) -> None: ...


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
        search: bool = False,
    ):
        """Plan again, subtract what the store holds. Writes the sweep's membership.

        The studies that wanted trials wait for are carried out too; all of them with `search`.
        """
        self.plan, self.store, self.progress = plan, store, progress
        of_studies = {base.id for study in plan.studies for base in study.bases}
        wanted = plan.with_parents(set(plan.trials) - of_studies if only is None else only)
        outcomes = store.outcomes()
        self.studies = self._studies(wanted, outcomes, search)
        self.nodes_of = {node: carried for carried in self.studies for node in carried.nodes()}
        wanted |= {base.id for carried in self.studies for base in carried.bases}
        self.trials = {id: trial for id, trial in plan.trials.items() if id in wanted}
        failed: dict[str, str] = {}
        if not retry_failed:
            ids = [id for id in self.trials if outcomes.get(id) == "failed"]
            failed = {row["id"]: row["error_message"] for row in store.rows(ids, "failed")}
        complete = {id for id in self.trials if outcomes.get(id) == "complete"}
        self.checkpoints = self._parent_checkpoints(complete, failed)
        self.begun_from: dict[str, tuple[str, str]] = {}  # trial → its base and that's checkpoint
        self.already = len(complete)
        for carried in self.studies:
            complete |= carried.complete()
            failed |= carried.failed()
        self.frontier = Frontier(self._nodes(), complete, failed)
        members = [trial.labels() for trial in plan.members]
        store.write_sweep(plan.sweep.name, members, plan.source.record(), **self._searches())
        known = {id for id, outcome in outcomes.items() if outcome == "skipped"}
        self._record([g for g in self.frontier.take_given_up() if g.trial not in known])
        self._tidy()

    def _studies(
        self, wanted: Collection[str], outcomes: Mapping[str, str], search: bool
    ) -> list[CarriedStudy]:
        waiting = [self.plan.trials[id] for id in wanted if outcomes.get(id) != "complete"]
        studies = self.plan.studies if search else needed(self.plan.studies, waiting)
        return [CarriedStudy(study, self.plan, self.store) for study in studies]

    def _nodes(self) -> dict[str, Node]:
        """The graph, parents first: bases of studies, studies, and what may wait for them."""
        bases = [base.id for carried in self.studies for base in carried.bases]
        nodes = {id: self._node(self.trials[id]) for id in bases}
        for carried in self.studies:
            nodes |= carried.nodes()
        return nodes | {id: self._node(trial) for id, trial in self.trials.items()}

    def _node(self, trial: Trial) -> Node:
        parents = [trial.parent] if trial.parent else []
        if (study := trial.training.schedule_from) and study in self.nodes_of:
            parents.append(study)
        return Node(tuple(parents), self.plan.flops(trial), trial.request)

    def _searches(self) -> dict[str, str]:
        """What the record of the sweep says of its studies."""
        names = ("id", "series", "role", "trials")
        found = [{name: getattr(study, name) for name in names} for study in self.plan.studies]
        return {"studies": json.dumps(found)} if found else {}

    def _parent_checkpoints(self, complete: set[str], failed: Collection[str]) -> dict[str, str]:
        """Checkpoint hashes of the bases that are complete and that unfinished trials need.

        A base whose checkpoint is gone or damaged is taken out of `complete`, to be trained again.
        """
        settled = complete.union(failed)
        needed = {t.parent for id, t in self.trials.items() if id not in settled and t.parent}
        needed |= {base.id for carried in self.studies for base in carried.bases}
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
        while (job := self.frontier.take()) is not None:
            if (carried := self._carried(job)) is None:
                return job, [self._assignment(self.trials[id], job) for id in job.trials]
            if assignments := self._of_study(carried, job):
                return job, assignments
        return None

    def _assignment(self, trial: Trial, job: Job) -> Assignment:
        schedule = None
        if study := trial.training.schedule_from:
            [carried] = [carried for carried in self.studies if carried.study.id == study]
            schedule = carried.schedule(trial.training.recipe)
        parent = self.checkpoints[trial.parent] if trial.parent else None
        if trial.parent and parent:
            self.begun_from[trial.id] = (trial.parent, parent)
        return Assignment.of(
            trial,
            self.plan.sweep,
            self.store,
            parent_checkpoint=parent,
            job=job,
            schedule=schedule,
        )

    def _carried(self, job: Job) -> CarriedStudy | None:
        """The study that a job is of."""
        return self.nodes_of.get(job.trials[0])

    def _of_study(self, carried: CarriedStudy, job: Job) -> list[Assignment]:
        """What is to be trained of a study trial; if it is nothing, the job is settled."""
        number = carried.numbers.get(job.trials[0])
        if number is None:
            ended = (Ending.COMPLETE, "") if carried.choice() else (Ending.FAILED, carried.reason())
            self._settle(job, *ended)
            return []
        cells = carried.begin(number)
        if not cells:
            self.progress.started(carried.shown(job.trials[0]))
            self._end_study_trial(carried, job, {})
        return [self._assignment(cell, job) for cell in cells]

    def started(self, job: Job) -> None:
        """A worker has begun with a job: it may have waited for resources since it was taken."""
        for trial in self._shown(job):
            self.progress.started(trial)

    def stops(self, job: Job, report: Report) -> bool:
        """Whether a job is not to go on after this report: its study prunes it, or it failed."""
        carried = self._carried(job)
        return carried is not None and carried.tell(carried.numbers[job.trials[0]], report)

    def end(self, job: Job, reports: Mapping[str, Report]) -> None:
        """Record how a job ended; write the rows of what is given up because of it."""
        for report in reports.values():
            if report.ending is Ending.BASE_DAMAGED:
                self._train_again(*self.begun_from[report.trial])
        if carried := self._carried(job):
            self._end_study_trial(carried, job, reports)
            return
        for id in job.trials:
            report = reports[id]
            if report.ending is Ending.COMPLETE and report.checkpoint:
                self.checkpoints[id] = report.checkpoint
            self.progress.ended(self.trials[id], report.ending, report.message)
        endings = {id: (reports[id].ending, reports[id].message) for id in job.trials}
        self._record(self.frontier.finish(job, endings))
        self._tidy()

    def _train_again(self, base: str, checkpoint: str) -> None:
        """Train a base whose checkpoint is gone or damaged, unless it is being trained already."""
        same = self.checkpoints[base] == checkpoint
        if same and self.frontier.state[base] is State.COMPLETE:
            self.frontier.redo(base)
            self.progress.again(self.trials[base])

    def _end_study_trial(
        self, carried: CarriedStudy, job: Job, reports: Mapping[str, Report]
    ) -> None:
        """Write the row of a study trial if it has ended; else it is tried again."""
        ending, message = carried.close(carried.numbers[job.trials[0]], reports)
        self.progress.ended(carried.shown(job.trials[0]), ending, message)
        self._settle(job, ending, message)

    def _settle(self, job: Job, ending: Ending, message: str) -> None:
        self._record(self.frontier.finish(job, {job.trials[0]: (ending, message)}))
        self._tidy()

    def _shown(self, job: Job) -> list[Trial]:
        """The trials of a job as progress shows them."""
        if carried := self._carried(job):
            return [carried.shown(job.trials[0])]
        return [self.trials[id] for id in job.trials]

    def _tidy(self) -> None:
        """Once this run is done, drop what only it needed, and what came too late.

        A worker that was taken for dead may leave a snapshot of a trial that is complete by then.
        """
        if not self.frontier.done:
            return
        for id in self.trials.keys() & set(self.store.names("progress")):
            if self.frontier.state[id] is State.COMPLETE:
                self.store.drop_progress(id)
        if self.plan.sweep.keep == "none":
            for id in self.trials:
                self.store.drop_checkpoints(id)

    def _record(self, given_up: list[GivenUp]) -> None:
        for item in given_up:
            if carried := self.nodes_of.get(item.trial):
                self._record_study_trial(carried, item)
                continue
            trial = self.trials[item.trial]
            self.store.write_row(driver_row(trial, item.state.value, item.reason))
            self.progress.given_up(trial, item.state, item.reason)

    def _record_study_trial(self, carried: CarriedStudy, item: GivenUp) -> None:
        """One that was lost failed; one that was skipped, or the study, has no row."""
        number = carried.numbers.get(item.trial)
        if number is None:
            return
        if item.state is State.LOST:
            carried.end(number, item.reason)
        self.progress.given_up(carried.shown(item.trial), item.state, item.reason)

    @property
    def done(self) -> bool:
        return self.frontier.done

    def flops(self, trial: Trial) -> float:
        """The work of a trial, or of a study trial as progress shows it."""
        return trial.flops if isinstance(trial, StudyTrial) else self.plan.flops(trial)

    def open_trials(self) -> list[str]:
        """The trials that have not ended yet."""
        return [id for id in self.trials if self.frontier.state[id] not in ENDED]

    def open_study_trials(self) -> list[Trial]:
        """The study trials that have not ended yet, as progress shows them."""
        return [
            carried.shown(node)
            for carried in self.studies
            for node in carried.numbers
            if self.frontier.state[node] not in ENDED
        ]

    def tally(self) -> dict[str, int]:
        """How many trials are complete, failed, lost, skipped and not yet run."""
        states = Counter(self.frontier.state[id] for id in self.trials)
        counts = {state.value: states[state] for state in ENDED}
        return counts | {"missing": len(self.open_trials())}
