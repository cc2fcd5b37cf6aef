"""Searches with training: chosen schedules, rows, workers that die, and drivers that are killed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from orchestrator.execution import pack, worker
from orchestrator.execution.assignment import Assignment, Report
from orchestrator.execution.inline import run_inline
from orchestrator.execution.pack import PackAssignment
from orchestrator.execution.run import Run
from orchestrator.plan.plan import Plan
from orchestrator.report.query import run_query
from orchestrator.states import Ending
from orchestrator.store.store import Store
from orchestrator.sweep.records import training_from
from tests.execution.runs import SHORT, Events, PlanOf, Row, carry_out, studies, trials
from tests.searches import SEARCHED

# With training ----------------------------------------------------------------------------------


class Killed(BaseException):
    """The driver dies here."""


@pytest.fixture(scope="module", params=["1", "auto"])
def undisturbed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Plan, Store, Events]:
    """A searched sweep, carried out once: network by network, and in packs."""
    from orchestrator.plan.plan import make_plan
    from orchestrator.plan.resolve import resolve
    from orchestrator.sweep.load import load_sweep

    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "sweep.yaml").write_text(f"{SEARCHED}lanes: {request.param}\n")
    planned = make_plan(resolve(*load_sweep(str(folder / "sweep.yaml"))))
    store = Store(folder / "store")
    events, tally = carry_out(planned, store)
    assert tally == {"complete": 18}
    return planned, store, events


def test_fine_tuned_trials_take_the_best_schedule_and_say_whence(
    undisturbed: tuple[Plan, Store, Events],
) -> None:
    planned, store, _ = undisturbed
    rows = trials(store)
    for study in planned.studies:
        tried = [row for row in studies(store) if row["role"] == study.role]
        best = max(tried, key=lambda row: row["value"] if row["state"] == "complete" else 0)
        assert best["number"] > 0, "or this test shows nothing"
        waiting = [trial for trial in planned.members if trial.training.schedule_from == study.id]
        assert waiting
        for trial in waiting:
            row = rows[trial.id]
            assert (row["study"], row["study_trial"]) == (study.id, best["number"])
            used, tried = json.loads(row["recipe"]), json.loads(best["recipe"])
            assert used == tried
            assert row["rate"] == tried["rate"]
            declared = training_from(row["training"])
            assert (declared, declared.recipe.rate) == (trial.training, 0.03)
    assert {row["study"] for row in rows.values()} - {s.id for s in planned.studies} == {None}


def test_the_search_sees_no_test_image_and_no_reported_split(
    undisturbed: tuple[Plan, Store, Events],
) -> None:
    planned, store, _ = undisturbed
    cells = {id for row in studies(store) for id in row["cells"]}
    bases = {base.id for study in planned.studies for base in study.bases}
    of_search = [row for id, row in trials(store).items() if id in cells | bases]
    assert len(of_search) == len(cells | bases) == 15
    for row in of_search:
        assert row["first_sweep"] == "searched.study"
        assert (row["split"], row["seed"]) == ("s1000", 1000)
        assert row["val_top1"] is not None
        assert [row[name] for name in ("correct", "top1", "loss", "top1_at_best")] == [None] * 4
    classes = store.table("classes").to_pylist()
    assert {row["subset"] for row in classes if row["id"] in cells | bases} == {"validation"}
    members = store.members("searched")["id"].to_pylist()
    assert not set(members) & (cells | bases)


def test_a_cells_value_is_its_validation_top1(undisturbed: tuple[Plan, Store, Events]) -> None:
    _, store, _ = undisturbed
    rows = trials(store)
    for row in studies(store):
        assert row["values"] == [rows[id]["val_top1"] for id in row["cells"]]
        assert row["value"] == sum(row["values"]) / len(row["values"])
        assert (row["pruned_at"] is not None) == (row["state"] == "pruned")
        assert row["planned"] == {"fine_tune": 2, "base_long": 1}[row["role"]]


def test_reported_cells_are_trained_with_the_sweeps_own_schedule_too(
    undisturbed: tuple[Plan, Store, Events],
) -> None:
    _, store, _ = undisturbed
    unsearched = [
        row for row in trials(store).values() if row["first_sweep"] == "searched.unsearched"
    ]
    assert sorted(row["name"] for row in unsearched) == [
        *("A-long s0", "A1A+ s0", "A1B+ s0", "B-long s0", "B1A+ s0", "B1B+ s0"),
    ]
    assert {(row["rate"], row["study"]) for row in unsearched} == {(0.03, None)}


def test_reported_effects_are_of_members_only(undisturbed: tuple[Plan, Store, Events]) -> None:
    _, store, _ = undisturbed
    rows = run_query(store, "SELECT DISTINCT sweep FROM effects").to_pylist()
    assert rows == [{"sweep": "searched"}]


def test_a_second_run_finds_everything_there(undisturbed: tuple[Plan, Store, Events]) -> None:
    planned, store, _ = undisturbed
    events, tally = carry_out(planned, store)
    assert (events.begun, tally) == ([], {"complete": 16})  # the bases of the search are not needed
    events, _ = carry_out(planned, store, only=(), search=True)
    assert events.begun == []


@pytest.mark.parametrize("at", [3, 4, 9])
def test_killed_in_a_cell_the_search_goes_on_as_if_undisturbed(
    at: int,
    undisturbed: tuple[Plan, Store, Events],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The driver dies when the cell `at` begins; what came before is in the store."""
    planned, expected, _ = undisturbed
    run, run_pack, begun = worker.run, pack.run, list[str]()
    killed = 0

    def begin(ids: Sequence[str]) -> None:
        nonlocal killed
        begun.extend(ids)
        if len(begun) >= at and not killed:
            killed = len(ids)
            raise Killed

    def killing(assignment: Assignment, **options: Any) -> Report:
        begin(assignment.ids)
        return run(assignment, **options)

    def killing_pack(work: PackAssignment, **options: Any) -> list[Report]:
        begin(work.ids)
        return run_pack(work, **options)

    monkeypatch.setattr(worker, "run", killing)
    monkeypatch.setattr(pack, "run", killing_pack)
    with pytest.raises(Killed):
        carry_out(planned, store)
    assert len(studies(store)) < 10
    carry_out(planned, store)
    assert len(begun) == len(set(begun)) + killed, "only what was killed is trained again"
    assert studies(store) == studies(expected)
    assert trials(store) == trials(expected)


