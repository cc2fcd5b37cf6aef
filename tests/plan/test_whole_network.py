"""Copies of whole networks: the last layer too."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.errors import SweepError
from orchestrator.execution.inline import run_inline
from orchestrator.execution.run import Run
from orchestrator.plan.plan import Plan
from orchestrator.report.plan_status import design_notes
from orchestrator.report.progress import RunProgress
from orchestrator.store.store import Store

PlanOf = Callable[..., Plan]

WHOLE = """\
name: whole
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {random: [0]}
treatments: [base, selffer, transfer, transfer+, random]
layers: [4]
recipe: {rate: 0.03, steps: 8, batch: 6}
"""
TASKS = """\
name: tasks
tasks:
  ten: {dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}}
  five: {dataset: digits, classes: [0, 1, 2, 3, 4]}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
treatments: [base, transfer]
layers: [3, 4]
recipe: {rate: 0.03, steps: 8, batch: 6}
"""


def test_a_whole_network_is_evaluated_as_it_is(plan_of: PlanOf, tmp_path: Path) -> None:
    planned, store = plan_of(WHOLE), Store(tmp_path / "results")
    run_inline(Run.open(planned, store, RunProgress(Console(quiet=True))))
    rows = {row["name"]: row for row in store.table("trials").to_pylist()}
    assert {row["outcome"] for row in rows.values()} == {"complete"}
    for half in "AB":
        own = rows[f"{half}4{half} s0"]
        assert (own["steps"], own["frozen_proven"]) == (1, True)
        for column in ("correct", "loss", "val_loss", "train_top1"):
            assert own[column] == pytest.approx(rows[f"{half} s0"][column], rel=1e-6)
    assert rows["A4B+ s0"]["steps"] == 8
    weights = [rows[name]["checkpoint"] for name in ("A s0", "A4A s0", "A4B s0")]
    assert all(weights)
    (note,) = [note for note in design_notes(planned) if note.startswith("n = 4")]
    assert "at chance unless source and target have the same classes" in note


@pytest.mark.parametrize(
    ("sweep", "changes", "message"),
    [
        (
            WHOLE,
            ["splits={random: [0], sizes: [6]}"],
            "n = 4 copies the last layer too: the halves of s0-6 have 6 and 4 classes",
        ),
        (TASKS, [], "n = 4 copies the last layer too: five has 5 classes and ten has 10"),
        (WHOLE, ["layers=[5]"], "layer 5 is out of range: the network has layers 1..4"),
    ],
)
def test_the_last_layer_must_fit(
    sweep: str, changes: list[str], message: str, plan_of: PlanOf
) -> None:
    with pytest.raises(SweepError, match=rf"layers.*: {re.escape(message)}$"):
        plan_of(sweep, *changes)


def test_bases_and_selffers_need_no_second_half(plan_of: PlanOf) -> None:
    changes = ["splits={random: [0], sizes: [6]}", "treatments=[base, selffer]"]
    assert len(plan_of(WHOLE, *changes).trials) == 4
