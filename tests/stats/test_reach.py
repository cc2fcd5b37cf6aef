"""How many layers can be copied for less than a margin: a fixed sequence of one-sided tests."""

from __future__ import annotations

from typing import Any

import pytest
from scipy import stats

from orchestrator.margin import MARGIN
from orchestrator.stats.reach import Reach, Step, reach


def row(n: int, loss: float, se: float | None = 0.005, df: int | None = 3, **more: Any) -> Any:
    low = None if se is None else -loss - 2 * se
    effect = {"effect": "transfer", "at_chance": "included", "n": n, "estimate": -loss}
    return effect | {"se": se, "df": df, "low": low} | more


def test_the_sequence_ends_with_the_first_n_that_is_not_shown() -> None:
    answer = reach([row(3, 0.001), row(1, 0.01), row(2, 0.025)], 0.03)  # n = 3 is not reached
    assert answer
    assert [step.n for step in answer.steps] == [1, 2, 3]
    upper = 0.01 + stats.t.ppf(0.95, 3) * 0.005
    assert answer.steps[0] == Step(1, 0.01, pytest.approx(upper))
    assert (answer.margin, answer.passed) == (0.03, 1)
    assert answer.last == answer.steps[0]
    assert answer.next == answer.steps[1]


def test_all_n_or_none_may_pass() -> None:
    everything = reach([row(1, 0.0), row(2, 0.01)], margin=0.03)
    assert everything
    assert (everything.passed, everything.next) == (2, None)
    nothing = reach([row(1, 0.03)])
    assert nothing
    assert (nothing.passed, nothing.last) == (0, None)
    wide = reach([row(1, 0.03)], margin=0.1)
    assert wide
    assert wide.passed == 1


def test_a_row_without_an_interval_shows_nothing() -> None:
    assert reach([row(1, 0.0, None)]) == Reach(MARGIN, (Step(1, 0.0, None),), 0)


def test_an_interval_over_classes_and_seeds_counts_by_its_lower_bound() -> None:
    answer = reach([row(1, 0.01, df=None)])
    assert answer
    assert answer.steps[0].upper == pytest.approx(0.02)


def test_only_frozen_transfers_with_networks_at_chance_count() -> None:
    others = [row(1, 0.0, effect="gain"), row(1, 0.0, at_chance="excluded")]
    assert reach(others) is None
