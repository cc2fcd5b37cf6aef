"""Searches whose networks are lanes: the rows of a search network by network, in fewer passes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from orchestrator.execution.assignment import Assignment
from orchestrator.execution.inline import run_inline
from orchestrator.execution.pack import PackAssignment
from orchestrator.execution.run import Run
from orchestrator.plan.packs import packs_of
from orchestrator.plan.plan import Plan
from orchestrator.plan.study import Study
from orchestrator.states import Ending, State
from orchestrator.store.store import Store
from tests.execution.runs import Events, PlanOf, by_rate, carry_out, simulate, studies
from tests.searches import SEARCHED

SIX = (
    *("treatments=[base, selffer+, transfer+]", "layers=[1, 2, 3]"),
    "fine_tune.search.pruner=none",
)
"""Studies of fine-tuned networks alone, with six networks per trial."""


def study_of(plan: Plan) -> Study:
    return plan.studies[0]


def together(run: Run) -> list[list[str]]:
    """The names of the networks of each pack of a run, in order. Nothing is trained."""
    packs: list[list[str]] = []
    take = run.take

    def noting() -> Any:
        if (job := take()) is not None:
            [work] = job.works
            assert isinstance(work, PackAssignment)
            packs.append([one.labels["name"] for one in work.assignments])
        return job

    run.take = noting  # type: ignore[method-assign]
    simulate(run, by_rate)
    return packs


def test_rows_are_those_of_a_search_network_by_network(plan_of: PlanOf, store: Store) -> None:
    more = (*SIX, "fine_tune.search.sampler=random", "fine_tune.search.trials=4")
    carry_out(plan_of(SEARCHED, *more), store)
    other = Store(f"{store.root}-alone")
    carry_out(plan_of(SEARCHED, *more, "lanes=1"), other)
    for one, alone in zip(studies(store), studies(other), strict=True):
        assert one["values"] == pytest.approx(alone["values"], abs=0.02)
        exact = one.keys() - {"values", "value"}
        assert {name: one[name] for name in exact} == {name: alone[name] for name in exact}
    lanes = store.table("trials", ["lanes", "first_sweep"]).to_pylist()
    cells = [row["lanes"] for row in lanes if row["first_sweep"].endswith(".study")]
    assert max(cells) == 6


def test_the_bits_of_a_search_do_not_depend_on_its_packs(plan_of: PlanOf, store: Store) -> None:
    more = ("fine_tune.search.at_once=3", "fine_tune.search.trials=6", "layers=[1, 2]")
    tables = []
    for lanes in ("2", "3", "auto"):
        other = Store(f"{store.root}-{lanes}")
        run = Run.open(
            plan_of(SEARCHED, *more, f"lanes={lanes}"), other, Events(), only=(), search=True
        )
        run_inline(run)
        tables.append(studies(other))
    assert tables[0] == tables[1] == tables[2]


def test_networks_share_a_pack_until_the_pruner_decides(plan_of: PlanOf, store: Store) -> None:
    """Two at once, pruned from the fourth trial on: a trial's networks then wait for each other."""
    more = ("layers=[1, 2, 3]", "treatments=[base, selffer+, transfer+]")
    at_once = ("fine_tune.search.at_once=2", "fine_tune.search.trials=6")
    plan = plan_of(SEARCHED, *more, *at_once)
    study = study_of(plan)
    assert [study.can_prune(number) for number in range(6)] == [
        False,
        False,
        False,
        True,
        True,
        True,
    ]
    run = Run.open(plan, store, Events(), only=(), search=True)
    packs = [pack for pack in together(run) if "s1000" in pack[0] and "+" in pack[0]]
    assert Counter(packs[0]) == dict.fromkeys((cell.name for cell in study.cells), 2)
    assert len(packs[0]) == 12
    last = [pack for pack in packs if len(set(pack)) == 1]
    assert last, "networks of equal place in two trials, one after the other"


@pytest.mark.parametrize("pruner", ["none", "median", "hyperband"])
def test_a_pruner_that_cannot_end_a_trial_is_known_beforehand(
    plan_of: PlanOf, store: Store, pruner: str
) -> None:
    more = ("layers=[1, 2, 3]", f"fine_tune.search.pruner={pruner}", "fine_tune.search.trials=9")
    plan = plan_of(SEARCHED, *more)
    simulate(Run.open(plan, store, Events()), by_rate)
    study = study_of(plan)
    pruned = [row["number"] for row in studies(store) if row["state"] == "pruned"]
    assert all(study.can_prune(number) for number in pruned)
    assert bool(pruned) == (pruner != "none")


