"""Progress of a run: counts, rate and time left, by a fake clock."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from orchestrator.execution.frontier import Node
from orchestrator.report.progress import LINE_SECONDS, RunProgress
from orchestrator.report.time_left import MANY, TimeLeft
from orchestrator.report.wording import duration
from orchestrator.states import Ending, State


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def item(name: str, work: float, *parents: str, unit: str = "trial") -> Any:
    node = Node(tuple(f"id-{parent}" for parent in parents), cost=work)
    return SimpleNamespace(id=f"id-{name}", name=name, node=node, unit=unit)


A, B, C, D = (item(name, work) for name, work in (("A", 4), ("B", 2), ("C", 2), ("D", 8)))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def progress(clock: Clock, out: io.StringIO) -> RunProgress:
    console = Console(file=out, force_terminal=False, width=40)
    progress = RunProgress(console, clock)
    progress.begin([A, B, C, D])
    return progress


def test_the_time_left_follows_from_the_items_that_are_left(clock: Clock) -> None:
    """Two slots; an item takes 10 seconds and 2 per unit of cost. The short ones end first."""
    console = Console(file=io.StringIO(), width=120)
    progress = RunProgress(console, clock)
    short = [item(f"short{number}", 5) for number in range(4)]
    base, child = item("base", 20), item("child", 45, "base")
    progress.begin([base, child, *short], {State.COMPLETE: 2, State.SKIPPED: 1})
    assert progress.state() == "2/9 · 0 running · 0 failed · 1 skipped"
    progress.started(base)
    progress.started(short[0])
    clock.now = 20.0
    progress.ended(short[0], Ending.COMPLETE, "", 0.5)
    progress.started(short[1])
    clock.now = 40.0
    progress.ended(short[1], Ending.COMPLETE, "", 0.7)
    progress.started(short[2])
    clock.now = 50.0
    progress.ended(base, Ending.COMPLETE, "")
    progress.started(child)
    assert progress.state() == (  # the child's 100 s; 10 and 20 s of the short ones fit beside it
        "5/9 · 2 running · 0 failed · 1 skipped · 1:40 left · mean accuracy 60.0 % · 4 per minute"
    )
    clock.now = 140.0  # the time left passes while nothing ends
    assert "0:20 left" in progress.state()  # a short one, longer than 10 s of the child


def test_work_without_dependencies_is_spread_over_the_slots(clock: Clock) -> None:
    progress = RunProgress(Console(file=io.StringIO(), width=120), clock)
    items = [item(str(number), 1) for number in range(9)]
    progress.begin(items)
    progress.started(items[0])
    progress.started(items[1])
    clock.now = 10.0
    progress.ended(items[0], Ending.COMPLETE, "")
    progress.ended(items[1], Ending.COMPLETE, "")
    assert "0:35 left" in progress.state()
    progress.started(items[2])
    progress.started(items[3])
    progress.ended(items[3], Ending.NODE_LOST, "")  # one slot is left
    assert "1:10 left" in progress.state()


def test_trials_that_end_together_say_nothing_of_the_rate(clock: Clock) -> None:
    """Those of a pack end within a moment."""
    progress = RunProgress(Console(file=io.StringIO(), width=120), clock)
    items = [item(str(number), 1) for number in range(9)]
    progress.begin(items)
    for one in items[:4]:
        progress.started(one)
        clock.now += 0.01
        progress.ended(one, Ending.COMPLETE, "")
    assert "per minute" not in progress.state()
    clock.now = 30.01
    for one in items[4:6]:
        progress.started(one)
        progress.ended(one, Ending.COMPLETE, "")
    assert "4 per minute" in progress.state()


def test_a_narrow_terminal_shows_the_count(clock: Clock) -> None:
    out = io.StringIO()
    progress = RunProgress(Console(file=out, force_terminal=True, width=60), clock)
    progress.begin([A, B, C, D], {State.COMPLETE: 100, State.LOST: 2})
    progress.started(A)
    clock.now = 3600.0 * 10
    progress.ended(A, Ending.COMPLETE, "", 0.4)
    progress.started(B)
    assert progress.state() == "101/106 · 1 running · 0 failed · 2 lost · 30:00:00 left"
    progress.close()
    assert "101/106 · 1 running · 0 failed · 2 lost · 30:00:00 left" in out.getvalue()


def test_failures_are_printed_at_once(progress: RunProgress, out: io.StringIO) -> None:
    progress.started(A)
    progress.ended(A, Ending.STOPPED, "")
    progress.started(A)
    progress.ended(A, Ending.WORKER_DIED, "killed")
    progress.started(A)
    progress.ended(A, Ending.FAILED, "trial A failed: loss is nan")
    progress.given_up(B, State.SKIPPED, "its parent A failed")
    progress.given_up(C, State.LOST, "the worker died 4 times")
    assert out.getvalue().splitlines() == [
        "A: worker died, to be tried again: killed",
        "trial A failed: loss is nan",
        "trial id-C (C) lost: the worker died 4 times",
    ]
    assert progress.state() == "0/4 · 0 running · 1 failed · 1 skipped"
    assert progress.parts() == ["0 running", "1 failed", "1 skipped", "1 lost"]


def test_lines_at_intervals_without_a_terminal(
    progress: RunProgress, clock: Clock, out: io.StringIO
) -> None:
    progress.started(A)
    clock.now = LINE_SECONDS
    progress.ended(A, Ending.COMPLETE, "")
    assert out.getvalue() == ""
    progress.started(B)
    progress.started(C)
    assert out.getvalue() == "1/4 done · 1 running · 0 failed · 0:30 left\n"


def test_a_display_in_a_terminal_is_removed_at_the_end(clock: Clock, out: io.StringIO) -> None:
    console = Console(file=out, force_terminal=True, width=100)
    shown = RunProgress(console, clock)
    shown.begin([A, B])
    shown.started(A)
    shown.ended(A, Ending.COMPLETE, "")
    shown.close()
    shown.close()
    assert "1/2 · 0 running · 0 failed" in out.getvalue()


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


def test_measurements_are_counted_apart(clock: Clock) -> None:
    progress = RunProgress(Console(file=(out := io.StringIO()), width=120), clock)
    first, second = (item(name, 0, "A", unit="measurement") for name in "xy")
    before = {State.COMPLETE: 2, State.FAILED: 1}
    progress.begin([A, first, second], {State.COMPLETE: 3}, {"measurement": before})
    assert progress.state() == "3/4 · 0 running · 0 failed · 2/5 measured, 1 not"
    progress.started(A)
    progress.ended(A, Ending.COMPLETE, "", 0.5)
    progress.started(first)
    progress.ended(first, Ending.COMPLETE, "")
    assert progress.state().startswith("4/4 · 0 running · 0 failed · 3/5 measured, 1 not")
    progress.started(second)
    progress.ended(second, Ending.FAILED, "weights of A1B s0: too large")
    assert progress.state().startswith("4/4 · 0 running · 0 failed · 3/5 measured, 2 not")
    progress.given_up(second, State.LOST, "its worker died 4 times")
    assert out.getvalue().splitlines() == [
        "weights of A1B s0: too large",
        "measurement id-y (y) lost: its worker died 4 times",
    ]


def test_extractions_are_counted_apart(clock: Clock) -> None:
    progress = RunProgress(Console(file=io.StringIO(), width=120), clock)
    features = item("x", 0, "A", unit="extraction")
    progress.begin([A, features], {}, {"extraction": {State.COMPLETE: 1}})
    progress.started(features)
    progress.ended(features, Ending.COMPLETE, "")
    assert progress.state().startswith("0/1 · 0 running · 0 failed · 2/2 extracted")


def test_the_time_of_measurements_is_reckoned_from_measurements(clock: Clock) -> None:
    """Two trials of 10 seconds each are left; a measurement takes one second, whatever it costs."""
    progress = RunProgress(Console(file=io.StringIO(), width=120), clock)
    trials = [item(f"trial{number}", 5) for number in range(3)]
    others = [item(f"other{number}", 5, unit="measurement") for number in range(4)]
    progress.begin([*trials, *others])
    progress.started(trials[0])
    clock.now = 10.0
    progress.ended(trials[0], Ending.COMPLETE, "")
    assert progress.time_left.seconds(clock.now) == 60  # six items as long as the only known one
    progress.started(others[0])
    clock.now = 11.0
    progress.ended(others[0], Ending.COMPLETE, "")
    assert progress.time_left.seconds(clock.now) == 2 * 10 + 3 * 1


def test_a_large_run_is_looked_through_now_and_then(clock: Clock) -> None:
    """A display asks twice a second; each look takes as long as there are open items."""
    time_left = TimeLeft([item(f"x{number}", 1) for number in range(2 * MANY + 1)])
    looks, look = [], time_left._estimated

    def counted(now: float) -> float:
        looks.append(now)
        return look(now)

    time_left._estimated = counted  # type: ignore[method-assign]
    for number in range(101):  # one slot, ten seconds each
        time_left.started(item(f"x{number}", 1), clock.now)
        clock.now += 10.0
        time_left.ended(item(f"x{number}", 1), clock.now)
        left = 10.0 * (2 * MANY - number)
        assert time_left.seconds(clock.now) == left
    assert looks == [10.0, 500.0, 980.0]
