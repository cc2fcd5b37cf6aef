"""The adapter to Ray Tune.

A trial of Tune is one job: an attempt at a work item, or a pack of attempts. Order, dependencies
and retries belong to the frontier; Tune itself retries nothing.
"""

from __future__ import annotations

import os
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.search_generator import SearchGenerator

from orchestrator.cluster import internals
from orchestrator.cluster.actor import Worker
from orchestrator.cluster.capacity import Capacity, bundle
from orchestrator.cluster.connection import Cluster, connect
from orchestrator.cluster.draining import Drain
from orchestrator.cluster.failures import classify
from orchestrator.cluster.watch import dead, watched
from orchestrator.execution.assignment import Report
from orchestrator.execution.run import Job, Run
from orchestrator.execution.work import to_text
from orchestrator.signals import SIGNALS
from orchestrator.states import Ending
from orchestrator.sweep.schema import Resources


def launch_with_tune(run: Run, cluster: Cluster, kind: type[Worker] | None = None) -> None:
    """Carry out a run on a cluster: see `launch.launch`."""
    drain, is_ours = Drain(), cluster.address is None
    with (
        SIGNALS.draining(drain.ask),
        connect(cluster) as folder,
        watched(lambda: run.store_failure, is_ours=is_ours),
    ):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        capacity = Capacity.of(nodes, is_ours=is_ours)
        slots = capacity.slots({item.name: item.node.request for item in run.open_items()})
        run.slots = slots
        # This many trials are pending at once. The autoscaler starts nodes for these only.
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(slots + 1)
        scheduler = Scheduler(run, drain, keeps_idle=is_ours)
        searcher = FrontierSearcher(run, scheduler, capacity)
        tuner = tune.Tuner(
            tune.with_resources(kind or Worker, _placement),
            tune_config=tune.TuneConfig(
                search_alg=Search(searcher),
                scheduler=scheduler,
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=run.plan.sweep.name,
                storage_path=str(folder / "tune"),
                verbose=0,
                progress_reporter=tune.CLIReporter(),  # that of notebooks clears a cell's output
                failure_config=tune.FailureConfig(max_failures=0),
                callbacks=[Starts(searcher), internals.Silence()],
            ),
        )
        try:
            tuner.fit()
        except Exception:  # of many kinds, if Ray has died
            if is_ours and (reason := dead()):
                raise SIGNALS.loss(reason) from None
            raise
    assert run.done or drain.asked or run.store_failure, "Ray Tune ended before the sweep did"


def _placement(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    request = Resources.model_validate_json(config["request"])
    return tune.PlacementGroupFactory([bundle(request)])


class Scheduler(FIFOScheduler):  # type: ignore[misc]
    """Tune's scheduler: it fills idle workers, stops pruned trials and classifies errors."""

    def __init__(self, run: Run, drain: Drain, *, keeps_idle: bool):
        super().__init__()
        self.run, self.drain, self.keeps_idle = run, drain, keeps_idle
        self.requests: list[Any] = []  # the different requests so far
        self.jobs: dict[str, Job] = {}  # by the id of Tune's trial
        self.endings: dict[str, tuple[Ending, str]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return no state: Tune pickles its scheduler, but a run resumes from the store."""
        return {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Keep idle workers of a local cluster while all trials have the same request.

        Tune stops a worker that no pending trial can use, as while all trials wait for their bases.
        On a shared cluster that is right: other users or the autoscaler want its place.
        """
        super().on_trial_add(tune_controller, trial)
        request = trial.placement_group_factory
        if not self.keeps_idle or request in self.requests:
            return
        self.requests.append(request)
        if len(self.requests) == 1:
            internals.keep_idle_workers(tune_controller, request, len(self.run.items))
        elif len(self.requests) == 2:
            internals.keep_idle_workers(tune_controller, self.requests[0], -len(self.run.items))

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the pending trial with the most expensive path below it, for an idle worker.

        New workers take trials in the order in which these were suggested.
        """
        if self.drain.asked:
            self._stop_pending(tune_controller)
        waiting = internals.trials_for_idle_workers(tune_controller)
        return min(waiting, key=self._rank, default=None)

    def _stop_pending(self, tune_controller: Any) -> None:
        """End trials that have not begun: on a cluster that grows, they may wait for long."""
        for trial in list(tune_controller.get_live_trials()):
            if trial.status == trial.PENDING:
                tune_controller.stop_trial(trial)

    def _rank(self, trial: Any) -> tuple[float, int]:
        return self.run.frontier.rank(self.jobs[trial.trial_id].first)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002
        job = self.jobs[trial.trial_id]
        stops = any(self.run.tell(job, report) for report in result["reports"])
        return str(TrialScheduler.STOP if stops else TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:  # noqa: ARG002
        request = self.jobs[trial.trial_id].request
        self.endings[trial.trial_id] = classify(internals.error_of(trial), request)


class FrontierSearcher(Searcher):  # type: ignore[misc]
    """Tune's searcher: it hands out jobs that are ready and reports their ends to the run."""

    def __init__(self, run: Run, scheduler: Scheduler, capacity: Capacity):
        super().__init__()
        self.run, self.drain, self.capacity = run, scheduler.drain, capacity
        self.jobs, self.endings = scheduler.jobs, scheduler.endings
        self.reports: dict[str, dict[str, Report]] = {}  # by Tune's trial, then by our trial

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        job = self.run.take()
        if job is None:
            if self.run.store_failure:
                self.drain.ask()
            stuck = not (self.jobs or self.run.done or self.drain.asked)
            assert not stuck, "nothing runs, nothing is ready and the run is not done"
            return None
        self.jobs[trial_id], self.reports[trial_id] = job, {}
        return {
            "works": [to_text(work) for work in job.works],
            "request": job.request.model_dump_json(),
            "drain": self.drain.key,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.reports[trial_id] |= {report.trial: report for report in result["reports"]}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if result is not None:
            self.on_trial_result(trial_id, result)
        job, reports = self.jobs.pop(trial_id), self.reports.pop(trial_id)
        if error or result is None:
            ending, reason = Ending.STOPPED, ""  # before it began
            if error:
                unknown = classify(None, job.request)
                ending, reason = self.endings.pop(trial_id, unknown)
            for attempt in job.attempts:
                reports.setdefault(attempt.item, Report(attempt.item, ending, reason))
        self.run.end(job, reports, self.capacity.can_meet)
        if self.run.store_failure:
            self.drain.ask()

    def __getstate__(self) -> dict[str, Any]:
        """Return no state: Tune pickles its searcher, but a run resumes from the store."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """See `__getstate__`."""

    def restore(self, checkpoint_path: str) -> None:
        """See `__getstate__`."""


class Search(SearchGenerator):  # type: ignore[misc]
    """Generator that reports a finished searcher, so that Tune keeps no idle worker for it.

    Tune keeps one worker for the next trial, and with it a node that an autoscaler would release.
    A finished searcher can become unfinished, when a running trial has to be repeated.
    """

    def is_finished(self) -> bool:
        return bool(self.searcher.drain.asked or self.searcher.run.frontier.all_taken)


class Starts(tune.Callback):  # type: ignore[misc]
    """Callback that reports the begin of attempts to the run, and a stop to the workers."""

    def __init__(self, searcher: FrontierSearcher):
        self.searcher = searcher

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:  # noqa: ARG002
        self.searcher.drain.announce()

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:  # noqa: ARG002
        self.searcher.run.started(self.searcher.jobs[trial.trial_id])
