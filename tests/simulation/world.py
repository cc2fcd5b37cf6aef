"""A simulated machine room: processes that take turns in one thread, a clock, and one seed.

A process is a greenlet. It gives way at every operation on a file system, and goes on after a
simulated time. The seed draws these times, so that it alone decides the order in which the
processes act. Killing a process leaves the world as it is: whatever its `finally` blocks do then
has no effect.
"""

from __future__ import annotations

import functools
import hashlib
import heapq
import math
import random as generators
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import greenlet

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
EPOCH = BEGAN.timestamp()
MOST_OPERATIONS = 60_000  # of one world; a protocol that does not end has more


class KilledError(BaseException):
    """Raised within a process that was killed."""


class EndlessError(Exception):
    """Too many operations, or processes that wait for each other."""


class Process:
    """A process with its own thread of control; `node` is the machine that it runs on."""

    def __init__(self, name: str, node: str, items: tuple[str, ...]):
        self.name, self.node, self.items = name, node, items
        self.alive, self.frozen, self.is_due = True, False, False
        self.greenlet: greenlet.greenlet
        self.drawn = 0  # tokens
        self.below: list[Process] = []
        """Processes that die with it: its threads."""


class World:
    """Processes, a clock and a random generator."""

    def __init__(self, seed: int | str):
        self.seed = seed
        self.random = generators.Random(f"layerwise {seed}")
        self.now = 0.0
        self.current: Process | None = None
        self.processes: list[Process] = []
        """Those that are alive."""
        self.operations = 0
        self.writes = 0
        self.slowness = 1.0
        self.cut_off: set[str] = set()
        """Nodes that do not reach the store."""
        self.before: Callable[[str, str, bool], None] = lambda *_: None
        """Called at every operation with its kind, its path, and whether it changes something."""
        self.after: Callable[[str], None] = lambda _: None
        """Called with the path after every operation that changed what readers see."""
        self.trace: Callable[[str], None] | None = None
        self._due: list[tuple[float, int, Process]] = []
        self._number = 0
        self._tokens: dict[str, int] = {}
        self._failed: list[BaseException] = []
        self._has_ended = False
        self._hub = greenlet.getcurrent()

    @property
    def time(self) -> float:
        """Seconds since 1970."""
        return EPOCH + self.now

    # Processes ----------------------------------------------------------------------------------

    def spawn(
        self,
        name: str,
        function: Callable[[], Any],
        *,
        node: str = "head",
        items: tuple[str, ...] = (),
    ) -> Process:
        """Start a process. `items` are those that a worker trains."""
        process = Process(name, node, items)

        def body() -> None:
            try:
                function()
            except KilledError:
                pass
            except BaseException as error:  # the scenario raises it
                self._failed.append(error)
            process.alive = False
            self._has_ended = True
            if process in self.processes:  # else it was killed
                self.processes.remove(process)

        process.greenlet = greenlet.greenlet(body, parent=self._hub)
        self.processes.append(process)
        self.make_due(process)
        return process

    def make_due(self, process: Process, seconds: float = 0.0) -> None:
        """Let a process act after `seconds`."""
        self._number += 1
        process.is_due = True
        heapq.heappush(self._due, (self.now + seconds, self._number, process))

    def kill(self, *processes: Process) -> None:
        """End processes at once, with their threads. The current one may be among them."""
        doomed = [one for process in processes for one in (process, *process.below) if one.alive]
        if not doomed:
            return
        for one in doomed:
            one.alive = False
        self.processes = [one for one in self.processes if one.alive]
        self._has_ended = True
        acting = self.current
        for one in doomed:
            if one is not acting and one.greenlet:  # it has begun
                self.current = one
                one.greenlet.parent = greenlet.getcurrent()
                one.greenlet.throw(KilledError)
        self.current = acting
        if acting in doomed:
            raise KilledError

    def freeze(self, process: Process) -> None:
        process.frozen = True

    def wake(self, process: Process) -> None:
        if process.frozen:
            process.frozen = False
            self.make_due(process)

    def run(self, until: Callable[[], bool]) -> None:
        """Let the processes act until a condition holds or nobody has anything to do.

        The condition is looked at whenever a process has ended.
        """
        while not until():
            process = self._next()
            if process is None:
                if any(one.alive and not one.frozen for one in self.processes):
                    raise EndlessError("the processes wait for each other")
                return
            self.current, self._has_ended = process, False
            process.greenlet.switch()
            self.current = None
            if self._failed:
                raise self._failed.pop()

    def _next(self) -> Process | None:
        """Take the process that acts next, and let the time pass until then."""
        while self._due:
            moment, _, process = heapq.heappop(self._due)
            process.is_due = False
            self.now = max(self.now, moment)
            if process.alive and not process.frozen:
                return process
        return None

    def _give_way(self, process: Process) -> None:
        """Let others act until the process is due. Raises `KilledError`."""
        other = None if self._has_ended else self._next()
        if other is None:
            self._hub.switch()
        elif other is not process:
            self.current = other
            other.greenlet.switch()
        if not process.alive:
            raise KilledError

    # For processes ------------------------------------------------------------------------------

    def pause(self, seconds: float) -> None:
        """Let the others act for a while. Outside of processes nothing happens."""
        process = self.current
        if process is None:
            return
        if not process.alive:
            raise KilledError
        moment = self.now + seconds
        is_next = not self._due or moment < self._due[0][0]
        if is_next and not self._has_ended and not process.frozen:
            self.now = moment
            return
        self.make_due(process, seconds)
        self._give_way(process)

    def wait(self) -> None:
        """Wait until somebody makes this process due."""
        process = self.current
        assert process is not None
        if not process.alive:
            raise KilledError
        self._give_way(process)

    def operate(self, what: str, path: str, *, changes: bool = False) -> None:
        """Begin an operation of the current process on a file system, and give way."""
        process = self.current
        if process is None:
            return
        mean = 0.08 if process.node == "far" else 0.002
        self.pause(-mean * self.slowness * math.log(1.0 - self.random.random()))
        self.operations += 1
        self.writes += changes
        if self.operations > MOST_OPERATIONS:
            raise EndlessError(f"{MOST_OPERATIONS} operations, and no end")
        if self.trace is not None:
            self.trace(f"{self.now:9.3f} {process.name:22} {what:8} {path}")
        self.before(what, path, changes)
        if not process.alive:
            raise KilledError

    def tokens(self) -> int:
        """Return how many tokens were drawn for an item of this process, at most."""
        items = (self.current.items if self.current else ()) or ("",)
        return max(self._tokens.get(item, 0) for item in items)

    def token(self, digits: int, kind: str = "") -> str:
        """Return hexadecimal digits, different in each call; in a worker, of its items."""
        item = kind
        if (process := self.current) and process.items:  # those of a pack draw one after the other
            item = process.items[process.drawn % len(process.items)] + kind
            process.drawn += not kind
        number = self._tokens[item] = self._tokens.get(item, 0) + 1
        return _digits(item, number)[:digits]


@functools.lru_cache(maxsize=10_000)
def _digits(item: str, number: int) -> str:
    """Return the hexadecimal digits of one token."""
    return hashlib.sha256(f"{item} {number}".encode()).hexdigest()
