"""Following a sweep through its store while others write, until the end."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.report.follow import EVERY, PATIENCE, Follower, follow
from orchestrator.signals import INTERRUPTED
from orchestrator.store.leases import HOLDS, Lease, in_use
from orchestrator.store.schemas import SCHEMAS
from orchestrator.store.store import Store
from tests.conftest import Ended
from tests.s3_server import S3Server

LEASE = "mine-0123456789abcdef.json"
IDS = [f"{number:016x}" for number in range(4)]
SERIES = (16 * "a", 16 * "b")  # of searches


def complete(store: Store, id: str, outcome: str = "complete") -> None:
    empty: dict[str, Any] = dict.fromkeys(SCHEMAS["trials"].names)
    store.write_row(empty | {"id": id, "outcome": outcome, "attempt": "aaaaaaaa"})


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    place = tmp_path if request.param == "folder" else request.getfixturevalue("s3").new_bucket()
    store = Store(place)
    empty: dict[str, Any] = dict.fromkeys(SCHEMAS["sweeps"].names)
    store.write_sweep("mine", [empty | {"id": id} for id in IDS], "")
    complete(store, IDS[0])
    complete(store, "f" * 16)  # of another sweep
    return store


def note(store: Store, running: int, left: float | None, written: float | None = None) -> None:
    """Write the lease of a run."""
    written = written or time.time() + 60
    lease = Lease(
        sweep="mine",
        host="here",
        pid=1,
        began=written,
        written=written,
        running=running,
        seconds_left=left,
    )
    store.put(store.path("leases", LEASE), json.dumps(asdict(lease)).encode())


def events(store: Store) -> Iterator[Callable[[], None]]:
    """The writes of others between two looks."""
    yield lambda: store.put_progress(IDS[1], "aaaaaaaa", 5, b"snapshot")
    yield lambda: note(store, 2, 90.0)
    yield lambda: complete(store, IDS[1])
    yield lambda: None
    yield lambda: complete(store, IDS[2])
    yield lambda: complete(store, IDS[3], "failed")


@pytest.mark.parametrize("terminal", [False, True])
def test_following_to_the_end(terminal: bool, store: Store) -> None:
    out, clock, writes = io.StringIO(), [0.0], events(store)

    def sleep(seconds: float) -> None:
        assert seconds == EVERY
        clock[0] += 30.0
        next(writes)()

    console = Console(file=out, width=100, force_terminal=terminal, color_system=None)
    follow(Follower(store, "mine", clock=lambda: clock[0]), console, sleep)
    if terminal:
        assert "1/4 complete · 1 with snapshots" in out.getvalue()
        assert "1/4 complete · 2 running · 1:30 left" in out.getvalue()
        assert out.getvalue().rstrip().endswith("\x1b[?25h")
    else:
        assert out.getvalue().splitlines() == [
            "1/4 complete",
            "2/4 complete · 2 running · 1:30 left",
            "3/4 complete · 2 running · 1:30 left · 1 per minute",
            "3/4 complete · 1 failed · 2 running · 1:30 left · 1 per minute",
        ]
    assert next(writes, None) is None


def test_the_trials_of_its_searches_are_counted(store: Store) -> None:
    member = dict.fromkeys(SCHEMAS["sweeps"].names) | {"id": IDS[0]}
    searches = [
        {"id": role, "series": series, "role": role, "trials": 2}
        for role, series in zip(("fine_tune", "base_long"), SERIES, strict=True)
    ]
    store.write_sweep("mine", [member, member | {"id": IDS[1]}], "", studies=json.dumps(searches))
    follower = Follower(store, "mine", clock=lambda: 0.0)
    assert follower.line() == "1/2 complete · search 0/4"
    empty: dict[str, Any] = dict.fromkeys(SCHEMAS["studies"].names) | {"state": "complete"}
    for series, number in ((SERIES[1], 1), (SERIES[0], 0), (IDS[3], 0)):
        store.write_study_trial(empty | {"series": series, "number": number})
    store.write_study_trial(empty | {"series": SERIES[0], "number": 2})  # of a larger one
    follower.look()
    assert follower.line() == "1/2 complete · search 2/4"
    assert not follower.done


def test_following_waits_for_measurements_and_features(tmp_path: Path) -> None:
    store, out = Store(tmp_path), io.StringIO()
    member = dict.fromkeys(SCHEMAS["sweeps"].names) | {"id": IDS[0]}
    facts = {"measurements": json.dumps(IDS[1:3]), "extractions": json.dumps(IDS[3:])}
    store.write_sweep("mine", [member], "", **facts)
    complete(store, IDS[0])
    note(store, 1, None)

    def derive(table: str, id: str) -> Callable[[], None]:
        row = dict.fromkeys(SCHEMAS[table].names) | {"id": id, "trial": IDS[0]}
        row["outcome"] = "complete"
        return lambda: store.write_derived(table, [row])

    writes = iter(
        [
            derive("measurements", IDS[1]),
            derive("measurements", "f" * 16),  # of another sweep
            derive("extractions", IDS[3]),
            lambda: store.delete(store.path("leases", LEASE)),
        ]
    )
    follow(
        Follower(store, "mine", clock=lambda: 0.0),
        Console(file=out, width=100),
        lambda _: next(writes)(),
    )
    assert next(writes, None) is None
    assert out.getvalue().splitlines() == [
        "1/1 complete · measured 0/2 · extracted 0/1 · 1 running",
        "1/1 complete · measured 1/2 · extracted 0/1 · 1 running",
        "1/1 complete · measured 1/2 · extracted 1/1 · 1 running",
        "no run is writing; missing: 1 of 2 measurements; `layerwise run` carries them out",
    ]
    derive("measurements", IDS[2])()
    assert Follower(store, "mine").is_over


@pytest.mark.parametrize("ends", ["removed", "expired", "never"])
def test_following_ends_with_the_run(ends: str, tmp_path: Path) -> None:
    store, out, looks = Store(tmp_path), io.StringIO(), [0]
    store.write_sweep("mine", [dict.fromkeys(SCHEMAS["sweeps"].names) | {"id": IDS[0]}], "")
    if ends != "never":
        note(store, 1, None)

    def sleep(_: float) -> None:
        looks[0] += 1
        if ends == "removed":
            store.delete(store.path("leases", LEASE))
        elif ends == "expired":
            note(store, 1, None, written=time.time() - HOLDS)

    follow(Follower(store, "mine"), Console(file=out, width=100), sleep)
    assert looks[0] == (PATIENCE - 1 if ends == "never" else 1)
    shown = ["0/1 complete" + (" · 1 running" if ends != "never" else "")]
    assert out.getvalue().splitlines() == [
        *shown,
        "no run is writing; missing: 1 of 1; `layerwise run` trains them",
    ]


def test_two_runs_of_a_sweep_are_seen_until_both_have_ended(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_sweep("mine", [dict.fromkeys(SCHEMAS["sweeps"].names) | {"id": IDS[0]}], "")
    with in_use(store, "mine"), in_use(store, "mine-2"):
        with in_use(store, "mine"):
            follower = Follower(store, "mine")
            assert len(follower.runs) == 2
        follower.look()
        assert len(follower.runs) == 1
        assert not follower.is_over
    follower.look()
    assert follower.is_over


def test_a_look_is_six_listings(s3: S3Server) -> None:
    store = Store(s3.new_bucket())
    store.write_sweep("mine", [dict.fromkeys(SCHEMAS["sweeps"].names) | {"id": IDS[0]}], "")
    follower = Follower(store, "mine")
    s3.asked.clear()
    follower.look()
    assert len(s3.asked) == 6
    assert all("list-type=2" in asked for asked in s3.asked)


def test_the_command(
    tmp_path: Path, layerwise: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    missing = layerwise("status", "mine", "--follow")
    assert (missing.code, missing.err.partition(";")[0]) == (2, "layerwise: no store at results")
    store = Store("results")
    store.write_sweep("mine", [dict.fromkeys(SCHEMAS["sweeps"].names) | {"id": IDS[0]}], "")
    unknown = layerwise("status", "yours", "--follow")
    assert unknown.code == 2
    assert unknown.err.startswith("layerwise: no sweep 'yours' in ")
    complete(store, IDS[0])
    assert layerwise("status", "mine", "--follow") == (0, "1/1 complete\n", "")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.report.follow.follow", interrupted)
    assert layerwise("status", "mine", "--follow").code == INTERRUPTED
