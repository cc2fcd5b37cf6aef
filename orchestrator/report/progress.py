"""Progress of a run or a pack: a live display in a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from orchestrator.execution.items import Item, Unit
from orchestrator.report.console import terminal
from orchestrator.report.time_left import TimeLeft
from orchestrator.report.wording import VERBS_OF_UNITS, duration, per_minute, percent
from orchestrator.states import Ending, State

LINE_SECONDS = 10.0  # least time between two lines outside of a terminal
TOGETHER = 1.0  # seconds in which the trials of a pack end
BAR_WIDTH = 110  # columns of a terminal from which on a bar is drawn
BAR_ROOM = 52  # columns of the bar and its title

Advance = Callable[[int, int], None]  # takes units done, and units in all


@dataclass
class Others:
    """Counts of items that are no trials."""

    total: int = 0
    done: int = 0
    bad: int = 0


class StateColumn(ProgressColumn):
    """A string on one line that changes with time."""

    def __init__(self, state: Callable[[], str]):
        super().__init__(Column(no_wrap=True))
        self.state = state

    def render(self, task: Task) -> Text:  # noqa: ARG002
        return Text(self.state())


class RunProgress:
    """Counts of a run's trials, their mean accuracy so far, the time left, and the rate.

    The counts are those of `status`: what an earlier run completed counts, what is skipped is not
    complete.
    """

    def __init__(
        self,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.console, self.clock = console, clock
        self.total = self.done = self.running = self.new = 0
        self.others: dict[Unit, Others] = {}
        self.bad: Counter[State] = Counter()
        self.accuracies: list[float] = []
        self.time_left = TimeLeft(())
        self.first: float | None = None
        """When the first item ended."""
        self.early = 0
        """Trials that ended together with it, as those of a pack do: they say nothing of a rate."""
        self.line_due = 0.0
        self.bar: Progress | None = None
        self.task: Any = None

    def begin(
        self,
        items: Sequence[Item],
        ended: Mapping[State, int] | None = None,
        others: Mapping[Unit, Mapping[State, int]] | None = None,
    ) -> None:
        """Show the display: items that are to be run, and counts of those that ended.

        `ended` are trials. Other units, such as measurements, are counted apart.
        """
        before = Counter(ended or {})
        open_ones = Counter(item.unit for item in items)
        self.total, self.done = open_ones["trial"] + before.total(), before.pop(State.COMPLETE, 0)
        self.bad = before
        for unit in VERBS_OF_UNITS:
            counts = Counter((others or {}).get(unit, {}))
            total, complete = open_ones[unit] + counts.total(), counts[State.COMPLETE]
            self.others[unit] = Others(total, complete, counts.total() - complete)
        self.time_left = TimeLeft(items)
        self.line_due = self.clock() + LINE_SECONDS
        if self.console.is_terminal and items:
            columns = [TextColumn("training"), BarColumn()] if self.has_bar else []
            state = StateColumn(self.state)
            self.bar = Progress(*columns, state, console=self.console, refresh_per_second=2)
            self.task = self.bar.add_task("training", total=self.total, completed=self.done)
            self.bar.start()

    @property
    def has_bar(self) -> bool:
        return self.console.is_terminal and self.console.width >= BAR_WIDTH

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def started(self, item: Item) -> None:
        self.running += 1
        self.time_left.started(item, self.clock())
        self._show()
        if not self.console.is_terminal and self.clock() >= self.line_due:
            self.line_due = self.clock() + LINE_SECONDS
            self._say(" · ".join([f"{self.count()} done", *self.parts()]))

    def ended(
        self, item: Item, ending: Ending, message: str, accuracy: float | None = None
    ) -> None:
        self.running -= 1
        now = self.clock()
        if ending not in (Ending.COMPLETE, Ending.FAILED):
            self.time_left.stopped(item)
            if ending not in (Ending.STOPPED, Ending.STORE_FAILED):  # the run's end tells those
                self._say(f"{item.name}: {ending.value}, to be tried again: {message}")
            self._show()
            return
        self.time_left.ended(item, now if ending is Ending.COMPLETE else None)
        if ending is Ending.FAILED:
            self._count_bad(item, State.FAILED)
            self._say(message)
        elif item.unit in self.others:
            self.others[item.unit].done += 1
        else:
            self.done += 1
            self.new += 1
            self.accuracies += [] if accuracy is None else [accuracy]
        self.first = now if self.first is None else self.first
        self.early = self.new if now < self.first + TOGETHER else self.early
        self._show()

    def given_up(self, item: Item, state: State, reason: str) -> None:
        self._count_bad(item, state)
        self.time_left.ended(item)
        if state is State.LOST:
            self._say(f"{item.unit} {item.id} ({item.name}) lost: {reason}")
        self._show()

    def _count_bad(self, item: Item, state: State) -> None:
        if item.unit in self.others:
            self.others[item.unit].bad += 1
        else:
            self.bad[state] += 1

    def again(self, item: Item) -> None:
        """Take a complete item back that is run once more."""
        self.done -= 1
        self.time_left.again(item)
        self._say(f"{item.name}: its checkpoint is gone or damaged, to be trained again")
        self._show()

    def activity(self) -> tuple[int, float | None]:
        """Return the items running, and the seconds left or None."""
        return self.running, self.time_left.seconds(self.clock())

    def count(self) -> str:
        """Return `12/88`: items complete, and all of the sweep."""
        return f"{self.done}/{self.total}"

    def parts(self) -> list[str]:
        """Return `2 running`, `0 failed`, `1:30 left`, …, the most useful first."""
        parts = [f"{self.running} running", f"{self.bad[State.FAILED]} failed"]
        parts += [f"{n} {state}" for state, n in self.bad.items() if n and state != State.FAILED]
        for unit, verb in VERBS_OF_UNITS.items():
            counts = self.others.get(unit, Others())
            bad = f", {counts.bad} not" if counts.bad else ""
            parts += [f"{counts.done}/{counts.total} {verb}{bad}"] if counts.total else []
        seconds = self.time_left.seconds(self.clock())
        if seconds is not None:
            parts.append(f"{duration(seconds)} left")
        if self.accuracies:
            mean = sum(self.accuracies) / len(self.accuracies)
            parts.append(f"mean accuracy {percent(mean)} %")
        if self.first is not None and self.new > self.early:
            parts.append(per_minute(self.new - self.early, self.clock() - self.first))
        return parts

    def state(self) -> str:
        """Return the count and the parts, as many as fit into the width of the console."""
        text = self.count()
        room = self.console.width - (BAR_ROOM if self.has_bar else 0)
        for part in self.parts():
            if len(text) + 3 + len(part) > room:
                break
            text += f" · {part}"
        return text

    def _show(self) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done)

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def pack_progress(doing: str, unit: str, scale: int = 1) -> Iterator[Advance]:
    """Yield a function that shows the units done: as a bar in a terminal, else as lines.

    `doing` names the work, `unit` what is counted, in multiples of `scale`.
    """
    console = terminal(errors=True)
    columns = (TextColumn(f"{doing} {unit}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(doing, total=None)
        due = time.monotonic()

        def advance(done: int, total: int) -> None:
            nonlocal due
            bar.update(task, completed=done // scale, total=total // scale)
            if not console.is_terminal and (time.monotonic() >= due or done == total):
                due = time.monotonic() + LINE_SECONDS
                text = f"{doing}: {done // scale:,} of {total // scale:,} {unit}"
                console.print(text, soft_wrap=True)

        yield advance
