"""The benchmark of `layerwise watch` measures a small store."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import watch as benchmark
from benchmarks.store import fill, planned
from orchestrator.store.store import Store


def test_a_small_store_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "UPDATES", 2)
    monkeypatch.setattr(benchmark, "APART", 0.0)
    store, plan = Store(tmp_path / "store"), planned(74)
    fill(store, plan, 3, open_ones=2)
    assert len(store.outcomes()) == len(plan.trials) - 2
    benchmark.look(store)
    benchmark.measure(store, 3, plan.sweep.name)
    assert store.outcomes().keys() == plan.trials.keys()
    lines = capsys.readouterr().out.splitlines()
    starts = ("first look ", "first page after", "its figure: ", "page with all", "row written ")
    assert [line.startswith(start) for line, start in zip(lines, starts, strict=False)] == 5 * [
        True
    ]
    assert lines[-1].startswith("memory: ")
