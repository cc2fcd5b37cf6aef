"""Why an attempt at a trial ended with an error, as Ray and Tune tell it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import tune_controller

from orchestrator.frontier import Ending, with_more_memory
from orchestrator.launch.draining import NodeLeavesError
from orchestrator.spec import Resources


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
