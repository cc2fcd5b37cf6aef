"""Random faults in simulated sweeps in an object store, beside `test_random_faults.py`."""

from __future__ import annotations

import pytest

from tests.simulation import scenarios
from tests.simulation.test_random_faults import FAULTS, FIRST


@pytest.mark.parametrize("first", [first + 1 for first in FIRST])
def test_random_faults_in_an_object_store_lose_nothing(first: int) -> None:
    scenarios.try_at_random(first, FAULTS)
