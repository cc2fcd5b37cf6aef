"""All uses of names that Ray and Tune keep private. Written against Ray 2.60.

`tests/cluster/test_internals.py` fails when one of them changes.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray._private.utils
import ray._private.worker
from ray import cloudpickle
from ray._private import ray_constants, services
from ray._private.state import state
from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError, RpcError
from ray.experimental import internal_kv
from ray.train.constants import RAY_CHDIR_TO_TRIAL_DIR
from ray.tune.execution import class_cache, tune_controller
from ray.tune.progress_reporter import TrialProgressCallback

from orchestrator.signals import SIGNALS

RAY_VERSION = "2.60"
NODE_DIED = "node has died"  # in the message of an actor's death


def silence_logs_of_lost_nodes() -> None:
    """Stop Ray from printing the log of a node that is lost. It has no option for that.

    Nothing else is printed this way, since the logs of workers are not requested.
    """
    ray._private.worker.print_to_stdstream = lambda *_, **__: None


# Tune would copy the credentials of the driver into the runtime environment of its workers, which
# stands in logs. Workers have their machine's.
class_cache.ENV_VARS_TO_PROPAGATE = {RAY_CHDIR_TO_TRIAL_DIR}

# Signals ----------------------------------------------------------------------------------------

# Ray and Tune would set handlers of their own while they start. See `orchestrator.signals`.
ray._private.utils.set_sigterm_handler = lambda _: None
importlib.import_module("ray.tune.tune")._setup_signal_catching = threading.Event  # type: ignore[attr-defined]

# Addresses --------------------------------------------------------------------------------------

# A program that ends well if a head answers at the address that is its argument.
ASK = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1])"


def has_outside_address() -> bool:
    """Return whether a cluster started now would have an address outside of this machine."""
    return bool(ray_constants.ENABLE_RAY_CLUSTER)


def address_here() -> str:
    """Return host:port of the cluster on this machine. Raises `ConnectionError` without one."""
    return str(services.canonicalize_bootstrap_address_or_die("auto"))


# The cluster ------------------------------------------------------------------------------------


def draining_nodes() -> dict[str, int]:
    """Return the nodes that are about to be taken away: id → deadline in ms since 1970."""
    return dict(state.get_draining_nodes())


def raise_flag(key: str) -> None:
    """Set a key in the table of the head, which every process of the cluster can read."""
    internal_kv._internal_kv_put(key, b"yes")


def is_raised(key: str) -> bool:
    """Return whether a key is set. False while the head does not answer."""
    try:
        return internal_kv._internal_kv_get(key) is not None
    except RpcError:  # Ray ends this process, or the head answers again later
        return False


def head_answers() -> bool:
    """Return whether the head answers. Can take a minute if it does not."""
    try:
        internal_kv._internal_kv_get("layerwise")
    except Exception:  # of many kinds, also while Ray shuts down
        return False
    return True


def dead_process() -> str | None:
    """Return the name of a process of this machine's own cluster that has ended, or None."""
    node = ray._private.worker._global_node
    needed = ("gcs_server", "raylet")
    processes = node.all_processes if node is not None else {}
    ended = (n for n in needed for one in processes.get(n, ()) if one.process.poll() is not None)
    return next(ended, None)


_clean_up = tune_controller.TuneController.cleanup


def _clean_up_living(controller: Any) -> None:
    """Stop the workers, unless the cluster has died: Tune would wait for it."""
    if not (SIGNALS.lost or dead_process()):
        _clean_up(controller)


tune_controller.TuneController.cleanup = _clean_up_living

# Workers that die -------------------------------------------------------------------------------


class WorkerTooLargeError(RayActorError):  # type: ignore[misc]
    """Ray's memory monitor ended a worker, because its node had no memory left."""


class ActorManager(RayActorManager):  # type: ignore[misc]
    """Tune's actor manager, patched.

    Tune does not recognise the memory monitor's `OutOfMemoryError` as the failure of an actor, and
    would abort the run.
    """

    def _actor_start_failed(self, tracked_actor: Any, exception: Exception) -> None:
        super()._actor_start_failed(tracked_actor, _as_actor_error(exception))

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        super()._actor_task_failed(tracked_actor_task, _as_actor_error(exception))


def _as_actor_error(error: Exception) -> Exception:
    is_memory = isinstance(error, OutOfMemoryError)
    return WorkerTooLargeError(error_msg=str(error)) if is_memory else error


tune_controller.RayActorManager = ActorManager


def is_lost_node(error: RayActorError) -> bool:
    """Return whether an actor died with its node. Ray says so in the message only."""
    return bool(getattr(error, "preempted", False)) or NODE_DIED in str(error)


def error_of(trial: Any) -> BaseException | None:
    """Return the exception that Tune has just recorded for a trial.

    Tune writes it on this machine first. `Trial.get_pickled_error` looks where it is copied later.
    """
    path = trial.pickled_error_file
    if path is None or not Path(path).exists():
        return None
    error: BaseException = cloudpickle.loads(Path(path).read_bytes())
    return error


class Silence(TrialProgressCallback):  # type: ignore[misc]
    """Silent replacement of Tune's reporter, which prints stopped trials even when silent."""

    def _print(self, msg: str) -> None:
        """Print nothing."""

    def log_result(self, trial: Any, result: dict[str, Any], error: bool = False) -> None:
        """Print nothing."""


# Workers that are idle --------------------------------------------------------------------------


def keep_idle_workers(controller: Any, request: Any, change: int) -> None:
    """Keep `change` more (or, if negative, fewer) idle workers with a request."""
    cache = controller._actor_cache
    if change > 0:
        cache.increase_max(request, change)
    else:
        cache.decrease_max(request, -change)


def trials_for_idle_workers(controller: Any) -> Iterator[Any]:
    """Yield the pending trials that an idle worker could take.

    Trials whose own worker is starting are left out: Tune would throw that worker away, and with
    trials shorter than the start of a worker it would never have more than one.
    """
    idle, actors = controller._actor_cache, controller._actor_manager
    if not idle.num_cached_objects:
        return
    actor_of = controller._trial_to_actor
    # By request, since a comparison takes 10 µs, and as many trials wait as there are slots.
    for request, trials in controller._resources_to_pending_trials.items():
        if trials and idle.has_cached_object(request):
            for trial in trials:
                if not (trial in actor_of and actors.is_actor_started(actor_of[trial])):
                    yield trial
