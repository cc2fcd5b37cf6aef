"""Files that say what workers train: written while work goes on, removed, expired, unreadable."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.store import cleanup, under_way
from orchestrator.store.store import Store
from orchestrator.store.survey import Survey
from orchestrator.store.under_way import MOST_POINTS, UnderWay, announced
from tests.s3_server import S3Server

ONE, TWO = "1" * 16, "2" * 16


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(under_way, "NEAR", 0.001)
    monkeypatch.setattr(under_way, "FAR", 0.001)
    made = Store(tmp_path)
    made.make()
    return made


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def trained(store: Store) -> dict[str, UnderWay]:
    return under_way.under_way(store, {ONE, TWO})


def test_what_a_worker_trains_is_seen_until_it_ends(store: Store) -> None:
    with announced(store, [ONE, TWO, "3" * 16]) as announcement:
        wait(lambda: trained(store) == {ONE: UnderWay(ONE), TWO: UnderWay(TWO)})
        announcement.evaluated(ONE, 10, 0.25)
        announcement.evaluated(ONE, 20, float("nan"))
        announcement.ended(TWO)
        announcement.evaluated(TWO, 30, 0.5)
        wait(lambda: trained(store) == {ONE: UnderWay(ONE, 20, [(10, 0.25)])})
    assert store.names("running") == []


def test_short_work_writes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_way, "NEAR", 3600.0)
    monkeypatch.setattr(Store, "put", lambda *_: 1 / 0)
    with announced(store, [ONE]):
        pass


def test_it_is_written_again_only_if_something_is_new(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, written = Store.put, list[str]()

    def noted(self: Store, path: str, data: bytes) -> None:
        put(self, path, data)
        written.append(path)

    monkeypatch.setattr(Store, "put", noted)
    with announced(store, [ONE]) as announcement:
        wait(lambda: written)
        time.sleep(0.05)
        assert len(written) == 1
        announcement.evaluated(ONE, 10, 0.25)
        wait(lambda: len(written) == 2)
        monkeypatch.setattr(under_way, "RENEWED", 0.0)
        announcement.ended(ONE)
        wait(lambda: len(written) > 9)


def test_long_curves_lose_points_but_not_their_ends(store: Store) -> None:
    with announced(store, [ONE]) as announcement:
        for step in range(1, 1000):
            announcement.evaluated(ONE, step, step / 1000)
        wait(lambda: trained(store).get(ONE, UnderWay(ONE)).step == 999)
        curve = trained(store)[ONE].curve
    assert MOST_POINTS / 2 <= len(curve) <= MOST_POINTS
    assert (curve[0], curve[-1]) == ((1, 0.001), (999, 0.999))
    assert curve == sorted(curve)


def test_the_file_of_a_killed_worker_expires(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "delete", lambda *_: None)
    with announced(store, [ONE]):
        wait(lambda: trained(store))
    assert trained(store)
    assert under_way.expired(store) == []
    later = time.time() + under_way.HOLDS + 1
    monkeypatch.setattr("time.time", lambda: later)
    assert trained(store) == {}
    [path] = under_way.expired(store)
    assert cleanup.orphans(Survey.of(store)) == [cleanup.Waste(path, "of a run that was killed")]


@pytest.mark.parametrize("content", ["{", "[1]", '{"written": 9e99, "trials": [{"trial": 3}]}'])
def test_a_file_that_is_none_says_nothing(content: str, store: Store) -> None:
    store.put(store.path("running", "0123456789abcdef.json"), content.encode())
    store.put(store.path("running", "notes.json"), b"{}")
    assert trained(store) == {}
    assert [Path(path).name for path in under_way.expired(store)] == ["0123456789abcdef.json"]


def test_a_store_that_fails_does_not_disturb_the_work(s3: S3Server, store: Store) -> None:  # noqa: ARG001
    far = Store(s3.new_bucket())
    s3.refuse = lambda _: True
    with announced(far, [ONE]):
        asked = len(s3.asked)
        wait(lambda: len(s3.asked) > asked + 2)
    s3.refuse = lambda _: False
    with announced(far, [ONE]):
        wait(lambda: trained(far))
    assert far.names("running") == []
