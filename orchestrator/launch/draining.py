"""Stopping with snapshots: a whole run that is asked to, or what runs on a node that goes."""

from __future__ import annotations

import contextlib
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from ray._private.state import state
from ray.exceptions import RpcError
from ray.experimental import internal_kv


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
