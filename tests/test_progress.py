"""What is told of a run: counts, rate and time left, by a clock of our own."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from orchestrator.frontier import Ending, State
from orchestrator.progress import LINE_SECONDS, RunProgress, duration


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def trial(name: str, work: float) -> Any:
    return SimpleNamespace(id=f"id-{name}", name=name, work=work)


A, B, C, D = (trial(name, work) for name, work in (("A", 4), ("B", 2), ("C", 2), ("D", 8)))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def progress(clock: Clock, out: io.StringIO) -> RunProgress:
    console = Console(file=out, force_terminal=False, width=40)
    made = RunProgress(console, lambda trial: trial.work, clock)  # type: ignore[attr-defined]
    made.begin([A, B, C, D])
    return made


def test_the_time_left_is_the_work_left_at_the_rate_so_far(
    progress: RunProgress, clock: Clock
) -> None:
    progress.started(A)
    progress.started(B)
    assert progress.state() == "2 running · 0 failed"
    clock.now = 30.0  # workers start
    progress.ended(A, Ending.COMPLETE, "")
    assert progress.state() == "1 running · 0 failed"
    clock.now = 40.0
    progress.ended(B, Ending.COMPLETE, "")  # 2 of the 12 units that are left after A, in 10 s
    assert progress.state() == "0 running · 0 failed · 6 a minute · 0:50 left"


def test_what_goes_wrong_is_said_at_once(progress: RunProgress, out: io.StringIO) -> None:
    progress.started(A)
    progress.ended(A, Ending.STOPPED, "")
    progress.started(A)
    progress.ended(A, Ending.WORKER_DIED, "killed")
    progress.started(A)
    progress.ended(A, Ending.FAILED, "trial A failed: loss is nan")
    progress.given_up(B, State.SKIPPED, "its parent A failed")
    progress.given_up(C, State.LOST, "its worker died 4 times")
    assert out.getvalue().splitlines() == [
        "A: worker died, to be tried again: killed",
        "trial A failed: loss is nan",
        "trial id-C (C) lost: its worker died 4 times",
    ]
    assert (progress.done, progress.failed, progress.running) == (3, 2, 0)


def test_a_line_now_and_then_where_there_is_no_terminal(
    progress: RunProgress, clock: Clock, out: io.StringIO
) -> None:
    progress.started(A)
    clock.now = LINE_SECONDS
    progress.ended(A, Ending.COMPLETE, "")
    assert out.getvalue() == ""
    progress.started(B)
    progress.started(C)
    assert out.getvalue() == "1/4 done · 1 running · 0 failed\n"


def test_a_display_in_a_terminal_is_taken_away_at_the_end(clock: Clock, out: io.StringIO) -> None:
    console = Console(file=out, force_terminal=True, width=100)
    shown = RunProgress(console, lambda trial: trial.work, clock)  # type: ignore[attr-defined]
    shown.begin([A, B])
    shown.started(A)
    shown.ended(A, Ending.COMPLETE, "")
    shown.close()
    shown.close()
    assert "1/2" in out.getvalue()
    assert "0 running · 0 failed" in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0:00"),
        (65, "1:05"),
        (3600, "1:00:00"),
        (2 * 86400 - 1, "47:59:59"),
        (2 * 86400 + 4 * 3600, "2 d 4 h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
