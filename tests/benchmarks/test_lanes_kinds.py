"""The benchmark of joined kinds: its networks are equal in all ways, and its table."""

from __future__ import annotations

import pytest
import torch

from benchmarks.lanes_device import RATE, Together, learners, noise
from benchmarks.lanes_kinds import SETTINGS, WAYS, lane_by_lane, row, seconds

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["residual", "groups", "bottleneck"])
def test_all_ways_train_the_same_networks(name: str) -> None:
    setting = SETTINGS[name]
    data = noise(setting, CPU)
    alone = learners(setting, 2, data)
    apart, joined = (Together(setting, 2, data, captured=False) for _ in range(2))
    for step in range(2):
        for learner in alone:
            learner.step(step, RATE)
        with lane_by_lane():
            apart(step)
        joined(step)
    expected = [p for one in alone for p in one.network.parameters()]
    for mine, its, theirs in zip(expected, apart.weights(), joined.weights(), strict=True):
        assert torch.allclose(mine, its, atol=1e-5)
        assert torch.allclose(mine, theirs, atol=1e-5)
    assert len(joined.stack.shared) > len(apart.stack.shared) > 0


def test_a_row_has_every_way_and_the_ratio() -> None:
    assert list(seconds(SETTINGS["residual"], 2, 1)) == list(WAYS)
    cells = row(SETTINGS["residual"], 2, 1, 1).strip("| ").split(" | ")
    assert cells[0] == "residual"
    assert len(cells) == 5
