"""What may start next: a pure state machine over a graph of trials.

It knows no clock, no disk and no Ray. Whoever runs jobs asks `take()` for the next one and tells
`finish()` how it ended; what the frontier gives up on is returned, to be recorded.
"""

from __future__ import annotations

import enum
import heapq
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from orchestrator.spec import Resources

WORKER_DEATHS = 3  # on a living node, before a trial is given up
MEMORY_RAISES = 3


class Ending(enum.Enum):
    """How an attempt at a trial ended."""

    COMPLETE = "complete"
    FAILED = "failed"  # in training: the same again would end the same
    NODE_LOST = "node lost"
    WORKER_DIED = "worker died"
    OUT_OF_MEMORY = "out of memory"
    BASE_DAMAGED = "base damaged"  # it could not begin: its base is to be trained again
    STOPPED = "stopped"  # with a snapshot, because it was asked to


class State(enum.Enum):
    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    LOST = "lost"
    SKIPPED = "skipped"


ENDED = (State.COMPLETE, State.FAILED, State.LOST, State.SKIPPED)


@dataclass(frozen=True)
class Node:
    """A trial as the frontier sees it. `cost` is in any unit; long paths start first.

    The children of one that `may_fail` wait for its end only: they run if it failed or was lost.
    """

    parents: tuple[str, ...] = ()
    cost: float = 1.0
    request: Resources = Resources()
    may_fail: bool = False


@dataclass(frozen=True)
class Job:
    """What is handed to a worker: trials and one request.

    `retries` counts the attempts before, `raises` those that ran out of memory and asked for more.
    """

    trials: tuple[str, ...]
    request: Resources
    retries: int = 0
    raises: int = 0


@dataclass(frozen=True)
class GivenUp:
    """A trial that ended without a row of its own."""

    trial: str
    state: State
    reason: str


