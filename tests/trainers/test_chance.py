"""Chance is judged by the loss and by the interval of the accuracy."""

from __future__ import annotations

import math

import pytest
from scipy.stats import binomtest

from trainers.chance import at_chance, least_share


@pytest.mark.parametrize(("correct", "total"), [(0, 50), (9, 50), (730, 50_000), (50, 50)])
def test_the_interval_is_wilsons(correct: int, total: int) -> None:
    bounds = binomtest(correct, total).proportion_ci(0.95, "wilson")
    assert least_share(correct, total) == pytest.approx(bounds.low, abs=1e-7)


@pytest.mark.parametrize(
    ("loss", "correct", "expected"),
    [
        (0.990, 50, True),  # exactly as guessing
        (0.990, 60, True),  # within the interval
        (0.990, 715, False),  # 14.3 and 14.4 times guessing, on both sides of the bound of the loss
        (0.979, 722, False),
        (0.979, 50, False),  # it learned its training images, and nothing else
    ],
)
def test_a_network_is_at_chance_by_loss_and_accuracy(
    loss: float, correct: int, expected: bool
) -> None:
    """Of 1000 classes with 50 images each; losses are fractions of ln(classes)."""
    assert at_chance(loss * math.log(1000), math.log(1000), correct, 50_000, 0.001) is expected
