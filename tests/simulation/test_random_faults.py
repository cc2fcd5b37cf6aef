"""Random faults in simulated sweeps; three files, so that three workers of xdist share them."""

from __future__ import annotations

import itertools

import pytest

from tests.simulation import scenarios

FAULTS = 2500  # from each first seed; `python -m tests.simulation --faults` has as many as asked


@pytest.mark.parametrize("first", [0, 20_000, 40_000, 60_000])
def test_random_faults_lose_nothing(first: int) -> None:
    done = 0
    for seed in itertools.count(first):
        one = scenarios.at_random(seed)
        assert not one.problems, f"{one.label}: {one.problems}"
        done += one.faults
        if done >= FAULTS:
            break
