"""`Progress`: the interface to which a run reports its events."""

from __future__ import annotations

from typing import Protocol

from orchestrator.execution.items import Item
from orchestrator.states import Ending, State


class Progress(Protocol):
    """Receives the events of a run."""

    def started(self, item: Item) -> None:
        """A worker has begun with an attempt at an item."""

    def ended(
        self, item: Item, ending: Ending, message: str, accuracy: float | None = None
    ) -> None:
        """An attempt at an item has ended, with this test accuracy if it is a complete trial."""

    def given_up(self, item: Item, state: State, reason: str) -> None:
        """An item was lost or skipped."""

    def again(self, item: Item) -> None:
        """A complete item is queued again, because its checkpoint is missing or damaged."""