def test_killed_between_the_last_cell_and_the_row_of_a_study_trial(
    undisturbed: tuple[Plan, Store, Events], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned, expected, _ = undisturbed
    write, written = Store.write_study_trial, []

    def killing(self: Store, row: Row) -> None:
        written.append(row["number"])
        if len(written) == 3:
            raise Killed
        write(self, row)

    monkeypatch.setattr(Store, "write_study_trial", killing)
    with pytest.raises(Killed):
        carry_out(planned, store)
    carry_out(planned, store)
    assert studies(store) == studies(expected)
    assert trials(store) == trials(expected)


def test_two_drivers_write_each_row_once(
    undisturbed: tuple[Plan, Store, Events], store: Store
) -> None:
    """A row that another driver wrote while a trial ran is adopted and not replaced."""
    planned, expected, _ = undisturbed
    first, second = (Run.open(planned, store, Events(), only=(), search=True) for _ in range(2))
    run_inline(first)
    before = store.table("studies").to_pylist()
    run_inline(second)
    assert store.table("studies").to_pylist() == before
    assert studies(store) == studies(expected)


def test_a_loss_that_is_no_number_fails_the_trial(plan_of: PlanOf, store: Store) -> None:
    """At a rate of a million; so the sweep's own schedule is chosen."""
    wild = ("recipe.steps=9", "fine_tune.search.enqueue=[{rate: 1e6}]")
    planned = plan_of(SEARCHED, *SHORT, "fine_tune.search.space.rate=[0.001, 1e6]", *wild)
    carry_out(planned, store)
    own, other = studies(store)
    assert (own["state"], other["state"], other["value"]) == ("complete", "failed", None)
    assert " failed: validation loss is " in other["error_message"]
    assert "layerwise debug" not in other["error_message"]
    used = {row["study_trial"] for row in trials(store).values() if row["study"]}
    assert used == {0}


# Workers that die -------------------------------------------------------------------------------


def test_a_study_trial_is_tried_again_without_the_cells_that_are_done(
    plan_of: PlanOf, store: Store, dying: dict[str, int]
) -> None:
    dying["B1A+ s1000"] = 3
    events, tally = carry_out(plan_of(SEARCHED, *SHORT, "lanes=1"), store)
    assert [name for name in events.begun if "search" in name] == [
        *["search of fine_tune, trial 0"] * 4,
        "search of fine_tune, trial 1",
    ]
    assert [row["state"] for row in studies(store)] == ["complete", "complete"]
    assert tally == {"complete": 12}


def test_a_study_trial_that_is_lost_failed(
    plan_of: PlanOf, store: Store, dying: dict[str, int]
) -> None:
    dying["B1A+ s1000"] = 4
    events, tally = carry_out(plan_of(SEARCHED, *SHORT, "lanes=1"), store)
    lost, complete = studies(store)
    assert (lost["state"], complete["state"]) == ("failed", "complete")
    assert lost["error_message"].startswith("the worker died 4 times; last reason: Traceback")
    assert [name for name, *_ in events.gave_up] == ["search of fine_tune, trial 0"]
    assert tally == {"complete": 12}
    [row] = [row for row in trials(store).values() if row["name"] == "A1A+ s0" and row["study"]]
    assert row["study_trial"] == 1


def test_out_of_memory_a_study_trial_gets_more(
    plan_of: PlanOf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = worker.run, []

    def small(assignment: Assignment, **options: Any) -> Report:
        if assignment.labels["name"] == "B1A+ s1000":
            asked.append(assignment.request["memory_gb"])
            if asked[-1] < 2:
                return Report(assignment.labels["id"], Ending.OUT_OF_MEMORY, "too much")
        return run(assignment, **options)

    monkeypatch.setattr(worker, "run", small)
    carry_out(plan_of(SEARCHED, *SHORT, "resources.default={memory_gb: 1}", "lanes=1"), store)
    assert asked == [1, 2, 1, 2]
    assert [row["state"] for row in studies(store)] == ["complete", "complete"]
