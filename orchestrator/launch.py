"""The trials of a run on a Ray cluster through Ray Tune. The only file that imports Ray.

Tune is asked for resources, actors and their reuse. Order, dependencies and retries are the
frontier's: a searcher asks it for what is ready, and Tune itself retries nothing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Ray reads these when it is imported: no loggers, no reports, no usage statistics, Ctrl-C for us.
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "60",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "86400",
}
# A local cluster of ours listens on every interface: the token is what keeps others out.
LOCKED = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

READY = "ray" not in sys.modules or os.environ.get("RAY_AUTH_MODE") == "token"
os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
if not os.environ.get("RAY_ADDRESS"):
    os.environ.update(LOCKED)
    os.environ.pop("RAY_AUTH_TOKEN_PATH", None)

import ray  # noqa: E402
from ray import cloudpickle, tune  # noqa: E402
from ray._private.state import state  # noqa: E402
from ray.air.execution._internal import RayActorManager  # noqa: E402
from ray.exceptions import OutOfMemoryError, RayActorError, RpcError  # noqa: E402
from ray.experimental import internal_kv  # noqa: E402
from ray.tune.execution import tune_controller  # noqa: E402
from ray.tune.schedulers import FIFOScheduler, TrialScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402
from ray.tune.search.search_generator import SearchGenerator  # noqa: E402

from orchestrator import placement, worker  # noqa: E402
from orchestrator.errors import LayerwiseError  # noqa: E402
from orchestrator.frontier import Ending, Job, with_more_memory  # noqa: E402
from orchestrator.run import Run  # noqa: E402
from orchestrator.spec import Resources  # noqa: E402
from orchestrator.worker import Assignment, Report, Stop  # noqa: E402

# Ray replaces 127.0.0.1 by the machine's outside address; elsewhere than on Linux it does not.
LOOPBACK = "127.0.0.2" if sys.platform == "linux" else None


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What to ask of Ray: the size of a local cluster, and what travels to the workers.

    A cluster that runs is named by `RAY_ADDRESS`, which must be set before this module is imported.
    """

    cpus: int | None = None
    gpus: int | None = None
    dashboard: bool = False
    modules: tuple[str, ...] = ()  # folders and files of the user's own code


def launch(run: Run, cluster: Cluster, kind: type[Worker] | None = None) -> None:
    """Carry out a run on a cluster, by workers of a kind: those that train, if none is named.

    Raises `LayerwiseError` for requests that no node can meet.
    SIGUSR1 drains it, as a batch system or a spot notice asks before it takes the machines: every
    trial under way ends with a snapshot, nothing new begins, and this returns with `run` not done.
    """
    drain = Drain()
    scratch_folder = tempfile.TemporaryDirectory(prefix="layerwise-")
    with drain.on_signal(), connect(cluster), scratch_folder as scratch:
        # So many wait at once: the autoscaler starts nodes for what waits, and for nothing else.
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(_slots(run) + 1)
        scheduler = _Scheduler(run, drain, keeps_idle=not os.environ.get("RAY_ADDRESS"))
        searcher = _FrontierSearcher(run, scheduler)
        tuner = tune.Tuner(
            tune.with_resources(kind or Worker, _placement),
            tune_config=tune.TuneConfig(
                search_alg=_Search(searcher),
                scheduler=scheduler,
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=run.plan.sweep.name,
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                callbacks=[_Starts(searcher)],
            ),
        )
        tuner.fit()
    assert run.done or drain.asked, "Ray Tune ended before the sweep did"


