"""Stopping with snapshots: all workers when the run is drained, or those on a node that leaves."""

from __future__ import annotations

import secrets
import time
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

    def ask(self) -> None:
        """Ask for the stop. Only sets an attribute: a handler of signals may call it."""
        self.asked = True

    def announce(self) -> None:
        """Announce a requested stop. The driver calls it at every step."""
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
        """Return whether this worker must stop."""
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