def test_a_pruned_trial_leaves_its_pack(plan_of: PlanOf, store: Store) -> None:
    plan = plan_of(
        SEARCHED, *("layers=[1, 2, 3]", "fine_tune.search.trials=9", "fine_tune.search.at_once=3")
    )
    trained: list[str] = []

    def value(assignment: Assignment) -> float:
        trained.append(assignment.id)
        return by_rate(assignment)

    simulate(Run.open(plan, store, Events(), only=(), search=True), value)
    rows = studies(store)
    assert {row["state"] for row in rows} == {"complete", "pruned"}
    cells = [id for row in rows for id in row["cells"]]
    bases = {base.id for study in plan.studies for base in study.bases}
    assert Counter(trained) == Counter(cells) | Counter(bases)
    assert len(cells) < sum(row["planned"] for row in rows)


def test_equal_suggestions_in_one_pack_are_trained_once(plan_of: PlanOf, store: Store) -> None:
    fixed = "rate: 0.05, weight_decay: 0.001, copied_rate: 1, layer_decay: 1, fresh_first: 0"
    space = f"{{family: [constant, linear], floor: 0, warmup: 0, {fixed}}}"
    more = ("fine_tune.search.at_once=4", f"fine_tune.search.space={space}")
    plan = plan_of(SEARCHED, *SIX, *more, "fine_tune.search.enqueue=[]")
    carry_out(plan, store, only=(), search=True)
    rows = studies(store)
    assert [row["state"] for row in rows] == ["complete"] * 5
    equal = Counter(tuple(row["cells"]) for row in rows)
    assert max(equal.values()) > 1, "or this test shows nothing"
    values = {tuple(row["cells"]): row["values"] for row in rows}
    assert all(row["values"] == values[tuple(row["cells"])] for row in rows)


def test_a_failed_network_ends_its_trial_whatever_ended_before(
    plan_of: PlanOf, store: Store
) -> None:
    """The later networks of the pack are trained, and do not count."""
    plan = plan_of(SEARCHED, *SIX)
    trained = Counter[str]()

    def value(assignment: Assignment) -> float:
        name = assignment.labels["name"]
        trained[name] += "+" in name and "s1000" in name
        return float("nan") if name == "B1A+ s1000" else 0.5

    simulate(Run.open(plan, store, Events(), only=(), search=True), value)
    rows = studies(store)
    assert [row["state"] for row in rows] == ["failed"] * 5
    assert {row["error_message"] for row in rows} == {"B1A+ s1000: loss is nan"}
    place = [cell.name for cell in study_of(plan).cells].index("B1A+ s1000")
    assert {len(row["cells"]) for row in rows} == {place + 1}
    assert set((+trained).values()) == {5}


def test_a_network_that_is_lost_fails_its_trial(
    plan_of: PlanOf, store: Store, dying: dict[str, int]
) -> None:
    dying["B1A+ s1000"] = 4
    plan = plan_of(SEARCHED, *SIX, "fine_tune.search.trials=2")
    events, _ = carry_out(plan, store, only=(), search=True)
    lost, complete = studies(store)
    assert (lost["state"], complete["state"]) == ("failed", "complete")
    assert lost["error_message"].startswith("the worker died 4 times; last reason: Traceback")
    assert len(lost["cells"]) == [cell.name for cell in study_of(plan).cells].index("B1A+ s1000")
    name = "search of fine_tune, trial 0"
    assert (name, Ending.FAILED) in events.endings
    assert events.begun.count(name) == 1 + events.endings.count((name, Ending.WORKER_DIED))
    assert events.gave_up == []


def test_progress_says_that_a_trial_was_interrupted(
    plan_of: PlanOf, store: Store, dying: dict[str, int]
) -> None:
    dying["B1A+ s1000"] = 1
    events, _ = carry_out(
        plan_of(SEARCHED, *SIX, "fine_tune.search.trials=1"), store, only=(), search=True
    )
    name = "search of fine_tune, trial 0"
    assert [ending for item, ending in events.endings if item == name] == [
        Ending.WORKER_DIED,
        Ending.COMPLETE,
    ]
    assert [row["state"] for row in studies(store)] == ["complete"]


def test_large_networks_are_searched_one_after_the_other(plan_of: PlanOf, store: Store) -> None:
    plan = plan_of(SEARCHED, "network.conv=[512, 512]")
    assert packs_of(plan) == {}
    run = Run.open(plan, store, Events())
    assert not any("of search" in item.name for item in run.items.values())


def test_searches_of_two_grids_share_packs(plan_of: PlanOf, store: Store) -> None:
    grids = """
grids:
  near: {layers: [1]}
  far: {layers: [2]}
"""
    text = SEARCHED.replace("layers: [1]\n", "") + grids
    plan = plan_of(text, "treatments=[base, transfer+]", "fine_tune.search.pruner=none")
    assert len({study.series for study in plan.studies}) == 2
    run = Run.open(plan, store, Events(), only=(), search=True)
    packs = together(run)
    assert any({"B1A+ s1000", "B2A+ s1000"} <= set(pack) for pack in packs)
    assert run.frontier.state[study_of(plan).id] is State.COMPLETE
