"""The benchmark of lanes: its packs, and its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.lanes import WAYS, digits, measure, packs, table, write_record
from orchestrator.execution.provenance import layerwise_commit
from orchestrator.plan.packs import packs_of


def test_every_network_is_in_one_pack_of_its_kind_after_its_base() -> None:
    plan = digits(1, 500)
    kinds, done = packs_of(plan), []
    for trials in packs(plan, 16):
        assert len(trials) <= 16
        assert len({kinds[trial.id] for trial in trials}) == 1
        assert all(trial.parent in {None, *done} for trial in trials)
        done += [trial.id for trial in trials]
    assert sorted(done) == sorted(plan.trials)


def test_ratios_are_of_one_round_each(tmp_path: Path) -> None:
    def figures(cpu: float) -> dict[str, float]:
        return {"cpu": cpu, "per_minute": 60 / cpu, "share": 1 / cpu}

    rounds = [dict(zip(WAYS, map(figures, cpus), strict=True)) for cpus in ((8, 4, 2), (9, 3, 3))]
    write_record(tmp_path / "records" / "one.json", {"splits": 1}, rounds)
    record = json.loads((tmp_path / "records" / "one.json").read_text())
    assert record["times_cheaper"]["lanes"] == {"least": 2.0, "median": 2.5, "most": 3.0}
    assert record["rounds"] == rounds
    assert record["commit"] == layerwise_commit()
    assert table(rounds).splitlines()[2:] == [
        "| one at a time | 8.5 | 1.00 | 7 | 12 % |",
        "| lanes | 3.5 | 2.50 | 18 | 29 % |",
        "| lanes, shared layers | 2.5 | 3.50 | 25 | 42 % |",
    ]


@pytest.mark.slow
def test_the_grid_is_trained() -> None:
    figures = measure(WAYS[2], 1, 1, 16)
    assert figures["cpu"] > 0
    assert figures["per_minute"] == pytest.approx(60 * 74 / figures["cpu"])
