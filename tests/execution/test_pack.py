"""Packs of trials in a run: rows as of trials alone, and trials that fail or stop in a pack."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.errors import StoreError
from orchestrator.execution import pack
from orchestrator.execution.assignment import Report
from orchestrator.execution.inline import run_inline
from orchestrator.execution.run import Run
from orchestrator.execution.worker import Training
from orchestrator.states import Ending, State
from orchestrator.store import under_way
from orchestrator.store.schemas import result_columns
from orchestrator.store.store import Store
from tests.execution.runs import SMALL, Events, PlanOf, carry_out
from trainers.lanes.forward import Joined
from trainers.results import Evaluation, Result

PACKED = SMALL.replace("lanes: 1\n", "").replace("layers: [1]", "layers: [1, 2]")
HASHES = ("lanes", "checkpoint", "parent_checkpoint", "frozen_hash_start", "frozen_hash_end")


def trials(store: Store) -> dict[str, dict[str, Any]]:
    """The rows of all trials by name, in the columns that are results."""
    columns = ["name", "lanes", *result_columns("trials")]
    rows = store.table("trials", list(dict.fromkeys(columns))).to_pylist()
    return {row["name"]: row for row in rows}


def test_rows_of_a_pack_are_those_of_trials_alone(plan_of: PlanOf, store: Store) -> None:
    events, tally = carry_out(plan_of(PACKED), store)
    assert tally == {"complete": 10}
    together = trials(store)
    assert {name: row["lanes"] for name, row in together.items()} == {
        "A s0": 2,
        "B s0": 2,
        **dict.fromkeys(("A1A s0", "A2A s0", "B1B s0", "B2B s0"), 8),
        **dict.fromkeys(("A1B s0", "A2B s0", "B1A s0", "B2A s0"), 8),
    }
    other = Store(f"{store.root}-alone")
    carry_out(plan_of(PACKED, "lanes=1"), other)
    for name, row in trials(other).items():
        for column, value in row.items():
            if isinstance(value, float):
                assert together[name][column] == pytest.approx(value, rel=1e-4), column
            elif column not in HASHES:
                assert together[name][column] == value, column
    assert events.begun[:2] == ["A s0", "B s0"]


def test_a_trial_has_the_same_bits_in_any_pack(plan_of: PlanOf, store: Store) -> None:
    carry_out(plan_of(PACKED), store)
    other = Store(f"{store.root}-pairs")
    carry_out(plan_of(PACKED, "lanes=2"), other)
    pairs = trials(other)
    assert {row["lanes"] for row in pairs.values()} == {2}
    assert {name: row | {"lanes": 2} for name, row in trials(store).items()} == pairs


def test_rows_of_a_pack_are_written_at_the_same_time(
    plan_of: PlanOf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, pairs = Store.write_row, threading.Barrier(2, timeout=60)

    def together(self: Store, *arguments: Any) -> None:
        pairs.wait()  # one by one, this would be broken
        write(self, *arguments)

    monkeypatch.setattr(Store, "write_row", together)
    _, tally = carry_out(plan_of(PACKED), store)
    assert tally == {"complete": 10}


def test_a_row_that_cannot_be_written_takes_no_other_with_it(
    plan_of: PlanOf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Store.write_row

    def refused(self: Store, row: dict[str, Any], *arguments: Any) -> None:
        if row["name"] == "A s0":
            raise StoreError("no room for it")
        write(self, row, *arguments)

    monkeypatch.setattr(Store, "write_row", refused)
    run = Run.open(plan_of(PACKED), store, Events())
    run_inline(run)
    assert run.store_failure == "no room for it"
    assert set(trials(store)) == {"B s0"}
    monkeypatch.undo()
    again = Run.open(plan_of(PACKED), store, Events())
    run_inline(again)
    assert again.tally()["complete"] == 10
    assert again.already == 1


@pytest.mark.parametrize("lanes", [1, 8])
def test_others_see_what_is_trained(
    lanes: int, plan_of: PlanOf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_way, "NEAR", 0.001)
    seen: dict[str, list[int]] = {}

    def watch(id: str, row: Any) -> None:
        deadline = time.monotonic() + 60
        while isinstance(row, Evaluation) and id not in seen:
            if (now := under_way.under_way(store, {id})) and now[id].step == row.step:
                seen[id] = [step for step, _ in now[id].curve]
            assert time.monotonic() < deadline

    plan = plan_of(PACKED, f"lanes={lanes}", "recipe.steps=4", "recipe.evaluate_every=2")
    run_inline(Run.open(plan, store, Events()), watch)
    assert seen == {id: [2] for id in plan.trials}
    assert store.names("running") == []


SNAPSHOTS = ("checkpoint_seconds=1e-6", "recipe.steps=6", "recipe.evaluate_every=1")


def bases_of(plan_of: PlanOf, store: Store) -> pack.PackAssignment:
    """The pack of the two bases, which write a snapshot at every step."""
    run = Run.open(plan_of(PACKED, *SNAPSHOTS), store, Events())
    job = run.take()
    assert job is not None
    [work] = job.works
    assert isinstance(work, pack.PackAssignment)
    return work


def test_lanes_train_on_while_a_snapshot_is_written(
    plan_of: PlanOf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, rows = Store.put_progress, list[Any]()

    def slow(self: Store, *arguments: Any) -> bool:
        before, deadline = len(rows), time.monotonic() + 60
        while len(rows) < before + 2:
            assert time.monotonic() < deadline, "no lane trains while a snapshot is written"
            time.sleep(0.001)
        return put(self, *arguments)

    monkeypatch.setattr(Store, "put_progress", slow)
    bases = bases_of(plan_of, store)
    reports = pack.run(bases, watch=lambda _, row: rows.append(row), stop=lambda: False)
    assert [report.ending for report in reports] == [Ending.COMPLETE] * 2
    assert store.names("progress") == []


def test_a_lane_that_another_attempt_completed_ends_and_the_others_go_on(
    plan_of: PlanOf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases, rows = bases_of(plan_of, store), list[Any]()
    elsewhere = Report(bases.ids[0], Ending.COMPLETE)
    ended = {elsewhere.trial: elsewhere}
    monkeypatch.setattr(Training, "_ended_elsewhere", lambda self: ended.get(self.id))
    reports = pack.run(bases, watch=lambda _, row: rows.append(row), stop=lambda: False)
    assert reports[0] is elsewhere
    assert reports[1].ending is Ending.COMPLETE
    assert set(store.outcomes()) == {bases.ids[1]}
    assert sum(isinstance(row, Result) for row in rows) == 1


def test_each_base_is_read_before_the_other_trials_that_copy_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bases = {"a1": "a", "b1": "b", "a2": "a", "a3": "a", "b2": "b"}
    ones = tuple(SimpleNamespace(id=id, checkpoints={x: "00"}) for id, x in bases.items())
    order: list[str] = []

    def prepare(one: Any, **_: Any) -> Any:
        order.append(one.id)
        return SimpleNamespace(training=one)

    monkeypatch.setattr(pack, "_prepare", prepare)
    with ThreadPoolExecutor(1) as pool:
        prepared = pack._prepared(pack.PackAssignment(ones), pool, lambda: False)  # type: ignore[arg-type]
    assert {bases[id] for id in order[:2]} == {"a", "b"}
    assert [one.training.id for one in prepared] == list(bases)


def test_a_pack_that_runs_out_of_memory_is_halved(
    plan_of: PlanOf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, sizes = Joined.__call__, []

    def limited(self: Joined, *arguments: Any) -> Any:
        if len(self.modules) > 3:
            sizes.append(len(self.modules))
            raise MemoryError
        return call(self, *arguments)

    monkeypatch.setattr(Joined, "__call__", limited)
    events, tally = carry_out(plan_of(PACKED), store)
    assert tally == {"complete": 10}
    assert sizes[:3] == [8, 4, 4] or sizes[:2] == [4, 4]
    assert {ending for _, ending in events.endings} == {Ending.PACK_FAILED, Ending.COMPLETE}
    assert max(row["lanes"] for row in trials(store).values()) <= 4


def test_a_trial_whose_loss_is_not_finite_fails_alone(plan_of: PlanOf, store: Store) -> None:
    axes = "axes={fine_tune.recipe.rate: [0.03, 1e30]}"
    plan = plan_of(PACKED, "treatments=[base, transfer+]", axes)
    _, tally = carry_out(plan, store)
    assert tally == {"complete": 7, "failed": 3}  # one net is dead after the first step
    failed = store.table("trials", ["error_message", "outcome", "lanes"]).to_pylist()
    messages = [row["error_message"] for row in failed if row["outcome"] == State.FAILED]
    assert len(messages) == 3
    assert all("loss is" in message and "run it alone with" in message for message in messages)


def test_trials_of_a_dead_worker_are_repeated_one_by_one(
    plan_of: PlanOf, store: Store, dying: dict[str, int]
) -> None:
    dying["A1B s0"] = 4
    events, tally = carry_out(plan_of(PACKED), store)
    assert tally == {"complete": 9, "lost": 1}
    assert [name for name, state, _ in events.gave_up if state is State.LOST] == ["A1B s0"]


def test_a_drained_pack_resumes_with_the_same_bits(plan_of: PlanOf, store: Store) -> None:
    carry_out(plan_of(PACKED), store)
    other = Store(f"{store.root}-stopped")
    run = Run.open(plan_of(PACKED), other, Events())
    job = run.take()
    assert job is not None
    [work] = job.works
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 2

    reports = pack.run(work, watch=lambda *_: None, stop=stop)  # type: ignore[arg-type]
    assert [report.ending for report in reports] == [Ending.STOPPED] * 2
    assert other.names("progress") == sorted(report.trial for report in reports)
    run.end(job, {report.trial: report for report in reports})
    run_inline(run)
    resumed = trials(other)
    assert resumed == trials(store)
    rows = other.table("trials", ["name", "resumes", "exact"]).to_pylist()
    assert {row["name"] for row in rows if row["resumes"]} == {"A s0", "B s0"}
    assert all(row["exact"] for row in rows)
