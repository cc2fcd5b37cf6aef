"""Failures and costs, from the rows of a sweep."""

from __future__ import annotations

import pytest

from orchestrator.stats.outcomes import COST, FAILURES, cost, failures
from tests.synthetic import Label, Synthetic

BASE = Label(split="s0", target="A", treatment="base")
COPY = Label(split="s0", target="A", treatment="transfer", n=2, frozen=True)


def test_failures_say_why_and_costs_are_of_complete_networks() -> None:
    sweep = Synthetic()
    spent = {"seconds_total": 1800.0, "cpu": 2.0, "gpu": 0.5, "images_per_second": 100.0}
    sweep.add(BASE, 0.9, **spent, peak_memory_bytes=5, retries=1)
    sweep.add(Label(split="s0", target="B", treatment="base"), 0.8, seconds_total=600.0, cpu=1.0)
    sweep.add(COPY, None, outcome="failed", error_type="Diverged", error_message="loss is nan")
    results = sweep.statistics().results
    (failed,) = failures(results).to_pylist()
    assert (failed["name"], failed["error_type"], failed["n"]) == ("B2A s0", "Diverged", 2)
    assert failures(results).schema.names == FAILURES.names
    (bases,) = cost(results).to_pylist()
    assert bases == {
        "sweep": "demo",
        "treatment": "base",
        "frozen": False,
        "n": 0,
        "networks": 2,
        "images": 32000,
        "seconds": 2400.0,
        "seconds_each": 1200.0,
        "cpu_hours": pytest.approx(1 + 1 / 6),
        "gpu_hours": 0.25,
        "images_per_second": 100.0,
        "peak_memory_bytes": 5,
        "retries": 1,
    }
    assert cost(results.slice(0, 0)).schema == COST
