"""Smaller tasks in a grid: fewer images per class, and a single class against the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from orchestrator.execution.inline import run_inline
from orchestrator.execution.run import Run
from orchestrator.plan.plan import Plan
from orchestrator.report.progress import RunProgress
from orchestrator.store.store import Store

PlanOf = Callable[..., Plan]

ONE = """\
name: one
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {random: [0], sizes: [9]}
treatments: [base, base_long, selffer, transfer, transfer+, random]
layers: [1, 3]
images_per_class: [4, all]
recipe: {rate: 0.03, steps: 3, batch: 6}
"""


def test_images_per_class_limits_the_target_and_not_its_source(plan_of: PlanOf) -> None:
    changes = ("treatments=[base, selffer, transfer]", "images_per_class=[2, all]", "layers=1")
    planned = plan_of(ONE, "splits.sizes=[]", *changes)
    by_name = {trial.name: trial for trial in planned.members}
    assert list(by_name) == [
        *("A s0 k2", "A s0", "B s0 k2", "B s0"),
        *("A1A s0 k2", "B1A s0 k2", "B1B s0 k2", "A1B s0 k2"),
        *("A1A s0", "B1A s0", "B1B s0", "A1B s0"),
    ]
    assert by_name["A1A s0 k2"].parent == by_name["A s0 k2"].id
    assert by_name["B1A s0 k2"].parent == by_name["B s0"].id
    assert by_name["B1A s0 k2"].training.target.images_per_class == 2
    assert by_name["B1A s0 k2"].training.source == by_name["B s0"].training.target
    assert {t.images_per_class for t in planned.members} == {2, None}


def test_one_class_stands_against_what_its_source_never_saw(plan_of: PlanOf) -> None:
    planned = plan_of(ONE)
    by_name = {trial.name: trial.training for trial in planned.members}
    lone, others = by_name["B s0-9"].target, by_name["A s0-9"].target
    assert (lone.rest, len(lone.classes), len(others.classes)) == (others.classes, 1, 9)
    assert lone.reserved == others.reserved == 2  # of 10 images a class: 18 negatives in all
    assert others.rest == ()
    assert by_name["A1B s0-9"].target.images_per_class is None
    assert by_name["A1B s0-9 k4"].target.images_per_class == 4
    assert {trial.division for trial in planned.members} == {"random-9"}


def test_one_class_against_the_rest_is_trained_and_scored(plan_of: PlanOf, tmp_path: Path) -> None:
    planned, store = plan_of(ONE), Store(tmp_path / "results")
    run = Run.open(planned, store, RunProgress(Console(quiet=True)))
    run_inline(run)
    rows = {row["name"]: row for row in store.table("trials").to_pylist()}
    assert Counter(row["outcome"] for row in rows.values()) == {"complete": len(planned.trials)}
    row = rows["A3B s0-9"]
    assert (row["classes"], row["total"], row["top5"]) == (2, 30, None)
    assert 0 <= row["auroc"] <= 1
    counts = [
        (r["class_index"], r["correct"], r["total"])
        for r in store.table("classes").to_pylist()
        if r["id"] == row["id"] and r["subset"] == "test"
    ]
    lone = planned.trials[row["id"]].training.target.classes[0]
    assert [(index, total) for index, _, total in counts] == [(None, 27), (lone, 3)]
    assert row["balanced_accuracy"] == sum(right / total for _, right, total in counts) / 2
    assert rows["A s0-9"]["auroc"] is None
