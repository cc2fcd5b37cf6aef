"""Checkpoints and snapshots of a run: which of them stay, and those that are gone or late."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.execution import worker
from orchestrator.execution.assignment import Assignment
from orchestrator.states import Ending
from orchestrator.store.store import Store
from tests.execution.runs import ALL, SMALL, PlanOf, carry_out, ids
from tests.s3_server import S3Server
from tests.stores import forget
from trainers.results import Snapshot


def test_no_checkpoint_stays_with_keep_none(plan_of: PlanOf, store: Store) -> None:
    events, tally = carry_out(plan_of(SMALL, "keep=none"), store)
    assert (events.begun, tally) == (ALL, {"complete": 6})
    assert store.names("checkpoints") == []
    again, _ = carry_out(plan_of(SMALL, "keep=none"), store)
    assert again.begun == []
    more, tally = carry_out(plan_of(SMALL, "keep=none", "layers=[1, 2]"), store)
    assert more.begun[:2] == ["A s0", "B s0"]
    assert (len(more.begun), tally) == (6, {"complete": 10})
    assert store.names("checkpoints") == []


def test_every_checkpoint_stays_with_keep_all(plan_of: PlanOf, store: Store) -> None:
    planned = plan_of(SMALL, "keep=all")
    carry_out(planned, store)
    assert store.names("checkpoints") == sorted(planned.trials)


def missing(path: Path) -> None:
    path.unlink()


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize("harm", [missing, damaged])
def test_a_base_whose_checkpoint_is_gone_is_trained_again(
    harm: Callable[[Path], None], plan_of: PlanOf, store: Store
) -> None:
    planned = plan_of(SMALL)
    carry_out(planned, store, only=[ids(planned)[name] for name in ("A1A s0", "B s0")])
    base = ids(planned)["A s0"]
    row = store.row(base)
    assert row is not None
    path = Path(store.checkpoint_path(base, row["checkpoint"]))
    weights = path.read_bytes()
    harm(path)
    events, tally = carry_out(planned, store)
    assert events.begun == ["A s0", "B1A s0", "B1B s0", "A1B s0"]
    assert tally == {"complete": 6}
    assert path.read_bytes() == weights


@pytest.mark.parametrize("harm", [missing, damaged])
def test_a_base_whose_checkpoint_goes_during_the_run_is_trained_again(
    harm: Callable[[Path], None],
    plan_of: PlanOf,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planned, harmed = plan_of(SMALL), []
    write_row = Store.write_row

    def harming(self: Store, row: dict[str, Any], *points: Any) -> None:
        write_row(self, row, *points)
        if row["name"] in ("A s0", "B s0") and row["name"] not in harmed:
            harmed.append(row["name"])
            harm(Path(store.checkpoint_path(row["id"], row["checkpoint"])))

    monkeypatch.setattr(Store, "write_row", harming)
    events, tally = carry_out(planned, store)
    assert tally == {"complete": 6}
    assert (harmed, events.repeated) == (["A s0", "B s0"], ["A s0", "B s0"])
    assert [e for _, e in events.endings].count(Ending.BASE_DAMAGED) == 2
    assert [events.begun.count(name) for name in ("A s0", "B s0")] == [2, 2]
    assert store.table("trials").num_rows == 6
    for id in (ids(planned)["A s0"], ids(planned)["B s0"]):
        row = store.row(id)
        assert row is not None
        store.get_checkpoint(id, row["checkpoint"])


def test_a_snapshot_that_comes_after_the_row_goes(plan_of: PlanOf, store: Store) -> None:
    """A worker that was frozen writes it when it wakes, after another one has trained its trial."""
    planned = plan_of(SMALL)
    carry_out(planned, store)
    store.put_progress(ids(planned)["A s0"], "a0b1c2d3", 3, b"late")
    store.put_progress("0123456789abcdef", "a0b1c2d3", 3, b"of another sweep")
    events, tally = carry_out(planned, store)
    assert (events.begun, tally) == ([], {"complete": 6})
    assert store.names("progress") == ["0123456789abcdef"]


def test_a_worker_that_was_taken_for_dead_ends_when_it_wakes(
    plan_of: PlanOf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run has trained its trial. It leaves no snapshot and reports the other result."""
    planned, events = plan_of(f"{SMALL}checkpoint_seconds: 0.000001\n"), []
    put = Store.put_progress

    def frozen(self: Store, trial: str, attempt: str, step: int, data: bytes) -> bool:
        monkeypatch.setattr(Store, "put_progress", put)
        events.append(carry_out(planned, store))
        events.append(store.row(trial))
        return put(self, trial, attempt, step, data)

    monkeypatch.setattr(Store, "put_progress", frozen)
    waking, tally = carry_out(planned, store)
    (others, _), row = events
    assert others.begun[0] == "A s0"
    assert (waking.endings[0], tally) == (("A s0", Ending.COMPLETE), {"complete": 6})
    assert store.row(row["id"]) == row  # not trained to the end a second time
    assert store.names("progress") == []


def test_a_snapshot_lists_no_rows(plan_of: PlanOf, s3: S3Server) -> None:
    """Only the first snapshot of an attempt looks whether the trial is complete by now."""
    planned = plan_of(f"{SMALL}checkpoint_seconds: 0.000001\n", "recipe.steps=6")
    trial = next(iter(planned.trials.values()))
    assignment = Assignment.of(trial, planned.sweep, Store(s3.new_bucket()), checkpoints={})
    asked: list[list[str]] = []

    def watch(_: str, row: Any) -> None:
        if isinstance(row, Snapshot):
            asked.append([])

    def noting(request: str) -> bool:
        if asked:
            asked[-1].append(request)
        return False

    s3.refuse = noting
    worker.run(assignment, watch=watch)
    assert len(asked) == 5
    assert any("some%2Fstore%2Frows" in request for request in asked[0])
    for requests in asked[1:-1]:
        assert all("/progress/" in request.replace("%2F", "/") for request in requests)
        assert len(requests) <= 6  # upload, look at its size, list, look at the oldest, delete it


def test_a_trial_that_is_trained_again_is_not_ended_by_its_own_row(
    plan_of: PlanOf, store: Store
) -> None:
    planned = plan_of(f"{SMALL}checkpoint_seconds: 0.000001\n")
    carry_out(planned, store)
    base = ids(planned)["A s0"]
    before = store.row(base)
    store.drop_checkpoints(base)
    child = ids(planned)["A1A s0"]
    forget(store, child)
    events, tally = carry_out(planned, store)
    assert (events.begun, tally) == (["A s0", "A1A s0"], {"complete": 6})
    after = store.row(base)
    assert before is not None
    assert after is not None
    assert after["attempt"] != before["attempt"]
    assert after["checkpoint"] == before["checkpoint"]


def test_a_checkpoint_that_nobody_needs_may_be_gone(plan_of: PlanOf, store: Store) -> None:
    planned = plan_of(SMALL)
    carry_out(planned, store)
    for id in planned.trials:
        store.drop_checkpoints(id)
    events, _ = carry_out(planned, store)
    assert events.begun == []
