"""Workers that all live in one process, and only wait: the driver of Ray Tune sees many of them.

A thousand worker processes need a thousand times 100 MB. Here Tune's controller, its actor manager,
placement groups, calls and answers are real, and each actor that Tune starts is an object in one
process, which waits for as long as a trial is to last.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorClass
from ray.tune.execution import tune_controller

from benchmarks.sleeping import settings
from orchestrator.cluster.actor import Worker
from orchestrator.execution.assignment import Assignment, Report, Work
from orchestrator.execution.pack import PackAssignment
from orchestrator.execution.worker import Stop
from orchestrator.states import Ending

CALLS = 100_000  # that one process may hold at the same time


def trials_of(work: Work) -> tuple[Assignment, ...]:
    """Return the trials of a piece of work: one, or those of a pack."""
    return tuple(work.assignments) if isinstance(work, PackAssignment) else (work,)  # type: ignore[return-value]


def duration(work: Work) -> float:
    """Return seconds, exponentially distributed around `mean` of the settings, drawn by the id.

    A pack lasts as long as its trials together.
    """
    trials = trials_of(work)
    mean: float = settings(Path(trials[0].store).parent)["mean"]
    shares = (int(trial.labels["id"][:8], 16) / 2**32 for trial in trials)
    return sum(-mean * math.log1p(-share) for share in shares)


class Waiting(Worker):
    """Worker that waits where others train. It reads and writes no file of the store."""

    def prepare(self) -> None:
        """Do nothing: there is no data to load."""

    def wait(self, work: Work) -> None:
        time.sleep(duration(work))

    def carry_out(self, work: Work, stop: Stop) -> list[Report]:  # noqa: ARG002
        self.wait(work)
        ids = [id for trial in trials_of(work) for id in trial.ids]
        return [
            Report(id, Ending.COMPLETE, "", hashlib.sha256(id.encode()).hexdigest(), 1.0, 0.5, 0.5)
            for id in ids
        ]


class Member(Waiting):
    """Worker of a shared process, which waits for it."""

    def wait(self, work: Work) -> None:
        """Return at once."""


class Process:
    """Actor that holds the workers of all slots by their number."""

    def __init__(self) -> None:
        self.workers: dict[int, Member] = {}

    async def call(self, number: int, method: str, *args: Any, **kwargs: Any) -> Any:
        """Carry out a call of one worker. Its first call, `__ray_ready__`, makes it."""
        if method == "__ray_ready__":
            self.workers[number] = Member(**kwargs)
            return True
        worker = self.workers[number]
        if method == "train":
            await asyncio.sleep(duration(worker.works[0]))
        if method == "stop":
            del self.workers[number]
        return getattr(worker, method)(*args, **kwargs)


class Handle:
    """Handle of a worker in the shared process, as Tune's actor manager uses one of Ray."""

    def __init__(self, process: Any, number: int, arguments: dict[str, Any]):
        self._process, self._number, self._arguments = process, number, arguments

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_") and method != "__ray_ready__":
            raise AttributeError(method)
        arguments = self._arguments if method == "__ray_ready__" else {}
        return Method(self._process, self._number, method, arguments)


class Method:
    """Method of such a worker."""

    def __init__(self, process: Any, number: int, name: str, arguments: dict[str, Any]):
        self._process, self._number, self._name = process, number, name
        self._arguments = arguments

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method. Return Ray's reference to the answer."""
        return self._process.call.remote(
            self._number, self._name, *args, **self._arguments, **kwargs
        )


class MemberClass(ActorClass):  # type: ignore[misc]
    """Stand-in of the class of actors that Tune starts."""

    def __init__(self) -> None:
        self._process = ray.remote(Process).options(max_concurrency=CALLS, num_cpus=0).remote()
        self._count = 0

    def options(self, **_: Any) -> MemberClass:
        """Ignore the placement group: the shared process is outside of all of them."""
        return self

    def remote(self, **arguments: Any) -> Handle:
        self._count += 1
        return Handle(self._process, self._count, arguments)


class ClassCache:
    """Stand-in of Tune's cache of classes of actors."""

    def __init__(self) -> None:
        self._class: MemberClass | None = None

    def get(self, trainable: Any) -> MemberClass:  # noqa: ARG002
        self._class = self._class or MemberClass()
        return self._class


def share_one_process() -> None:
    """Let Tune start its workers in one process, from now on in this driver."""
    kill = ray.kill
    tune_controller._ActorClassCache = ClassCache
    ray.kill = lambda actor, **options: isinstance(actor, Handle) or kill(actor, **options)
