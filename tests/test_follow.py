"""Following a sweep by its store: what is shown while others write, until the end."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Ended
from rich.console import Console
from s3_server import S3Server

from orchestrator.cli.running import INTERRUPTED
from orchestrator.follow import EVERY, Follower, follow
from orchestrator.store import Store
from orchestrator.tables import SCHEMAS

IDS = [f"{number:016x}" for number in range(4)]


def complete(store: Store, id: str, outcome: str = "complete") -> None:
    empty: dict[str, Any] = dict.fromkeys(SCHEMAS["trials"].names)
    store.write_row(empty | {"id": id, "outcome": outcome, "attempt": "aaaa"})


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    place = tmp_path if request.param == "folder" else request.getfixturevalue("s3").new_bucket()
    store = Store(place)
    empty: dict[str, Any] = dict.fromkeys(SCHEMAS["sweeps"].names)
    store.write_sweep("mine", [empty | {"id": id} for id in IDS], "")
    complete(store, IDS[0])
    complete(store, "f" * 16)  # of another sweep
    return store


def events(store: Store) -> Iterator[Callable[[], None]]:
    """What others do between the looks."""
    yield lambda: store.put_progress(IDS[1], "aaaa", 5, b"snapshot")
    yield lambda: complete(store, IDS[1])
    yield lambda: None
    yield lambda: complete(store, IDS[2], "failed")
    yield lambda: complete(store, IDS[3], "skipped")


@pytest.mark.parametrize("terminal", [False, True])
def test_following_to_the_end(terminal: bool, store: Store) -> None:
    out, clock, happening = io.StringIO(), [0.0], events(store)

    def sleep(seconds: float) -> None:
        assert seconds == EVERY
        clock[0] += 30.0
        next(happening)()

    console = Console(file=out, width=100, force_terminal=terminal, color_system=None)
    follow(Follower(store, "mine", clock=lambda: clock[0]), console, sleep)
    if terminal:
        assert "1/4 complete · 1 with snapshots" in out.getvalue()
        assert out.getvalue().rstrip().endswith("\x1b[?25h")
    else:
        assert out.getvalue().splitlines() == [
            "1/4 complete",
            "2/4 complete · 1 a minute",
            "2/4 complete · 1 failed · 0.5 a minute",
            "2/4 complete · 1 failed · 1 skipped · 0.4 a minute",
        ]
    assert next(happening, None) is None


def test_the_trials_of_its_searches_are_counted(store: Store) -> None:
    member = dict.fromkeys(SCHEMAS["sweeps"].names) | {"id": IDS[0]}
    searches = [
        {"id": role, "series": f"{role}-series", "role": role, "trials": 2}
        for role in ("fine_tune", "base_long")
    ]
    store.write_sweep("mine", [member, member | {"id": IDS[1]}], "", studies=json.dumps(searches))
    follower = Follower(store, "mine", clock=lambda: 0.0)
    assert follower.line() == "1/2 complete · search 0/4"
    empty: dict[str, Any] = dict.fromkeys(SCHEMAS["studies"].names)
    for series, number in (("base_long-series", 1), ("fine_tune-series", 0), ("other", 0)):
        store.write_study_trial(empty | {"series": series, "number": number})
    store.write_study_trial(empty | {"series": "fine_tune-series", "number": 2})  # of a larger one
    follower.look()
    assert follower.line() == "1/2 complete · search 2/4"
    assert not follower.done


def test_a_look_is_five_listings(s3: S3Server) -> None:
    store = Store(s3.new_bucket())
    store.write_sweep("mine", [dict.fromkeys(SCHEMAS["sweeps"].names) | {"id": IDS[0]}], "")
    follower = Follower(store, "mine")
    s3.asked.clear()
    follower.look()
    assert len(s3.asked) == 5
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

    monkeypatch.setattr("orchestrator.follow.follow", interrupted)
    assert layerwise("status", "mine", "--follow").code == INTERRUPTED
