"""Random faults in simulated sweeps in a folder; those in an object store are in a file beside it.

Two files, so that two workers of xdist share them.
"""

from __future__ import annotations

import pytest

from tests.simulation import scenarios

FAULTS = 5000  # from each first seed; `python -m tests.simulation --faults` has as many as asked
FIRST = range(0, 120_000, 20_000)


@pytest.mark.parametrize("first", FIRST)
def test_random_faults_in_a_folder_lose_nothing(first: int) -> None:
    scenarios.try_at_random(first, FAULTS)
