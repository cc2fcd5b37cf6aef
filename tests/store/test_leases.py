"""Leases of runs: kept while a run lives, and what `clean` leaves alone meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.execution import worker
from orchestrator.execution.assignment import Assignment, Report
from orchestrator.states import State
from orchestrator.store import cleanup, leases
from orchestrator.store.leases import in_use
from orchestrator.store.schemas import SCHEMAS
from orchestrator.store.store import Store
from orchestrator.store.survey import Survey
from tests.s3_server import S3Server
from tests.small import SMALL

USED = "0" * 16  # id of a trial of a running sweep


def test_a_lease_is_renewed_and_given_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the run is doing; a fault in telling that does not end the renewal."""
    monkeypatch.setattr(leases, "RENEWED", 0.001)
    assert leases.leases(store) == []
    doing: Iterator[leases.Doing] = iter([(1, None), (2, 7.5)])  # then StopIteration
    with in_use(store, "mine", lambda: next(doing)):
        seen = {}
        deadline = time.monotonic() + 60
        while len([lease for lease in seen.values() if lease.running == 2]) < 3:
            assert time.monotonic() < deadline, seen
            seen |= {lease.written: lease for lease in leases.leases(store, "mine")}
            time.sleep(0.0005)
    assert {(lease.sweep, lease.pid) for lease in seen.values()} == {("mine", os.getpid())}
    assert {lease.seconds_left for lease in seen.values() if lease.running == 2} == {7.5}
    assert len({lease.began for lease in seen.values()}) == 1
    assert leases.leases(store) == leases.expired(store) == []


def test_a_lease_waits_for_no_store_that_fails(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The run itself waits. Its lease expires when the store is back."""
    monkeypatch.setattr(leases, "RENEWED", 0.001)
    store = Store(s3.new_bucket())
    with in_use(store, "mine"):
        s3.refuse = lambda _: True
        deadline = time.monotonic() + 60
        while not caplog.records:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        asked = len(s3.asked)
    assert len(s3.asked) - asked <= 2  # the renewal under way
    s3.refuse = lambda _: False
    assert len(leases.leases(store)) == 1


def test_the_lease_of_a_killed_run_expires(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "delete", lambda *_: None)
    with in_use(store, "mine"):
        pass
    assert len(leases.leases(store)) == 1
    later = time.time() + leases.HOLDS + 1
    monkeypatch.setattr("time.time", lambda: later)
    with in_use(store, "mine"):
        assert len(leases.leases(store)) == 1
    [path] = leases.expired(store)
    assert cleanup.orphans(Survey.of(store)) == [cleanup.Waste(path, "of a run that was killed")]


def test_what_is_new_or_of_a_running_sweep_stays(store: Store) -> None:
    for id in (USED, "f" * 16):
        store.put(store.path("curves", f"{id}-a1a1a1a1.parquet"), b"of no row")
    look = Survey.of(store)
    waste = cleanup.orphans(look)
    assert len(waste) == 2
    member: dict[str, Any] = dict.fromkeys(SCHEMAS["sweeps"].names) | {"id": USED}
    store.write_sweep("mine", [member], "name: mine\n")
    with in_use(store, "mine"):
        [lease] = leases.leases(store)
    assert cleanup.spare(replace(look, used=[lease]), waste) == []
    later = replace(lease, began=lease.began + 2 * leases.CLOCKS)
    assert cleanup.spare(replace(look, used=[later]), waste) == waste[1:]
    assert cleanup.spare(look, waste) == waste


def test_clean_during_a_run_takes_nothing_away(
    folder: Path, layerwise: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each trial there is an orphan, and everything that is half written is listed."""
    (folder / "small.yaml").write_text(f"{SMALL}lanes: 1\n")
    carry_out, said = worker.run, []

    def cleaning(assignment: Assignment, **options: Any) -> Report:
        Store("results").put(
            f"{folder}/results/checkpoints/{'a' * 16}/{'b' * 16}.safetensors", b"new"
        )
        said.append(layerwise("clean", "--failed", "--yes"))
        said.append(layerwise("clean", "--sweep", "small", "--yes"))
        return carry_out(assignment, **options)

    monkeypatch.setattr(worker, "run", cleaning)
    code, _, _ = layerwise("run", "small.yaml", "--inline", "--no-report", "--set", "lanes=1")
    assert code == 0
    assert list(Store("results").outcomes().values()) == [State.COMPLETE] * 6
    cleaned, refused = said[:2]
    assert cleaned[0] == 0
    assert "its trials and what is newer than its start stay\n0 files, 0.0 MB" in cleaned[1]
    assert refused[0] == 2
    assert refused[2] == "layerwise: a run of small uses the store: clean when it has ended\n"
    assert "1 file, 0.0 MB" in layerwise("clean", "--yes")[1]