class Frontier:
    """Hands out jobs whose parents are complete, the longest path below first."""

    def __init__(
        self,
        nodes: Mapping[str, Node],
        complete: Collection[str] = (),
        failed: Mapping[str, str] | None = None,
    ):
        """`nodes` come parents first. `complete` need not run, `failed` (id → reason) must not."""
        self.nodes = nodes
        self.state = {id: State.COMPLETE if id in complete else State.WAITING for id in nodes}
        self.tally = Counter(self.state.values())
        self.children: dict[str, list[str]] = {id: [] for id in nodes}
        self.missing = dict.fromkeys(nodes, 0)
        self.retries = dict.fromkeys(nodes, 0)
        self.deaths = dict.fromkeys(nodes, 0)
        self.raises = dict.fromkeys(nodes, 0)
        self.requests = {id: node.request for id, node in nodes.items()}
        self._order = {id: number for number, id in enumerate(nodes)}
        self._ready: list[tuple[float, int, str]] = []
        for id, node in nodes.items():
            for parent in node.parents:
                if self._order.get(parent, len(nodes)) >= self._order[id]:
                    raise ValueError(f"{id} comes before its parent {parent}")
                self.children[parent].append(id)
                self.missing[id] += self.state[parent] is not State.COMPLETE
        self.can_be_met: Callable[[Resources], bool] = lambda _: True  # whoever has nodes knows
        self.path = self._longest_paths()
        self._given_up: list[GivenUp] = []
        reasons = {id: reason for id, reason in (failed or {}).items() if id not in complete}
        for id in reasons:  # all of them first: what failed is not skipped as well
            self._set(id, State.FAILED)
        for id, reason in reasons.items():
            self._failed(id, reason)
        for id in nodes:
            self._offer(id)

    def _set(self, id: str, state: State) -> None:
        self.tally[self.state[id]] -= 1
        self.tally[state] += 1
        self.state[id] = state

    def _longest_paths(self) -> dict[str, float]:
        path: dict[str, float] = {}
        for id in reversed(list(self.nodes)):
            path[id] = self.nodes[id].cost + max((path[c] for c in self.children[id]), default=0.0)
        return path

    def _offer(self, id: str) -> None:
        if self.state[id] is State.WAITING and not self.missing[id]:
            self._set(id, State.READY)
            heapq.heappush(self._ready, (*self.rank(id), id))

    def rank(self, id: str) -> tuple[float, int]:
        """What is smaller starts first: the longest path below, then the order of the plan."""
        return -self.path[id], self._order[id]

    def take(self) -> Job | None:
        """The next job, or none until another one ends."""
        while self._ready:
            _, _, id = heapq.heappop(self._ready)
            if self.state[id] is State.READY:  # and has not been taken back since
                self._set(id, State.RUNNING)
                return Job((id,), self.requests[id], self.retries[id], self.raises[id])
        return None

    def redo(self, id: str) -> None:
        """Hand out once more what was complete, before anything below it that has not begun.

        What runs below it goes on; if it must be tried again, then after this.
        """
        assert self.state[id] is State.COMPLETE, f"{id} is {self.state[id].value}"
        for child in self.children[id]:
            if self.state[child] is State.READY:
                self._set(child, State.WAITING)
            self.missing[child] += 1
        self._set(id, State.WAITING)
        self._offer(id)

    def finish(self, job: Job, endings: Mapping[str, tuple[Ending, str]]) -> list[GivenUp]:
        """Record how each trial of a job ended and why; the trials given up because of it."""
        for id in job.trials:
            assert self.state[id] is State.RUNNING, f"{id} is {self.state[id].value}"
            ending, reason = endings[id]
            self._settle(id, ending, reason)
        return self.take_given_up()

    def take_given_up(self) -> list[GivenUp]:
        """The trials given up since the last call."""
        given_up, self._given_up = self._given_up, []
        return given_up

    def _settle(self, id: str, ending: Ending, reason: str) -> None:
        match ending:
            case Ending.COMPLETE:
                self._set(id, State.COMPLETE)
                self._release_below(id)
                return
            case Ending.FAILED:
                self._set(id, State.FAILED)
                self._failed(id, reason)
                return
            case Ending.WORKER_DIED | Ending.BASE_DAMAGED:
                self.deaths[id] += 1
                if self.deaths[id] > WORKER_DEATHS:
                    what = "worker died" if ending is Ending.WORKER_DIED else "base was damaged"
                    times = f"its {what} {self.deaths[id]} times"
                    self._lose(id, f"{times}; the last time: {reason}")
                    return
            case Ending.OUT_OF_MEMORY:
                more = with_more_memory(self.requests[id])
                self.raises[id] += 1
                too_much = not self.can_be_met(more)
                if self.raises[id] > MEMORY_RAISES or more == self.requests[id] or too_much:
                    had = _memory(self.requests[id])
                    limit = ", and no node has twice that" if too_much else ""
                    self._lose(id, f"out of memory with {had}{limit}: {reason}")
                    return
                self.requests[id] = more
            case Ending.NODE_LOST | Ending.STOPPED:
                pass
        self.retries[id] += 1
        self._set(id, State.WAITING)
        self._offer(id)

    def _lose(self, id: str, reason: str) -> None:
        self._set(id, State.LOST)
        self._given_up.append(GivenUp(id, State.LOST, reason))
        self._failed(id, reason)

    def _failed(self, id: str, reason: str) -> None:
        """What becomes of the children of a trial that failed or was lost."""
        if self.nodes[id].may_fail:
            self._release_below(id)
        else:
            self._skip_below(id, reason)

    def _release_below(self, id: str) -> None:
        for child in self.children[id]:
            self.missing[child] -= 1
            self._offer(child)

    def _skip_below(self, id: str, reason: str) -> None:
        """Skip everything that needs `id`, however far down."""
        below = [(child, id) for child in self.children[id]]
        while below:
            child, parent = below.pop()
            if self.state[child] in (State.WAITING, State.READY):
                self._set(child, State.SKIPPED)
                why = f"its parent {parent} {self.state[parent].value}: {reason}"
                self._given_up.append(GivenUp(child, State.SKIPPED, why))
                below += [(grandchild, child) for grandchild in self.children[child]]

    @property
    def all_taken(self) -> bool:
        """Whether nothing is left to hand out, unless what runs is to be tried again."""
        return not self.tally[State.WAITING] and not self.tally[State.READY]

    @property
    def done(self) -> bool:
        """Whether every trial has ended."""
        return sum(self.tally[state] for state in ENDED) == len(self.nodes)


def with_more_memory(request: Resources) -> Resources:
    """The request of a trial that ran out of memory: twice the GPU and twice the memory."""
    gpu = request.gpu if request.gpu >= 1 else min(1.0, 2 * request.gpu)
    memory = None if request.memory_gb is None else 2 * request.memory_gb
    return request.model_copy(update={"gpu": gpu, "memory_gb": memory})


def _memory(request: Resources) -> str:
    gpu = f"{request.gpu:g} GPU" if request.gpu else "no GPU"
    return gpu if request.memory_gb is None else f"{gpu} and {request.memory_gb:g} GB"