@contextlib.contextmanager
def connect(cluster: Cluster) -> Iterator[None]:
    """The cluster at `RAY_ADDRESS`, or a quiet local one on loopback with a fresh access token.

    A local cluster is stopped at the end.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what went wrong is told by us
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if cluster.modules:
        quiet["runtime_env"] = {"py_modules": list(cluster.modules)}
    if address := os.environ.get("RAY_ADDRESS"):
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise LayerwiseError(f"cannot join the Ray cluster at {address}: {reason}") from error
    else:
        if not READY:
            raise LayerwiseError(
                "ray was imported before orchestrator.launch, so a local cluster would be open to "
                "the network: import orchestrator.launch first, or set RAY_ADDRESS"
            )
        if cluster.dashboard and importlib.util.find_spec("aiohttp_cors") is None:
            raise LayerwiseError("Ray's dashboard is not installed: pip install 'ray[default]'")
        ray.init(
            address="local",
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus,
            include_dashboard=cluster.dashboard,
            _node_ip_address=LOOPBACK,
            **quiet,
        )
    # Ray takes SIGTERM for itself; a stop by it should be as clean as one by Ctrl-C.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        ray.shutdown()


@dataclass
class Drain:
    """Whether to stop with snapshots: known to the driver, told to workers through the cluster.

    Actors that train answer no calls, so they look at keys of the head's table once a second: one
    of all workers, and one of those on a node that is about to go.
    """

    key: str = field(default_factory=lambda: f"layerwise-drain-{secrets.token_hex(8)}")
    node: str = ""  # of a worker, which is asked to stop when its node is
    asked: bool = False
    node_leaves: bool = False
    told: set[str] = field(default_factory=set)
    look: float = 0.0

    @contextlib.contextmanager
    def on_signal(self) -> Iterator[None]:
        before = signal.signal(signal.SIGUSR1, self.ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGUSR1, before)

    def ask(self, *_: object) -> None:
        """Only this: a signal may come in the middle of anything."""
        self.asked = True

    def tell(self) -> None:
        """In the driver, again and again: tell the workers, once it is asked for."""
        signal.signal(signal.SIGUSR1, self.ask)  # Tune takes it for itself when it starts
        if self.asked:
            self._tell(self.key)
        if time.monotonic() >= self.look:
            for node in state.get_draining_nodes():
                self._tell(self.key + node)
            self.look = time.monotonic() + 1.0

    def _tell(self, key: str) -> None:
        if key not in self.told:
            internal_kv._internal_kv_put(key, b"yes")
            self.told.add(key)

    def __call__(self) -> bool:
        """In a worker: whether it was asked for."""
        if not (self.asked or self.node_leaves) and time.monotonic() >= self.look:
            self.asked = self._is_told(self.key)
            self.node_leaves = self._is_told(self.key + self.node)
            self.look = time.monotonic() + 1.0
        return self.asked or self.node_leaves

    def _is_told(self, key: str) -> bool:
        try:
            return internal_kv._internal_kv_get(key) is not None
        except RpcError:  # the head does not answer: Ray ends this process, or it will again
            return False


class NodeLeavesError(Exception):
    """A trial was stopped, with a snapshot, because its node is about to be taken away."""


class Worker(tune.Trainable):  # type: ignore[misc]
    """An actor that carries out jobs, one trial a step; it is reused for the next job."""

    def prepare(self) -> None:
        """Import what trials need, before the first one."""
        worker.prepare()

    def carry_out(self, assignment: Assignment, stop: Stop) -> Report:
        return worker.run(assignment, stop=stop)

    def setup(self, config: dict[str, Any]) -> None:
        self.prepare()
        self.assignments = [Assignment.from_json(text) for text in config["trials"]]
        node = ray.get_runtime_context().get_node_id()
        self.drain = Drain(key=config["drain"], node=node)

    def step(self) -> dict[str, Any]:
        assignment = self.assignments.pop(0)
        if self.drain():
            report = Report(assignment.labels["id"], Ending.STOPPED)
        else:
            report = self.carry_out(assignment, self.drain)
        if report.ending is Ending.STOPPED and self.drain.node_leaves:
            raise NodeLeavesError  # and this process is given no other trial
        return {"report": report, "done": not self.assignments}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:  # noqa: ARG002 - the store has them
        return None


class WorkerTooLargeError(RayActorError):  # type: ignore[misc]
    """Ray's memory monitor ended a worker, because its node had no memory left."""


