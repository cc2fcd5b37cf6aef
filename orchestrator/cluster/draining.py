"""Stopping with snapshots: all workers when the run is drained, or those on a node that leaves."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.cluster import internals

LOOK_SECONDS = 1.0  # between looks at the head's table


@dataclass
class Drain:
    """The request to stop with snapshots. The driver announces it, the workers look for it.

    Actors that train answer no calls. So workers look at two keys in the head's table: one for all
    workers, and one for those on a node that is about to be taken away.
    """

    key: str = field(default_factory=lambda: f"layerwise-drain-{secrets.token_hex(8)}")
    node: str = ""
    """Id of the node, in a worker."""
    asked: bool = False
    """The whole run is to stop."""
    node_leaves: bool = False
    """The node of this worker is about to be taken away."""
    announced: set[str] = field(default_factory=set)
    next_look: float = 0.0
    terminals: list[int] = field(default_factory=list)
    """Standard streams of the driver that are a terminal."""

    @contextlib.contextmanager
    def on_signal(self) -> Iterator[None]:
        """While this holds, SIGUSR1 drains the run, and so does SIGHUP: a closed terminal."""
        before = {signal.SIGUSR1: signal.signal(signal.SIGUSR1, self.ask)}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            self.terminals = [one for one in (0, 1, 2) if os.isatty(one)]
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self.hang_up)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def hang_up(self, *_: object) -> None:
        """Handle SIGHUP. The terminal is gone, so that printing there would be an error."""
        self.asked = True
        nowhere = os.open(os.devnull, os.O_RDWR)
        for one in self.terminals:
            os.dup2(nowhere, one)
        os.close(nowhere)

    def ask(self, *_: object) -> None:
        """Handle the signal. Only sets an attribute: it may interrupt anything."""
        self.asked = True

    def announce(self) -> None:
        """In the driver, at every step: announce what is asked for."""
        signal.signal(signal.SIGUSR1, self.ask)  # Tune takes the signal when it starts
        if self.asked:
            self._announce(self.key)
        if self._is_time_to_look():
            for node in internals.draining_nodes():
                self._announce(self.key + node)

    def _announce(self, key: str) -> None:
        if key not in self.announced:
            internals.raise_flag(key)
            self.announced.add(key)

    def __call__(self) -> bool:
        """In a worker: return whether it must stop."""
        if not (self.asked or self.node_leaves) and self._is_time_to_look():
            self.asked = internals.is_raised(self.key)
            self.node_leaves = internals.is_raised(self.key + self.node)
        return self.asked or self.node_leaves

    def _is_time_to_look(self) -> bool:
        now = time.monotonic()
        if now < self.next_look:
            return False
        self.next_look = now + LOOK_SECONDS
        return True


class NodeLeavesError(Exception):
    """A trial was stopped, with a snapshot, because its node is about to be taken away."""
