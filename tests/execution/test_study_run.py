"""Searches without training: what is tried, in which order, and what waits for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.execution.assignment import Assignment
from orchestrator.execution.items import Bench
from orchestrator.execution.run import Run
from orchestrator.execution.study_run import StudyRun
from orchestrator.states import Ending, State
from orchestrator.store.store import Store
from orchestrator.sweep.records import training_from
from tests.execution.runs import Events, PlanOf, by_rate, simulate, studies
from tests.searches import SEARCHED
from tests.stores import forget

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
