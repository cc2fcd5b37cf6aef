"""The benchmark of large stores fills a small one, and names commands that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import store as benchmark
from orchestrator import cli
from orchestrator.store.store import Store
from orchestrator.store.verification import Verification


@pytest.mark.parametrize("trials", [74, 10_000, 100_000])
def test_the_changes_give_about_so_many_trials(trials: int) -> None:
    name, splits, seeds = benchmark.changes(trials)
    counts = [len(change.partition("=")[2].split(",")) for change in (splits, seeds)]
    assert name == f"name=large{trials}"
    assert counts[0] <= 24
    assert trials <= counts[0] * counts[1] * benchmark.NETWORKS <= 1.5 * max(trials, 100)


def test_a_store_is_filled_as_a_run_fills_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "LOOSE", 50)
    plan = benchmark.planned(74)
    store = Store(tmp_path / "store")
    benchmark.fill(store, plan, 3)
    assert store.outcomes() == dict.fromkeys(plan.trials, "complete")
    assert len(store.names("trials")) == 1 + len(plan.trials) // 50  # and the notice's folder
    assert store.table("curves").num_rows == 3 * len(plan.trials)
    assert list(Verification(store).problems()) == []
    rows = store.table("trials", ["id", "top1"]).to_pylist()
    again, _, _ = benchmark.attempt_of(plan.trials[rows[0]["id"]], 3)
    assert again["top1"] == rows[0]["top1"]


def test_the_commands_exist(tmp_path: Path) -> None:
    known = {command.__name__ for command, _ in cli.COMMANDS} | {"--help"}
    assert {words[3] for _, words in benchmark.commands(74, tmp_path)} <= known