class _ActorManager(RayActorManager):  # type: ignore[misc]
    """Tune's, which takes what the memory monitor raises for no actor's error and ends the run."""

    def _actor_start_failed(self, tracked_actor: Any, exception: Exception) -> None:
        super()._actor_start_failed(tracked_actor, self._of_actor(exception))

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        super()._actor_task_failed(tracked_actor_task, self._of_actor(exception))

    @staticmethod
    def _of_actor(error: Exception) -> Exception:
        too_large = isinstance(error, OutOfMemoryError)
        return WorkerTooLargeError(error_msg=str(error)) if too_large else error


tune_controller.RayActorManager = _ActorManager


class _Scheduler(FIFOScheduler):  # type: ignore[misc]
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


def error_of(trial: Any) -> BaseException | None:
    """What Tune has just written that a trial ended with.

    It writes on this machine first; `get_pickled_error` looks where that is copied to, later.
    """
    written = trial.pickled_error_file
    if written is None or not Path(written).exists():
        return None
    error: BaseException = cloudpickle.loads(Path(written).read_bytes())
    return error


def classify(error: BaseException | None, request: Resources) -> tuple[Ending, str]:
    """Whose fault it was that a worker's trial ended with an exception: the node's or its own.

    A worker that Ray's memory monitor ended gets more, if the request can be raised. If not, it
    may have had to go for another's sake, and is tried again as any that died.
    """
    if error is None:
        return Ending.WORKER_DIED, "no reason is known"
    lines = [line for line in str(error).splitlines() if line.strip()]
    if isinstance(error, WorkerTooLargeError):
        more = with_more_memory(request) != request
        return (Ending.OUT_OF_MEMORY if more else Ending.WORKER_DIED), lines[0]
    if isinstance(error, NodeLeavesError):
        return Ending.NODE_LOST, "its node is about to be taken away, so it stopped with a snapshot"
    if isinstance(error, RayActorError):
        text = " ".join(line.strip() for line in lines)
        node_lost = getattr(error, "preempted", False) or "node has died" in text
        return (Ending.NODE_LOST if node_lost else Ending.WORKER_DIED), text
    return Ending.WORKER_DIED, lines[-1] if lines else type(error).__name__


class _FrontierSearcher(Searcher):  # type: ignore[misc]
    """Hands Tune the jobs that are ready, and tells the frontier how they ended."""

    def __init__(self, run: Run, scheduler: _Scheduler):
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


class _Search(SearchGenerator):  # type: ignore[misc]
    """Tells Tune that nothing more comes, for as long as that is so: it then keeps no idle worker.

    Tune keeps one for the next trial, and with it a node that an autoscaler would let go. If what
    runs is lost and to be tried again, there is something to come once more.
    """

    def is_finished(self) -> bool:
        return bool(self.searcher.drain.asked or self.searcher.run.frontier.all_taken)


class _Starts(tune.Callback):  # type: ignore[misc]
    """Tells the run when a worker begins with a job, and the workers when to stop."""

    def __init__(self, searcher: _FrontierSearcher):
        self.searcher = searcher

    def on_step_begin(self, iteration: int, trials: Any, **info: Any) -> None:  # noqa: ARG002
        self.searcher.drain.tell()

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:  # noqa: ARG002
        self.searcher.run.started(self.searcher.jobs[trial.trial_id])


def _placement(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    request = Resources.model_validate_json(config["request"])
    return tune.PlacementGroupFactory([placement.bundle(request)])


def _slots(run: Run) -> int:
    """How many trials the cluster can come to hold. Raises `LayerwiseError` if it never holds one.

    A cluster of our own grows by nothing; of others, what `ray up` wrote on the head says it.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    growth: placement.Growth | None = placement.Growth()
    if os.environ.get("RAY_ADDRESS"):
        growth = placement.startable(Path.home() / "ray_bootstrap_config.yaml", os.environ)
    run.frontier.can_be_met = lambda request: placement.can_be_met(request, nodes, growth)
    return placement.slots(run.trials.values(), nodes, growth)
