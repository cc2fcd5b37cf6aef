"""The driver with Tune, by workers in one process: figures, and that all trials end."""

from __future__ import annotations

import pytest

from benchmarks import driver_tune
from benchmarks.driver_tune import Figures


def test_a_line_derives_what_one_driver_can_carry() -> None:
    one = Figures(trial=12.5, rate=50.0, start=20.04, end=6.06, memory=0.456)
    assert driver_tune.line(1000, 3000, 1, driver_tune.SHARED, one) == (
        "| 1000 | 3000 | 1 | one process | 12.50 | 80 | 50 | 12.50 | 20.0 | 6.1 | 0.46 |"
    )
    columns = driver_tune.HEAD.splitlines()[0].count("|")
    assert driver_tune.line(1, 3, 1, "", one).count("|") == columns


@pytest.mark.slow
def test_all_trials_of_a_small_run_in_packs_end() -> None:
    one = driver_tune.measured(2, 40, lanes=4)
    assert min(one.trial, one.rate, one.start, one.end, one.memory) > 0
