"""What Tune asks: which trial comes next, which worker gets it, and what became of it.

Order, dependencies and retries are the frontier's; Tune itself retries nothing.
"""

from __future__ import annotations

from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.search_generator import SearchGenerator

from orchestrator.frontier import Ending, Job
from orchestrator.launch.draining import Drain
from orchestrator.launch.failures import classify, error_of
from orchestrator.run import Run
from orchestrator.worker import Report


class Scheduler(FIFOScheduler):  # type: ignore[misc]
    """Says which pending trial gets a worker that is free, stops what is pruned, sees what died."""

    def __init__(self, run: Run, drain: Drain, *, keeps_idle: bool):
        super().__init__()
        self.run, self.drain, self.keeps_idle = run, drain, keeps_idle
        self.requests: list[Any] = []  # all that were made so far
        self.jobs: dict[str, Job] = {}  # of Tune's trials
        self.endings: dict[str, tuple[Ending, str]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as of the searcher."""
        return {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Keep idle workers on a Ray of our own, for as long as all trials ask for the same.

        Tune stops a worker that no pending trial asks for, and while trials wait for their bases
        none does. Elsewhere others may want its place, or an autoscaler its node.
        """
        super().on_trial_add(tune_controller, trial)
        request = trial.placement_group_factory
        if not self.keeps_idle or request in self.requests:
            return
        self.requests.append(request)
        kept, all_of_them = tune_controller._actor_cache, len(self.run.trials)
        if len(self.requests) == 1:
            kept.increase_max(request, all_of_them)
        elif len(self.requests) == 2:
            kept.decrease_max(self.requests[0], all_of_them)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """For a worker that is free, the pending trial of its request with the longest path below.

        Not one whose own worker is starting: Tune would throw that away, and with trials shorter
        than a worker's start never have more than one. Tune tells only itself which those are.
        """
        if self.drain.asked:
            self._stop_pending(tune_controller)
        free, actors = tune_controller._actor_cache, tune_controller._actor_manager
        if not free.num_cached_objects:
            return None  # new workers take trials in the order in which those were suggested
        own = tune_controller._trial_to_actor
        waiting = (
            trial
            for trial in tune_controller.get_live_trials()
            if trial.status == trial.PENDING
            and free.has_cached_object(trial.placement_group_factory)
            and not (trial in own and actors.is_actor_started(own[trial]))
        )
        return min(waiting, key=self._rank, default=None)

    def _stop_pending(self, tune_controller: Any) -> None:
        """End what has not begun: on a cluster that grows, its worker may be long in coming."""
        for trial in list(tune_controller.get_live_trials()):
            if trial.status == trial.PENDING:
                tune_controller.stop_trial(trial)

    def _rank(self, trial: Any) -> tuple[float, int]:
        return self.run.frontier.rank(self.jobs[trial.trial_id].trials[0])

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Stop what its study prunes."""
        stops = self.run.stops(self.jobs[trial.trial_id], result["report"])
        return str(TrialScheduler.STOP if stops else TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:  # noqa: ARG002
        request = self.jobs[trial.trial_id].request
        self.endings[trial.trial_id] = classify(error_of(trial), request)


class FrontierSearcher(Searcher):  # type: ignore[misc]
    """Hands Tune the jobs that are ready, and tells the frontier how they ended."""

    def __init__(self, run: Run, scheduler: Scheduler):
        super().__init__()
        self.run, self.scheduler, self.drain = run, scheduler, scheduler.drain
        self.jobs = scheduler.jobs
        self.reports: dict[str, dict[str, Report]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        taken = self.run.take()
        if taken is None:
            stuck = not (self.jobs or self.run.done)
            assert not stuck, "nothing runs, nothing is ready and the run is not done"
            return None
        self.jobs[trial_id], assignments = taken
        self.reports[trial_id] = {}
        request = self.jobs[trial_id].request.model_dump_json()
        trials = [assignment.to_json() for assignment in assignments]
        return {"trials": trials, "request": request, "drain": self.drain.key}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        report: Report = result["report"]
        self.reports[trial_id][report.trial] = report

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        job, reports = self.jobs.pop(trial_id), self.reports.pop(trial_id)
        if result is not None:
            reports[result["report"].trial] = result["report"]
        if error:
            unknown = classify(None, job.request)
            ending, reason = self.scheduler.endings.pop(trial_id, unknown)
            for id in job.trials:
                reports.setdefault(id, Report(id, ending, reason))
        elif result is None:  # it was stopped before it began
            reports |= {id: Report(id, Ending.STOPPED) for id in job.trials}
        self.run.end(job, reports)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher, and resuming is ours, from the store."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """See `__getstate__`."""

    def restore(self, checkpoint_path: str) -> None:
        """See `__getstate__`."""


class Search(SearchGenerator):  # type: ignore[misc]
    """Tells Tune that nothing more comes, for as long as that is so: it then keeps no idle worker.

    Tune keeps one for the next trial, and with it a node that an autoscaler would let go. If what
    runs is lost and to be tried again, there is something to come once more.
    """

    def is_finished(self) -> bool:
        return bool(self.searcher.drain.asked or self.searcher.run.frontier.all_taken)


class Starts(tune.Callback):  # type: ignore[misc]
    """Tells the run when a worker begins with a job, and the workers when to stop."""

    def __init__(self, searcher: FrontierSearcher):
        self.searcher = searcher

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:  # noqa: ARG002
        self.searcher.drain.tell()

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:  # noqa: ARG002
        self.searcher.run.started(self.searcher.jobs[trial.trial_id])
