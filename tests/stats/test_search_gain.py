"""The gain of a search's choice on held-out cells, and its section in the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from orchestrator.plan.plan import Plan
from orchestrator.report.page import write_report
from orchestrator.report.query import run_query
from orchestrator.report.search_status import tried
from orchestrator.report.searches import SearchSection, search_notes, search_sections
from orchestrator.stats.search_gain import held_out
from orchestrator.stats.statistics import Statistics
from orchestrator.store.schemas import first_labels, to_table
from orchestrator.store.store import Store
from tests.searches import SEARCHED
from tests.synthetic import blank
from trainers.canonical import canonical, to_json

PlanOf = Callable[..., Plan]
NAME = "name=searched"
SPLITS = ("splits.random=[0, 1]", "fine_tune.search.trials=3")


def tables(plan: Plan, gains: dict[tuple[str, str], float]) -> tuple[pa.Table, pa.Table]:
    """Return members and complete trials.

    Test top-1 is 0.5, with a searched schedule more by the gain of (name, split).
    """
    rows = []
    for trial in (*plan.members, *plan.extra):
        study = trial.training.schedule_from
        name = trial.name.partition(" ")[0]
        columns = {
            "outcome": "complete",
            "attempt": "a0a0a0a0",
            "training": canonical(trial.training),
            "recipe": json.dumps(to_json(trial.training.recipe)),
            "at_chance": False,
            "classes": 5,
            "dataset": "digits",
            "network": "conv8",
        }
        if trial.training.tested:
            top1 = 0.5 + (gains.get((name, trial.split), 0.0) if study else 0.0)
            columns |= {"top1": top1, "val_top1": top1, "total": 100}
        if study:
            columns |= {"study": study, "study_trial": 2}
        rows.append(blank("trials") | first_labels(trial.labels()) | columns)
    return to_table("sweeps", [t.labels() for t in plan.members]), to_table("trials", rows)


def by_place(table: pa.Table) -> dict[tuple[str, int], dict[str, Any]]:
    return {(row["arm"], row["n"]): row for row in table.to_pylist()}


def test_pairs_differ_in_nothing_but_the_schedule(plan_of: PlanOf) -> None:
    """Gains in points: s0 has +4 and 0 for BnB+, +8 and +8 for AnB+; s1 has −2 for one BnB+."""
    planned = plan_of(SEARCHED, NAME, *SPLITS)
    gains = {("A1A+", "s0"): 0.04, ("B1A+", "s0"): 0.08, ("A1B+", "s0"): 0.08}
    rows = by_place(
        held_out(*tables(planned, {**gains, ("B1B+", "s1"): -0.02, ("A-long", "s0"): 0.1}))
    )
    assert {key: row["n_pairs"] for key, row in rows.items()} == {
        ("BnB+", 0): 4,
        ("BnB+", 1): 4,
        ("AnB+", 0): 4,
        ("AnB+", 1): 4,
        ("fine-tuned", 0): 8,
        ("fine-tuned", 1): 8,
        ("base_long", 0): 4,
    }
    by_split = {"BnB+": (0.02, -0.01), "AnB+": (0.08, 0.0), "fine-tuned": (0.05, -0.005)}
    for name, (first, second) in by_split.items():
        row = rows[name, 0]
        assert row["estimate"] == pytest.approx((first + second) / 2)
        assert row["high"] - row["estimate"] == pytest.approx(
            12.7062 * abs(first - second) / 2, 1e-4
        )
        assert (row["n_splits"], row["unit"]) == (2, "split")
    assert rows["base_long", 0]["estimate"] == pytest.approx(0.025)
    studies = {study.role: study.id for study in planned.studies}
    assert rows["base_long", 0]["study"] == studies["base_long"]
    assert rows["AnB+", 1]["study"] == studies["fine_tune"]


def test_without_its_own_schedule_a_network_is_in_no_pair(plan_of: PlanOf) -> None:
    planned = plan_of(SEARCHED, NAME, *SPLITS, "fine_tune.search.compare=false")
    assert held_out(*tables(planned, {})).num_rows == 0


def study_row(plan: Plan, index: int, number: int, **columns: Any) -> dict[str, Any]:
    """A row of `studies` with the sweep's own schedule, at a rate that grows with its number."""
    study = plan.studies[index]
    recipe = to_json(study.cells[0].training.recipe) | {"rate": 0.01 * (number + 1)}
    return (
        blank("studies")
        | {
            "series": study.series,
            "number": number,
            "role": study.role,
            "state": "complete",
            "value": 0.5,
            "values": [0.5] * len(study.cells),
            "planned": len(study.cells),
            "cells": [cell.id for cell in study.cells],
            "parameters": json.dumps({"rate": 0.01 * (number + 1), "copied_rate": 1.0}),
            "distributions": "{}",
            "pruner_state": "{}",
            "recipe": json.dumps(recipe),
            "search": json.dumps(study.declaration),
            "sweep": study.sweep,
            "ended": datetime(2026, 1, 2, tzinfo=UTC),
        }
        | columns
    )


