"""The parts of the loss of frozen transfer, from their effects."""

from __future__ import annotations

import pytest

from orchestrator.stats.decomposition import DECOMPOSITION, PARTS, decomposition
from orchestrator.stats.effects import EFFECTS
from tests.synthetic import Label, grid

TOP1 = {
    ("base", False): 0.9,
    ("base_long", False): 0.92,
    ("selffer", True): 0.88,
    ("selffer", False): 0.93,
    ("transfer", True): 0.8,
    ("transfer", False): 0.91,
    ("random", True): 0.5,
}


def test_the_parts_add_up() -> None:
    sweep = grid(lambda x: TOP1[x.treatment, x.frozen], splits=("s0", "s1"), layers=(1, 2))
    rows = sweep.statistics().decomposition.to_pylist()
    assert [(row["n"], row["n_splits"]) for row in rows] == [(1, 2), (2, 2)]
    parts = {"loss": 10, "co_adaptation": 2, "specificity": 8, "recovery": 11, "gain": 1}
    parts |= {"gain_over_longer": -1, "transfer_gain": -2}
    for row in rows:
        assert {name: pytest.approx(100 * row[name]) for name in PARTS} == parts
        assert row["loss_low"] == pytest.approx(row["loss_high"]) == pytest.approx(0.1)


def test_bounds_turn_around_with_the_sign() -> None:
    def top1(label: Label) -> float:
        return 0.9 if label.treatment == "base" else 0.8 + 0.02 * int(label.split[1])

    sweep = grid(top1, splits=("s0", "s1"), layers=(1,))
    statistics = sweep.statistics()
    (row,) = statistics.decomposition.to_pylist()
    effect = next(x for x in statistics.effects.to_pylist() if x["effect"] == "transfer")
    assert row["loss_low"] == -effect["high"] < -effect["low"] == row["loss_high"]


def test_nothing_has_no_parts() -> None:
    assert decomposition(EFFECTS.empty_table()).schema == DECOMPOSITION
