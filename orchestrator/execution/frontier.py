"""`Frontier`: the choice of the work item that starts next, and of those that are repeated. Pure.

It is a state machine over the graph of a run's items. It knows no clock, no disk and no Ray.
Whoever carries out the items asks `take()` for the next attempt and reports its end to `finish()`.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from orchestrator.states import OUTCOMES, Ending, State
from orchestrator.sweep.schema import Resources

WORKER_DEATHS = 3  # deaths of a worker on a living node after which an item is still repeated
MEMORY_RAISES = 3  # times that a request is raised
LEAST_PACK = 4  # items of a pack below which none is divided for slots that are busy


@dataclass(frozen=True)
class Node:
    """A work item as the frontier sees it."""

    parents: tuple[str, ...] = ()
    """Ids of the items that must be complete before this one starts."""
    cost: float = 1.0
    """Work in any unit. Items on the most expensive path start first."""
    request: Resources = Resources()
    """Resources that it needs on a node."""
    may_fail: bool = False
    """Its children wait for its end only, and start also if it failed or was lost."""
    pack: int | None = None
    """Kind of pack that it can be handed out in, together with others of this kind."""


@dataclass(frozen=True)
class Attempt:
    """One attempt at an item, to be carried out by a worker."""

    item: str
    request: Resources
    retries: int = 0
    """Attempts before this one."""
    raises: int = 0
    """Attempts before this one that ran out of memory."""


@dataclass(frozen=True)
class GivenUp:
    """An item that was lost or skipped, so that no worker writes its row."""

    item: str
    state: State
    reason: str


def _always(request: Resources) -> bool:  # noqa: ARG001
    return True


class Frontier:
    """Hands out attempts at items whose parents have ended, the most expensive path first."""

    def __init__(
        self,
        nodes: Mapping[str, Node],
        complete: Collection[str] = (),
        failed: Mapping[str, str] | None = None,
    ):
        """Start with what is known. Raises `ValueError` unless `nodes` has parents before children.

        Items in `complete` are not run. Items in `failed` (id → reason) are not run, and what
        depends on them is skipped.
        """
        self.nodes = nodes
        self.state = {id: State.COMPLETE if id in complete else State.WAITING for id in nodes}
        self.tally = Counter(self.state.values())
        self.children: dict[str, list[str]] = {id: [] for id in nodes}
        self.missing = dict.fromkeys(nodes, 0)  # parents that have not ended
        self.retries = dict.fromkeys(nodes, 0)
        self.deaths = dict.fromkeys(nodes, 0)
        self.raises = dict.fromkeys(nodes, 0)
        self.requests = {id: node.request for id, node in nodes.items()}
        self.most = dict.fromkeys(nodes, math.inf)
        """Largest pack that an item may be part of."""
        self.packs: dict[str, int] = {}
        """Size of the pack that a running item is part of."""
        self._order = {id: number for number, id in enumerate(nodes)}
        self._ready: list[tuple[float, int, str]] = []
        self._alike: dict[int, list[tuple[float, int, str]]] = {}  # ready items by kind of pack
        self._alike_ready = Counter[int]()
        for id, node in nodes.items():
            for parent in node.parents:
                if self._order.get(parent, len(nodes)) >= self._order[id]:
                    raise ValueError(f"{id} comes before its parent {parent}")
                self.children[parent].append(id)
                self.missing[id] += self.state[parent] is not State.COMPLETE
        self.path = self._longest_paths()
        self._given_up: list[GivenUp] = []
        self.reasons = {id: reason for id, reason in (failed or {}).items() if id not in complete}
        for id in self.reasons:  # mark all of them first, so that none of them is skipped
            self._set(id, State.FAILED)
        for id in list(self.reasons):
            self._fail_below(id)
        for id in nodes:
            self._offer(id)

    def take(self) -> Attempt | None:
        """Return the next attempt, or None until another one ends."""
        while self._ready:
            _, _, id = heapq.heappop(self._ready)
            if self.state[id] is State.READY:  # `redo` may have taken it back
                self._set(id, State.RUNNING)
                return Attempt(id, self.requests[id], self.retries[id], self.raises[id])
        return None

    def take_pack(self, most: int, slots: int = 1, idle: int = 1) -> list[Attempt]:
        """Return the next attempt with others that it can share a pack with, or an empty list.

        A pack has at most `most` items, and at most its share of those that are ready, if they are
        divided among the `idle` slots. While no slot is idle, they are divided among all `slots`,
        but into packs of at least `LEAST_PACK`.
        """
        first = self.take()
        pack = self.nodes[first.item].pack if first else None
        if first is None or pack is None:
            return [first] if first else []
        ready = 1 + self._alike_ready[pack]
        share = math.ceil(ready / idle) if idle > 0 else max(LEAST_PACK, math.ceil(ready / slots))
        limit = min(most, share, self.most[first.item])
        attempts, others, heap = [first], [], self._alike[pack]
        while len(attempts) < limit and heap:
            entry = heapq.heappop(heap)
            id = entry[-1]
            if self.state[id] is not State.READY:
                continue
            if self.requests[id] != first.request or self.most[id] < limit:
                others.append(entry)
                continue
            self._set(id, State.RUNNING)
            attempts.append(Attempt(id, self.requests[id], self.retries[id], self.raises[id]))
        for entry in others:
            heapq.heappush(heap, entry)
        self.packs |= {attempt.item: len(attempts) for attempt in attempts}
        return attempts

    def finish(
        self,
        attempt: Attempt,
        ending: Ending,
        reason: str,
        can_be_met: Callable[[Resources], bool] = _always,
    ) -> list[GivenUp]:
        """Record how an attempt ended, and return the items that are given up because of it.

        `can_be_met` tells whether some node could hold a raised request.
        """
        id = attempt.item
        assert self.state[id] is State.RUNNING, f"{id} is {self.state[id].value}"
        match ending:
            case Ending.COMPLETE:
                self._set(id, State.COMPLETE)
                self._release_below(id)
            case Ending.FAILED:
                self._end_badly(id, State.FAILED, reason)
                self._fail_below(id)
            case Ending.WORKER_DIED | Ending.BASE_DAMAGED:
                self._count_death(id, ending, reason)
            case Ending.OUT_OF_MEMORY:
                self._raise_request(id, reason, can_be_met)
            case Ending.PACK_FAILED:
                self.most[id] = max(1, self.packs.get(id, 1) // 2)
                self._repeat(id)
            case Ending.NODE_LOST | Ending.STORE_FAILED | Ending.STOPPED:
                self._repeat(id)
        return self.take_given_up()

    def take_given_up(self) -> list[GivenUp]:
        """Return the items given up since the last call."""
        given_up, self._given_up = self._given_up, []
        return given_up

    def redo(self, id: str) -> None:
        """Queue a complete item again. Its children that have not started wait for it.

        Children that run go on. If one of them must be repeated, it waits too.
        """
        assert self.state[id] is State.COMPLETE, f"{id} is {self.state[id].value}"
        for child in self.children[id]:
            if self.state[child] is State.READY:
                self._set(child, State.WAITING)
            self.missing[child] += 1
        self._wait(id)

    def rank(self, id: str) -> tuple[float, int]:
        """Sort key of an item: the most expensive path first, then the order of the plan."""
        return -self.path[id], self._order[id]

    @property
    def all_taken(self) -> bool:
        """True if nothing waits to be handed out. A running item may still have to be repeated."""
        return not self.tally[State.WAITING] and not self.tally[State.READY]

    @property
    def done(self) -> bool:
        """True if every item has ended."""
        return sum(self.tally[state] for state in OUTCOMES) == len(self.nodes)

    # States -------------------------------------------------------------------------------------

    def _set(self, id: str, state: State) -> None:
        self.tally[self.state[id]] -= 1
        self.tally[state] += 1
        if (pack := self.nodes[id].pack) is not None:
            self._alike_ready[pack] += (state is State.READY) - (self.state[id] is State.READY)
        self.state[id] = state

    def _longest_paths(self) -> dict[str, float]:
        """Cost of the most expensive path that starts at each item."""
        path: dict[str, float] = {}
        for id in reversed(list(self.nodes)):
            path[id] = self.nodes[id].cost + max((path[c] for c in self.children[id]), default=0.0)
        return path

    def _offer(self, id: str) -> None:
        """Queue an item that waits for nothing any more."""
        if self.state[id] is State.WAITING and not self.missing[id]:
            self._set(id, State.READY)
            heapq.heappush(self._ready, (*self.rank(id), id))
            if (pack := self.nodes[id].pack) is not None:
                heapq.heappush(self._alike.setdefault(pack, []), (*self.rank(id), id))

    def _repeat(self, id: str) -> None:
        self.retries[id] += 1
        self._wait(id)

    def _wait(self, id: str) -> None:
        """Queue an item again. Skip it if a parent has ended badly since it started."""
        self._set(id, State.WAITING)
        for parent in self.nodes[id].parents:
            if parent in self.reasons and not self.nodes[parent].may_fail:
                self._skip_below(parent)
        self._offer(id)

    def _count_death(self, id: str, ending: Ending, reason: str) -> None:
        self.deaths[id] += 1
        self.most[id] = 1  # so that it takes no other item with it
        if self.deaths[id] <= WORKER_DEATHS:
            self._repeat(id)
            return
        what = "worker died" if ending is Ending.WORKER_DIED else "base was damaged"
        self._lose(id, f"the {what} {self.deaths[id]} times; last reason: {reason}")

    def _raise_request(self, id: str, reason: str, can_be_met: Callable[[Resources], bool]) -> None:
        request = self.requests[id]
        more = with_more_memory(request)
        self.raises[id] += 1
        too_large = not can_be_met(more)
        if self.raises[id] > MEMORY_RAISES or more == request or too_large:
            limit = ", and no node has twice that" if too_large else ""
            self._lose(id, f"out of memory with {_memory(request)}{limit}: {reason}")
            return
        self.requests[id] = more
        self._repeat(id)

    def _lose(self, id: str, reason: str) -> None:
        self._end_badly(id, State.LOST, reason)
        self._given_up.append(GivenUp(id, State.LOST, reason))
        self._fail_below(id)

    def _end_badly(self, id: str, state: State, reason: str) -> None:
        self._set(id, state)
        self.reasons[id] = reason

    def _fail_below(self, id: str) -> None:
        """Settle the children of an item that failed or was lost."""
        if self.nodes[id].may_fail:
            self._release_below(id)
        else:
            self._skip_below(id)

    def _release_below(self, id: str) -> None:
        for child in self.children[id]:
            self.missing[child] -= 1
            self._offer(child)

    def _skip_below(self, id: str) -> None:
        """Skip everything that depends on an item, directly or not, and does not run."""
        reason = self.reasons[id]
        below = [(child, id) for child in self.children[id]]
        while below:
            child, parent = below.pop()
            if self.state[child] in (State.WAITING, State.READY):
                self._end_badly(child, State.SKIPPED, reason)
                why = f"its parent {parent} {self.state[parent].value}: {reason}"
                self._given_up.append(GivenUp(child, State.SKIPPED, why))
                below += [(grandchild, child) for grandchild in self.children[child]]


def with_more_memory(request: Resources) -> Resources:
    """Return a request with twice the memory and twice the share of a GPU (at most one GPU)."""
    gpu = request.gpu if request.gpu >= 1 else min(1.0, 2 * request.gpu)
    memory = None if request.memory_gb is None else 2 * request.memory_gb
    return request.model_copy(update={"gpu": gpu, "memory_gb": memory})


def _memory(request: Resources) -> str:
    gpu = f"{request.gpu:g} GPU" if request.gpu else "no GPU"
    return gpu if request.memory_gb is None else f"{gpu} and {request.memory_gb:g} GB"
