"""Classification of the exceptions with which workers end."""

from __future__ import annotations

from ray.exceptions import RayActorError

from orchestrator.cluster.draining import NodeLeavesError
from orchestrator.cluster.internals import WorkerTooLargeError, is_lost_node
from orchestrator.execution.frontier import with_more_memory
from orchestrator.states import Ending
from orchestrator.sweep.schema import Resources


def classify(error: BaseException | None, request: Resources) -> tuple[Ending, str]:
    """Return the ending of an attempt and its reason, from the exception that Ray raised.

    A worker that Ray's memory monitor ended gets more memory if its request can be raised. If not,
    another worker may have used the memory, and it is repeated as any worker that died.
    """
    if error is None:
        return Ending.WORKER_DIED, "no reason is known"
    lines = [line for line in str(error).splitlines() if line.strip()]
    if isinstance(error, WorkerTooLargeError):
        can_be_raised = with_more_memory(request) != request
        return (Ending.OUT_OF_MEMORY if can_be_raised else Ending.WORKER_DIED), lines[0]
    if isinstance(error, NodeLeavesError):
        return Ending.NODE_LOST, "its node is about to be taken away, so it stopped with a snapshot"
    if isinstance(error, RayActorError):
        text = " ".join(line.strip() for line in lines)
        return (Ending.NODE_LOST if is_lost_node(error) else Ending.WORKER_DIED), text
    return Ending.WORKER_DIED, lines[-1] if lines else type(error).__name__
