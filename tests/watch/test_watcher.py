"""The thread that looks: when it looks, when a figure is due, and what it tells."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from orchestrator.store.store import Store
from orchestrator.watch import watcher
from orchestrator.watch.drawing import Drawing
from orchestrator.watch.watcher import Watcher
from tests import watched
from tests.s3_server import S3Server
from tests.watch.conftest import Make


class Drawer:
    """Draws at once, in this process."""

    def __init__(self) -> None:
        self.is_busy = False
        self.asked: list[str] = []
        self.drawing = Drawing(text="drawn")

    def ask(self, place: str, sweep: str) -> None:  # noqa: ARG002
        self.asked.append(sweep)
        self.is_busy = True

    def answer(self, timeout: float) -> Drawing | None:  # noqa: ARG002
        self.is_busy = False
        return self.drawing

    def close(self) -> None:
        self.is_busy = False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(watcher.time, "monotonic", lambda: now[0])
    return now


def watched_by(store: Store) -> tuple[Watcher, Drawer]:
    made, drawer = Watcher(store.root, "", "t"), Drawer()
    made.drawer = drawer  # type: ignore[assignment]
    return made, drawer


def end(made: Watcher) -> None:
    """End the thread of a watcher, and the process that draws."""
    made.close()
    if made.thread:
        made.thread.join(60.0)
        assert not made.thread.is_alive()
    assert not made.drawer.is_busy


def test_a_figure_is_drawn_when_there_are_new_results(make: Make, clock: list[float]) -> None:
    store = make("one trial")
    made, drawer = watched_by(store)
    made.step()
    assert drawer.asked == ["demo"]
    assert "The figure is being drawn." in made.parts["figure"]
    made.step()  # one is still under way
    clock[0] += 2.0
    made.awake.set()
    made._pause(0.0, made._glance())
    assert "Drawn." in made.parts["figure"]
    made.step()
    assert drawer.asked == ["demo"]
    watched.running(store)
    made.step()
    assert drawer.asked == ["demo"]  # too early
    clock[0] += 7.0  # three times as long as the first one took
    made.step()
    assert drawer.asked == ["demo", "demo"]


def test_no_figure_of_nothing(make: Make, clock: list[float]) -> None:  # noqa: ARG001
    for state in ("empty", "all failed"):
        made, drawer = watched_by(make(state))
        made.step()
        assert drawer.asked == []


def test_a_figure_with_gaps_is_drawn_again(make: Make, clock: list[float]) -> None:
    made, drawer = watched_by(make("half copied"))
    drawer.drawing = Drawing(text="gaps", damaged=("a file",))
    made.step()
    made.awake.set()
    made._pause(0.0, made._glance())
    made.step()
    assert len(drawer.asked) == 1
    clock[0] += watcher.REDRAWN + watcher.TRIED_AGAIN
    made.step()
    assert len(drawer.asked) == 2


def test_times_of_complete_trials_give_the_work_that_is_left(
    make: Make,
    clock: list[float],  # noqa: ARG001
) -> None:
    made, drawer = watched_by(make("running"))
    drawer.drawing = Drawing(text="x", seconds=(("base", 0, 60.0),))
    made.step()
    assert "slot time left" not in made.parts["state"]
    made.awake.set()
    made._pause(0.0, made._glance())
    made.step()
    assert "<dt>slot time left</dt><dd>2:48:00</dd>" in made.parts["state"]


async def other_total(made: Watcher, changed: asyncio.Event, before: int) -> int:
    """Wait until the number of complete trials is no longer `before`, and return it."""
    while made.seen.whole.complete == before:
        await asyncio.wait_for(changed.wait(), 60.0)
        changed.clear()
    return made.seen.whole.complete


def test_a_page_waits_for_the_first_look_and_hears_of_the_next(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "NEAR", 0.02)
    store = make("all failed")
    made = Watcher(store.root, "", "t")

    async def watch() -> list[int]:
        first = await made.latest(60.0)
        assert await made.latest(60.0) is made.seen
        totals = [first.whole.complete]
        with made.changes() as changed:
            watched.one_trial(store)
            totals.append(await other_total(made, changed, totals[0]))
        return totals

    assert asyncio.run(watch()) == [0, 1]
    assert made.listeners == set()
    end(made)


def test_a_row_is_looked_at_before_the_next_usual_look(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "NEAR", 3600.0)
    store = make("stopped")
    made = Watcher(store.root, "", "t")

    async def watch() -> int:
        before = (await made.latest(60.0)).whole.complete
        with made.changes() as changed:
            await asyncio.wait_for(changed.wait(), 60.0)
            await asyncio.sleep(0.2)
            watched.one_more(store)
            return await other_total(made, changed, before) - before

    assert asyncio.run(watch()) == 1
    end(made)


def test_a_page_does_not_wait_for_a_slow_store(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Watcher(make("running").root, "", "t")
    monkeypatch.setattr(made, "_wake", lambda: None)
    seen = asyncio.run(made.latest(0.01))
    assert seen.waits == "the store is being read"


def test_nobody_watches_nobody_looks(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "NEAR", 0.01)
    monkeypatch.setattr(watcher, "GLANCED", 0.005)
    monkeypatch.setattr(watcher, "LINGER", 0.05)
    made = Watcher(make("empty").root, "", "t")
    asyncio.run(made.latest(60.0))

    async def rest() -> None:
        while made.awake.is_set() or time.monotonic() < made.asked + 0.1:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(rest(), 60.0))
    asyncio.run(asyncio.sleep(0.1))  # the last look ends
    made.looked -= 60.0
    looked = made.looked
    asyncio.run(asyncio.sleep(0.1))
    assert made.looked == looked
    asyncio.run(made.latest(60.0))
    assert made.looked > looked
    end(made)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_ours_is_shown(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Watcher(make("empty").root, "", "t")
    with monkeypatch.context() as patch:
        patch.setattr(made.observer, "look", lambda _: 1 / 0)
        asyncio.run(made.latest(60.0))
    assert made.thread
    made.thread.join(60.0)
    assert "layerwise no longer looks at the store: ZeroDivisionError" in made.parts["notes"]
    asyncio.run(made.latest(60.0))
    assert made.parts["notes"] == ""
    end(made)


def test_an_object_store_is_looked_at_less_often(s3: S3Server, tmp_path: Path) -> None:
    assert Watcher(s3.new_bucket(), "", "t").every == watcher.FAR
    assert Watcher(str(tmp_path), "", "t").every == watcher.NEAR
