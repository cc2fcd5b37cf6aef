"""Sweeps carried out in this process: what is trained, and what is not trained again."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.plan.plan import Plan
from orchestrator.plan.trial import Trial
from orchestrator.states import Ending
from orchestrator.store.schemas import result_columns
from orchestrator.store.store import Store
from tests.execution.runs import ALL, SMALL, PlanOf, carry_out, ids
from tests.stores import forget


def test_a_run_and_a_second_one(plan_of: PlanOf, store: Store) -> None:
    planned = plan_of(SMALL)
    events, tally = carry_out(planned, store)
    assert tally == {"complete": 6}
    assert events.begun == ALL
    assert events.endings == [(name, Ending.COMPLETE) for name in ALL]
    assert events.gave_up == []
    first = store.table("trials")
    again, tally = carry_out(planned, store)
    assert tally == {"complete": 6}
    assert (again.begun, again.endings, again.gave_up) == ([], [], [])
    assert store.table("trials") == first


def test_a_run_with_nothing_to_do_computes_no_costs(
    plan_of: PlanOf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out(plan_of(SMALL), store)
    asked: list[str] = []
    flops = Plan.flops

    def counting(plan: Plan, trial: Trial) -> float:
        asked.append(trial.name)
        return flops(plan, trial)

    monkeypatch.setattr(Plan, "flops", counting)
    assert carry_out(plan_of(SMALL), store)[1] == {"complete": 6}
    assert asked == []
    planned = plan_of(SMALL)
    forget(store, ids(planned)["A1B s0"])
    events, tally = carry_out(planned, store)
    assert (events.begun, tally) == (["A1B s0"], {"complete": 6})
    assert sorted(asked) == sorted(ALL)


def test_a_run_stores_trials_curves_and_counts_per_class(plan_of: PlanOf, store: Store) -> None:
    planned = plan_of(SMALL)
    carry_out(planned, store)
    id_of = ids(planned)
    rows = {row["name"]: row for row in store.table("trials").to_pylist()}
    assert sorted(rows) == sorted(ALL)
    for name, row in rows.items():
        assert row["id"] == id_of[name]
        assert (row["outcome"], row["steps"], row["images"]) == ("complete", 3, 24)
        assert (row["total"], row["classes"], row["retries"]) == (15, 5, 0)
        assert row["top5"] is None
        assert row["error_message"] is None
        assert row["frozen_proven"] is (True if row["frozen"] else None)
        assert row["ended"] > row["started"]
    for child, parent in (("A1A s0", "A s0"), ("B1A s0", "B s0"), ("A1B s0", "A s0")):
        assert rows[child]["parent"] == id_of[parent]
        assert rows[child]["parent_checkpoint"] == rows[parent]["checkpoint"]
    curves = store.table("curves").to_pylist()
    assert sorted(row["step"] for row in curves) == sorted([1, 2, 3] * 6)
    classes = store.table("classes")
    assert classes.num_rows == 6 * 2 * 5
    test = [row for row in classes.to_pylist() if row["subset"] == "test"]
    assert sum(row["correct"] for row in test) == sum(row["correct"] for row in rows.values())
    assert store.names("checkpoints") == sorted([id_of["A s0"], id_of["B s0"]])
    assert store.names("progress") == []
    assert store.members("small")["id"].to_pylist() == [id_of[name] for name in ALL]


def test_the_same_numbers_in_another_store(plan_of: PlanOf, store: Store, tmp_path: Path) -> None:

    other = Store(tmp_path / "other")
    carry_out(plan_of(SMALL), store)
    carry_out(plan_of(SMALL), other)
    for table in ("trials", "curves", "classes"):
        columns = result_columns(table)
        one, two = (
            s.table(table, columns).sort_by([(c, "ascending") for c in columns])
            for s in (store, other)
        )
        assert one == two, table


def test_a_part_of_a_sweep_and_its_bases(plan_of: PlanOf, store: Store) -> None:
    planned = plan_of(SMALL)
    events, tally = carry_out(planned, store, only=[ids(planned)["B1A s0"]])
    assert (events.begun, tally) == (["B s0", "B1A s0"], {"complete": 2})
    events, tally = carry_out(planned, store)
    assert events.begun == ["A s0", "A1A s0", "B1B s0", "A1B s0"]
    assert tally == {"complete": 6}


def test_more_layers_train_only_the_new_ones(plan_of: PlanOf, store: Store) -> None:
    carry_out(plan_of(SMALL), store)
    before = store.table("trials").to_pylist()
    events, tally = carry_out(plan_of(SMALL, "layers=[1, 2]"), store)
    assert events.begun == ["A2A s0", "B2A s0", "B2B s0", "A2B s0"]
    assert tally == {"complete": 10}
    after = {row["id"]: row for row in store.table("trials").to_pylist()}
    assert [after[row["id"]] for row in before] == before


def test_sweeps_that_share_bases_train_them_once(plan_of: PlanOf, store: Store) -> None:
    carry_out(plan_of(SMALL), store)
    events, tally = carry_out(plan_of(SMALL, "name=other", "treatments=[base, transfer+]"), store)
    assert events.begun == ["B1A+ s0", "A1B+ s0"]
    assert tally == {"complete": 4}
    sweeps = {row["name"]: row["first_sweep"] for row in store.table("trials").to_pylist()}
    assert (sweeps["A s0"], sweeps["A1B+ s0"]) == ("small", "other")
    assert store.names("sweeps") == ["other.parquet", "small.parquet"]
