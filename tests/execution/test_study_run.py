"""Searches carried out: what is tried, in which order, after crashes, and what waits for it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.execution import pack, worker
from orchestrator.execution.assignment import Assignment, Report
from orchestrator.execution.inline import run_inline
from orchestrator.execution.items import Bench
from orchestrator.execution.pack import PackAssignment
from orchestrator.execution.run import Job, Run
from orchestrator.execution.study_run import StudyRun
from orchestrator.plan.plan import Plan
from orchestrator.report.query import run_query
from orchestrator.states import Ending, State
from orchestrator.store.schemas import result_columns
from orchestrator.store.store import Store
from orchestrator.sweep.records import training_from
from tests.execution.runs import Events
from tests.searches import SEARCHED
from tests.stores import forget

PlanOf = Callable[..., Plan]
Row = dict[str, Any]
Value = Callable[[Assignment], float]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def carry_out(plan: Plan, store: Store, **options: Any) -> tuple[Events, dict[str, int]]:
    events = Events()
    run = Run.open(plan, store, events, **options)
    run_inline(run)
    return events, {state: count for state, count in run.tally().items() if count}


def studies(store: Store) -> list[Row]:
    """The rows of all studies, in the columns that are results."""
    rows: list[Row] = store.table("studies", result_columns("studies")).to_pylist()
    return sorted(rows, key=lambda row: (row["role"], row["number"]))


def trials(store: Store) -> dict[str, Row]:
    rows = store.table("trials", result_columns("trials")).to_pylist()
    return {row["id"]: row for row in rows}


def networks(work: Any) -> list[Assignment]:
    """The networks that a piece of work trains."""
    return list(work.assignments) if isinstance(work, PackAssignment) else [work]


# Without training -------------------------------------------------------------------------------


def simulate(run: Run, value: Value, *, slots: int = 1, seed: int = 0) -> None:
    """Carry out a run without training: networks reach `value`, on `slots` workers of any speed."""
    generator = random.Random(seed)
    jobs: list[tuple[Job, list[Any], dict[str, Report]]] = []
    while True:
        while len(jobs) < slots and (taken := run.take()) is not None:
            run.started(taken)
            jobs.append((taken, [one for work in taken.works for one in networks(work)], {}))
        if not jobs:
            break
        job, left, reports = jobs.pop(generator.randrange(len(jobs)))
        assignment = left.pop(0)
        reached = value(assignment)
        id = assignment.labels["id"]
        ending = Ending.COMPLETE if math.isfinite(reached) else Ending.FAILED
        message = "" if ending is Ending.COMPLETE else f"{assignment.labels['name']}: loss is nan"
        reports[id] = Report(id, ending, message, "0" * 64, val_top1=reached)
        if run.tell(job, reports[id]) or not left:
            run.end(job, reports)
        else:
            jobs.append((job, left, reports))
    assert run.done


def by_rate(assignment: Assignment) -> float:
    """The nearer the rate is to 0.01, the better; cells differ a little."""
    training = assignment.trained()
    cell = {"selffer": 0.02, "transfer": 0.0}.get(training.treatment.kind, 0.0)
    return 0.9 - abs(training.recipe.rate - 0.01) + cell + training.treatment.n / 1000


PARALLEL = ("fine_tune.search.trials=9", "fine_tune.search.startup=3", "layers=[1, 2, 3]")


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("pruner", ["median", "hyperband", "none"])
def test_suggestions_do_not_depend_on_the_speed_of_workers(
    sampler: str, pruner: str, plan_of: PlanOf, tmp_path: Path
) -> None:
    """Three at once: one after the other in one place, or in seven at any speed."""
    planned = plan_of(
        SEARCHED,
        *PARALLEL,
        "fine_tune.search.at_once=3",
        f"fine_tune.search.sampler={sampler}",
        f"fine_tune.search.pruner={pruner}",
    )
    tables = []
    for number, slots in enumerate((1, 7)):
        store = Store(tmp_path / f"{number}")
        simulate(Run.open(planned, store, Events()), by_rate, slots=slots, seed=number)
        tables.append(studies(store))
    assert len(tables[0]) == 18
    assert tables[0] == tables[1]
    states = {row["state"] for row in tables[0] if row["role"] == "fine_tune"}
    assert pruner == "hyperband" or ("pruned" in states) == (pruner == "median")


def test_a_study_trial_starts_when_those_it_learns_from_have_ended(plan_of: PlanOf) -> None:
    study = plan_of(SEARCHED, "fine_tune.search.at_once=2").studies[0]
    assert [list(study.after(number)) for number in range(5)] == [[], [], [0], [0, 1], [1, 2]]
    study = plan_of(SEARCHED).studies[0]
    assert [list(study.after(number)) for number in range(3)] == [[], [0], [1]]


def test_a_larger_budget_starts_from_the_rows_of_a_smaller(
    plan_of: PlanOf, store: Store, tmp_path: Path
) -> None:
    small, large = (plan_of(SEARCHED, f"fine_tune.search.trials={n}") for n in (4, 7))
    assert [s.series for s in small.studies] == [s.series for s in large.studies]
    assert not {s.id for s in small.studies} & {s.id for s in large.studies}
    simulate(Run.open(small, store, Events()), by_rate)
    events = Events()
    simulate(Run.open(large, store, events), by_rate)
    searched = [name for name in events.begun if name.startswith("search of fine_tune")]
    assert searched == [f"search of fine_tune, trial {number}" for number in (4, 5, 6)]
    direct = Store(tmp_path / "whole")
    simulate(Run.open(large, direct, Events()), by_rate)
    assert studies(store) == studies(direct)
    bench = Bench(small.sweep, store)  # and the smaller one still knows its own rows
    assert [len(StudyRun(study, small, bench).rows) for study in small.studies] == [4, 4]


def test_a_row_that_is_gone_is_found_again(plan_of: PlanOf, store: Store) -> None:
    """Whatever is suggested after it waits for it."""
    small, large = (plan_of(SEARCHED, f"fine_tune.search.trials={n}") for n in (5, 7))
    simulate(Run.open(small, store, Events()), by_rate)
    before = studies(store)
    study = small.studies[0]
    forget(store, f"studies-{study.series}-2")
    events = Events()
    simulate(Run.open(large, store, events), by_rate)
    begun = [name.rpartition(" ")[2] for name in events.begun if "of fine_tune" in name]
    assert begun == ["2", "5", "6"]
    assert [row for row in studies(store) if row["number"] < 5] == before


def test_a_study_trial_asks_for_what_its_largest_cell_asks_for(
    plan_of: PlanOf, store: Store
) -> None:
    planned = plan_of(SEARCHED, "resources={default: {cpu: 1}, transfer+: {cpu: 2}}")
    run = Run.open(planned, store, Events())
    requests = {s.role: run.items[s.node(0)].node.request.cpu for s in planned.studies}
    assert requests == {"fine_tune": 2, "base_long": 1}


def test_the_best_is_chosen_and_the_first_of_equals(plan_of: PlanOf, store: Store) -> None:
    planned = plan_of(SEARCHED)
    simulate(Run.open(planned, store, Events()), lambda _: 0.5)
    bench = Bench(planned.sweep, store)
    choices = [StudyRun(study, planned, bench).choice() for study in planned.studies]
    assert [choice and choice["number"] for choice in choices] == [0, 0]
    assert [row["state"] for row in studies(store)] == ["complete"] * 10


def test_a_trial_that_failed_is_told_so_and_does_not_end_the_study(
    plan_of: PlanOf, store: Store
) -> None:
    planned = plan_of(SEARCHED)

    def value(assignment: Assignment) -> float:
        of_two = assignment.labels["name"] == "B1A+ s1000"
        return float("nan") if of_two and assignment.trained().recipe.rate > 0.04 else 0.5

    events = Events()
    simulate(Run.open(planned, store, events), value)
    rows = [row for row in studies(store) if row["role"] == "fine_tune"]
    failed = [row for row in rows if row["state"] == "failed"]
    assert 0 < len(failed) < 5
    assert {len(row["cells"]) for row in failed} == {2}
    assert {(row["value"], row["error_message"]) for row in failed} == {
        (None, "B1A+ s1000: loss is nan")
    }
    name = f"search of fine_tune, trial {failed[0]['number']}"
    assert (name, Ending.FAILED) in events.endings
    again = Events()
    simulate(Run.open(planned, store, again, only=(), search=True), value)
    assert again.begun == []


def test_if_all_trials_fail_what_waits_is_skipped_with_that_reason(
    plan_of: PlanOf, store: Store
) -> None:
    planned = plan_of(SEARCHED)

    def value(assignment: Assignment) -> float:
        searched = not training_from(assignment.training).tested and assignment.labels["n"] > 0
        return float("nan") if searched else 0.5

    for _ in range(2):
        events = Events()
        run = Run.open(planned, store, events)
        simulate(run, value)
        study = planned.studies[0]
        reason = (
            f"its parent {study.id} failed: all 5 trials of the search failed; "
            "the first: A1A+ s1000: loss is nan"
        )
        assert run.tally()["skipped"] == 4
        searched = [t for t in planned.members if t.training.schedule_from == study.id]
        for trial in searched:
            row = store.row(trial.id)
            assert row is not None
            assert (row["outcome"], row["error_message"]) == ("skipped", reason)
        others = [t.id for t in planned.members if t not in searched]
        assert {run.frontier.state[id] for id in others} == {State.COMPLETE}
    assert events.gave_up == []  # it was events before


def test_a_failed_base_of_the_search_skips_the_search_and_what_waits(
    plan_of: PlanOf, store: Store
) -> None:
    planned = plan_of(
        SEARCHED, "treatments=[base, selffer+, transfer]", "fine_tune.search.pruner=none"
    )

    def value(assignment: Assignment) -> float:
        return float("nan") if assignment.labels["name"] == "A s1000" else 0.5

    run = Run.open(planned, store, Events())
    simulate(run, value)
    assert studies(store) == []
    tally = {state: count for state, count in run.tally().items() if count}
    assert tally == {"complete": 6, "failed": 1, "skipped": 2}
    [row] = store.rows([t.id for t in planned.members if t.name == "A1A+ s0"], "skipped")
    assert row["error_message"].endswith("A s1000: loss is nan")


def test_frozen_trials_do_not_wait_for_the_search(plan_of: PlanOf, store: Store) -> None:
    planned = plan_of(SEARCHED, "lanes=1")
    run, studies = Run.open(planned, store, Events()), {study.id for study in planned.studies}
    waits = {
        trial.name
        for trial in run.trials.values()
        if set(run.items[trial.id].node.parents) & studies
    }
    assert waits == {"A-long s0", "B-long s0", "A1A+ s0", "B1A+ s0", "B1B+ s0", "A1B+ s0"}
    bases = {base.id for base in planned.studies[0].bases}
    assert [run.trials[id].name for id in bases & set(run.trials)]
    assert set(run.items[planned.studies[0].node(0)].node.parents) == bases


def test_only_what_is_asked_for_brings_the_search_along(plan_of: PlanOf, store: Store) -> None:
    planned = plan_of(SEARCHED)
    ids = {trial.name: trial.id for trial in planned.members}
    roles = {study.id: study.role for study in planned.studies}
    run = Run.open(planned, store, Events(), only=[ids["B1A s0"]])
    assert not roles.keys() & run.items.keys()
    run = Run.open(planned, store, Events(), only=[ids["B1A+ s0"]])
    assert [roles[id] for id in roles.keys() & run.items.keys()] == ["fine_tune"]
    names = sorted(trial.name for trial in run.trials.values())
    assert names == ["A s1000", "B s0", "B s1000", "B1A+ s0"]


# Workers that die -------------------------------------------------------------------------------


SHORT = ("fine_tune.search.trials=2", "treatments=[base, selffer+, transfer+]")


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