def sections(store: Store) -> list[SearchSection]:
    studies = store.sweep_record("searched").studies
    return search_sections(store, studies, Statistics.of_sweep(store, "searched"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def fill(plan: Plan, store: Store, gains: dict[tuple[str, str], float]) -> pa.Table:
    """Write the trials and the sweep's record; return the members."""
    members, trials = tables(plan, gains)
    names = ("id", "series", "role", "trials")
    studies = [{name: getattr(study, name) for name in names} for study in plan.studies]
    record = {"studies": json.dumps(studies)}
    store.write_sweep(plan.sweep.name, members.to_pylist(), plan.source.record(), **record)
    for row in trials.to_pylist():
        store.write_row(row)
    return members


def test_the_report_states_the_choice_and_its_gain(plan_of: PlanOf, store: Store) -> None:
    planned = plan_of(SEARCHED, NAME, *SPLITS, "fine_tune.search.base_long=false")
    gains = {(name, "s0"): 0.04 for name in ("A1A+", "B1B+", "A1B+", "B1A+")}
    fill(planned, store, gains)
    store.write_study_trial(study_row(planned, 0, 0))
    store.write_study_trial(
        study_row(planned, 0, 1, state="pruned", value=0.4, values=[0.4], pruned_at=1)
    )
    [section] = sections(store)
    assert section.verdict == "The search has not ended."
    store.write_study_trial(study_row(planned, 0, 2, value=0.6))
    [section] = sections(store)
    assert section.verdict == (
        "Trial 2 is chosen, +10.0 points above the sweep's own schedule on the search's own "
        "networks. On the test images of held-out splits (random): +2.0 points [−23.4, +27.4] over "
        "8 pairs of networks in 2 splits."
    )
    assert section.summary.startswith(
        "3 trials of 2 networks each (sampler tpe, pruner median, up to 1 at once): 2 complete, "
        "1 pruned. A trial's value is the mean validation top-1"
    )
    assert [(row["number"], row["own"]) for row in section.best] == [(2, False), (0, True)]
    assert [panel.title for panel in section.panels] == [
        "Validation top-1 of each trial, and the best so far, %",
        "Rate of fresh layers over the steps",
        "Rate of the highest copied layer over the steps",
    ]
    path = write_report(store, "searched", Path(store.root) / "report")
    page = path.read_text(encoding="utf-8")
    assert "Search of the schedule: fine-tuned trials" in page
    assert "Trial 2 is chosen, +10.0 points above" in page
    assert "that of base_long was not (tuning_unequal)" in page


def test_the_report_of_searches_that_keep_the_own_schedule(plan_of: PlanOf, store: Store) -> None:
    planned = plan_of(SEARCHED, NAME, *SPLITS)
    members = fill(planned, store, {})
    for number in range(3):
        store.write_study_trial(study_row(planned, 0, number, value=0.6 - number / 10))
        failed = {"state": "failed", "value": None, "error_message": "loss is nan"}
        store.write_study_trial(study_row(planned, 1, number, **failed))
    fine_tune, base_long = sections(store)
    assert fine_tune.verdict.startswith(
        "Trial 0 is chosen, the sweep's own schedule: no other trial is better. "
    )
    assert (base_long.verdict, base_long.panels) == ("Every trial failed.", [])
    write_report(store, "searched", Path(store.root) / "report")
    assert search_notes(members) == []


def test_a_sweep_without_a_search_has_no_section(plan_of: PlanOf, store: Store) -> None:
    planned = plan_of(SEARCHED, NAME, "fine_tune={}")
    fill(planned, store, {})
    assert sections(store) == []


def test_the_view_equals_the_function(plan_of: PlanOf, store: Store) -> None:
    planned = plan_of(SEARCHED, NAME, *SPLITS)
    members = fill(planned, store, {("A1A+", "s0"): 0.04})
    expected = held_out(members, store.table("trials"))
    asked = run_query(store, "SELECT * FROM held_out")
    assert asked.to_pylist() == expected.to_pylist()


def test_tried_values_in_words() -> None:
    parameters = {"rate": 0.0123456, "two_phases": False, "family": "step", "step.gamma": 0.1}
    assert tried({"parameters": json.dumps(parameters)}) == "family step, rate 0.0123, gamma 0.1"
    assert tried({"parameters": "{}"}) == "a schedule outside of the space"
