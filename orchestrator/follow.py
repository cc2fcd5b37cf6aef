"""Progress of a sweep as its store tells it, from any machine, while others carry it out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext

from rich.console import Console
from rich.live import Live
from rich.text import Text

from orchestrator.store import Store

EVERY = 5.0  # seconds between looks, of five listings each, six where there is a search


class Follower:
    """What a store holds of a sweep, now and since following began."""

    def __init__(self, store: Store, sweep: str, clock: Callable[[], float] = time.monotonic):
        """Raises `StoreError` if the store does not know the sweep: its run writes it first."""
        self.store, self.clock = store, clock
        self.ids = set(store.members(sweep)["id"].to_pylist())
        self.studies = {study["series"]: study["trials"] for study in store.studies(sweep)}
        self.begun = clock()
        self.look()
        self.first = self.counts["complete"]

    def look(self) -> None:
        """Read the store again: listings, no file is opened."""
        outcomes = self.store.outcomes()
        ended = {id: outcomes[id] for id in self.ids & outcomes.keys()}
        self.counts = Counter(ended.values())
        self.under_way = len(self.ids.intersection(self.store.names("progress")) - ended.keys())

        self.searched = self._searched() if self.studies else 0

    def _searched(self) -> int:
        """How many trials of the sweep's searches have ended; a series may hold those of others."""
        names = (name.removesuffix(".parquet") for name in self.store.names("studies"))
        found = (name.rpartition("-") for name in names)
        return sum(int(number) < self.studies.get(series, 0) for series, _, number in found)

    @property
    def done(self) -> bool:
        return self.counts.total() == len(self.ids)

    def line(self) -> str:
        """`12/24 complete · 1 failed · search 3/20 · 2 with snapshots · 30 a minute`."""
        parts = [f"{self.counts['complete']}/{len(self.ids)} complete"]
        parts += [f"{n} {state}" for state, n in sorted(self.counts.items()) if state != "complete"]
        if self.studies:
            parts.append(f"search {self.searched}/{sum(self.studies.values())}")
        if self.under_way:
            parts.append(f"{self.under_way} with snapshots")
        minutes = (self.clock() - self.begun) / 60
        if minutes and (new := self.counts["complete"] - self.first) > 0:
            parts.append(f"{new / minutes:.3g} a minute")
        return " · ".join(parts)


def follow(
    follower: Follower, console: Console, sleep: Callable[[float], object] = time.sleep
) -> None:
    """Show a sweep's progress until every trial has ended: live, or a line where it changes."""
    last: tuple[Counter[str], int] | None = None
    shown = Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext()
    with shown as live:
        while True:
            if live is not None:
                live.update(Text(follower.line()), refresh=True)
            elif (now := (follower.counts, follower.searched)) != last:
                console.print(follower.line(), soft_wrap=True)
                last = now
            if follower.done:
                return
            sleep(EVERY)
            follower.look()
