"""Progress of a run: a live display in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from orchestrator.frontier import Ending, State
from orchestrator.plan import Trial

LINE_SECONDS = 10.0


class RunProgress:
    """Counts trials done, running and failed; networks a minute and the time left.

    The time left is the work left, in FLOPs, at the rate since the first trial ended.
    """

    def __init__(
        self,
        console: Console,
        work: Callable[[Trial], float],
        clock: Callable[[], float] = time.monotonic,
    ):
        self.console, self.work, self.clock = console, work, clock
        self.total = self.done = self.running = self.failed = 0
        self.left = self.worked = 0.0
        self.first: float | None = None
        self.line_due = 0.0
        self.bar: Progress | None = None
        self.task: Any = None

    def begin(self, trials: list[Trial]) -> None:
        """Start with the trials that are to be run."""
        self.total, self.left = len(trials), sum(map(self.work, trials))
        self.line_due = self.clock() + LINE_SECONDS
        if self.console.is_terminal and self.total:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[state]}"),
                console=self.console,
            )
            self.task = self.bar.add_task("training", total=self.total, state="starting workers")
            self.bar.start()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def started(self, trial: Trial) -> None:  # noqa: ARG002
        self.running += 1
        self._show()
        if not self.console.is_terminal and self.clock() >= self.line_due:
            self.line_due = self.clock() + LINE_SECONDS
            self._say(f"{self.done}/{self.total} done · {self.state()}")

    def ended(self, trial: Trial, ending: Ending, message: str) -> None:
        self.running -= 1
        if ending not in (Ending.COMPLETE, Ending.FAILED):
            if ending is not Ending.STOPPED:
                self._say(f"{trial.name}: {ending.value}, to be tried again: {message}")
            self._show()
            return
        if ending is Ending.FAILED:
            self.failed += 1
            self._say(message)
        self._count(trial)

    def given_up(self, trial: Trial, state: State, reason: str) -> None:
        if state is State.LOST:
            self.failed += 1
            self._say(f"trial {trial.id} ({trial.name}) lost: {reason}")
        self._count(trial)

    def again(self, trial: Trial) -> None:
        """One that was complete is to be trained once more."""
        self.total += 1
        self.left += self.work(trial)
        if self.bar is not None:
            self.bar.update(self.task, total=self.total)
        self._say(f"{trial.name}: its checkpoint is gone or damaged, to be trained again")

    def _count(self, trial: Trial) -> None:
        self.done += 1
        self.left -= self.work(trial)
        if self.first is None:
            self.first = self.clock()
        else:
            self.worked += self.work(trial)
        self._show()

    def state(self) -> str:
        """`2 running · 0 failed · 120 a minute · 1:30 left`."""
        parts = [f"{self.running} running", f"{self.failed} failed"]
        elapsed = self.clock() - self.first if self.first is not None else 0.0
        if self.worked and elapsed:
            left = self.left / self.worked * elapsed
            parts.append(f"{(self.done - 1) / elapsed * 60:.3g} a minute")
            parts.append(f"{duration(left)} left")
        return " · ".join(parts)

    def _show(self) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, state=self.state())

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """`1:05` or `2:00:00`, and `3 d 4 h` from two days on."""
    whole = round(seconds)
    if whole >= 2 * 86400:
        return f"{whole // 86400} d {whole % 86400 // 3600} h"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
