"""Progress of a sweep that others run, seen through its store from any machine."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import nullcontext

from rich.console import Console
from rich.live import Live
from rich.text import Text

from orchestrator.report.wording import VERBS_OF_TABLES, duration, per_minute
from orchestrator.states import State
from orchestrator.store.leases import Lease, leases
from orchestrator.store.store import Store

EVERY = 5.0  # seconds between looks; a look is six listings and a file per run, and four listings
# more for searches, for measurements, and for extractions
PATIENCE = 3  # looks without a sign of a run after which there is none
CHANGES = 20  # latest changes of a count, from which the rate is computed


class Follower:
    """Counts of a sweep's trials in a store, and the run that trains them."""

    def __init__(self, store: Store, sweep: str, clock: Callable[[], float] = time.monotonic):
        """Follow a recorded sweep. Raises `StoreError` if the store does not know the sweep yet."""
        self.store, self.sweep, self.clock = store, sweep, clock
        self.ids = set(store.members(sweep)["id"].to_pylist())
        record = store.sweep_record(sweep)
        self.studies = {study["series"]: study["trials"] for study in record.studies}
        asked = {"measurements": record.measurements, "extractions": record.extractions}
        self.asked = {table: set(ids) for table, ids in asked.items() if ids}
        self.changes: deque[tuple[float, int]] = deque(maxlen=CHANGES)
        self.runs: list[Lease] = []
        self.idle = 0
        self.look()

    def look(self) -> None:
        """Read the store again. This lists names, and opens each part once."""
        outcomes = self.store.outcomes()
        ended = {id: outcomes[id] for id in self.ids & outcomes.keys()}
        self.ended, self.counts = ended, Counter(ended.values())
        self.under_way = self.ids.intersection(self.store.names("progress")) - ended.keys()
        self.searched = self._searched() if self.studies else 0
        self.derived = {table: self._ended(table) for table in self.asked}
        complete = self.counts[State.COMPLETE]
        if not self.changes or self.changes[-1][1] != complete:
            self.changes.append((self.clock(), complete))
        seen, self.runs = self.runs, leases(self.store, self.sweep)
        # A run writes its rows before its lease ends: one look without the lease suffices.
        self.idle = 0 if self.runs else PATIENCE if seen else self.idle + 1

    def _searched(self) -> int:
        """Count the sweep's study trials that ended; a larger search may add more to a series."""
        ended = self.store.study_numbers()
        return sum(
            number < trials
            for series, trials in self.studies.items()
            for number in ended.get(series, ())
        )

    def _ended(self, table: str) -> int:
        """Count the sweep's measurements, or extractions of features, that have rows."""
        return len(self.asked[table] & self.store.derived_ids(table))

    @property
    def done(self) -> bool:
        """True if every trial, measurement and extraction has ended."""
        ends = all(self.derived[table] == len(ids) for table, ids in self.asked.items())
        return ends and self.counts.total() == len(self.ids)

    def line(self) -> str:
        """Return `12/24 complete · 1 failed · 2 running · 0:40 left · 3 per minute`."""
        parts = [f"{self.counts[State.COMPLETE]}/{len(self.ids)} complete"]
        parts += [
            f"{n} {state}" for state, n in sorted(self.counts.items()) if state != State.COMPLETE
        ]
        if self.studies:
            parts.append(f"search {self.searched}/{sum(self.studies.values())}")
        parts += [
            f"{VERBS_OF_TABLES[table]} {self.derived[table]}/{len(ids)}"
            for table, ids in self.asked.items()
        ]
        if self.runs:
            parts.append(f"{sum(run.running for run in self.runs)} running")
        elif self.under_way:
            parts.append(f"{len(self.under_way)} with snapshots")
        if (left := self.seconds_left) is not None:
            parts.append(f"{duration(left)} left")
        return " · ".join([*parts, *self._rate()])

    @property
    def seconds_left(self) -> float | None:
        """Time left by the estimate of the run that takes longest; None without one."""
        left = [
            run.seconds_left - max(0.0, time.time() - run.written)
            for run in self.runs
            if run.seconds_left is not None
        ]
        return max(0.0, *left) if left else None

    def _rate(self) -> list[str]:
        """Return the rate between the first and the last change that were seen, if there are two.

        The count may have stood for long when following began: the first one seen is left out.
        """
        seen = list(self.changes)[1 if len(self.changes) < CHANGES else 0 :]
        if len(seen) < 2:
            return []
        (begun, first), (ended, last) = seen[0], seen[-1]
        return [per_minute(last - first, ended - begun)]

    @property
    def is_over(self) -> bool:
        """True if everything has ended, or no run is writing."""
        return self.done or self.idle >= PATIENCE

    def conclusion(self) -> str | None:
        """Return a line that says why following ends before everything has ended."""
        if self.done:
            return None
        missing = len(self.ids) - self.counts.total()
        parts = [f"{missing} of {len(self.ids)}"] if missing else []
        for table, ids in self.asked.items():
            if left := len(ids) - self.derived[table]:
                parts.append(f"{left} of {len(ids)} {table}")
        does = "trains them" if missing else "carries them out"
        return f"no run is writing; missing: {', '.join(parts)}; `layerwise run` {does}"


def follow(
    follower: Follower, console: Console, sleep: Callable[[float], object] = time.sleep
) -> None:
    """Show a sweep's progress until its run ends: live, or one line per change.

    If no run is writing, say so and return.
    """
    last: tuple[Counter[str], int, dict[str, int]] | None = None
    shown = Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext()
    with shown as live:
        while True:
            if live is not None:
                live.update(Text(follower.line()), refresh=True)
            elif (now := (follower.counts, follower.searched, follower.derived)) != last:
                console.print(follower.line(), soft_wrap=True)
                last = now
            if follower.is_over:
                break
            sleep(EVERY)
            follower.look()
    if text := follower.conclusion():
        console.print(text, soft_wrap=True)
