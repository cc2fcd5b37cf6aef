"""Learning rates spelled out: every family, without and with warm-up."""

from __future__ import annotations

from typing import Any

import pytest

from trainers.recipe import Recipe, Schedule
from trainers.schedules import factor, fresh_steps, layer_factors

# Half cosines at tenths and fifths, to seven digits.
FAMILIES: list[tuple[dict[str, Any], list[float]]] = [
    ({"family": "constant"}, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
    ({"family": "constant", "warmup": 0.4}, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1]),
    (
        {"family": "step", "every": 4, "gamma": 0.5},
        [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25],
    ),
    (
        {"family": "step", "every": 4, "gamma": 0.5, "count_from": 1},
        [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25],
    ),
    (
        {"family": "step", "every": 4, "gamma": 0.5, "warmup": 0.2},
        [0.5, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25],
    ),
    (
        {"family": "multi_step", "milestones": (0.5, 0.8)},
        [1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01],
    ),
    (
        {"family": "multi_step", "milestones": (0.5, 0.8), "gamma": 0.5, "warmup": 0.3},
        [1 / 3, 2 / 3, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25],
    ),
    (
        {"family": "cosine"},
        [
            1,
            0.9755283,
            0.9045085,
            0.7938926,
            0.6545085,
            0.5,
            0.3454915,
            0.2061074,
            0.0954915,
            0.0244717,
        ],
    ),
    (
        {"family": "cosine", "warmup": 0.5},
        [0.2, 0.4, 0.6, 0.8, 1, 1, 0.9045085, 0.6545085, 0.3454915, 0.0954915],
    ),
    (
        {"family": "cosine", "warmup": 0.5, "floor": 0.2},
        [0.2, 0.4, 0.6, 0.8, 1, 1, 0.9236068, 0.7236068, 0.4763932, 0.2763932],
    ),
    ({"family": "linear"}, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
    (
        {"family": "linear", "warmup": 0.2, "floor": 0.5},
        [0.5, 1, 1, 0.9375, 0.875, 0.8125, 0.75, 0.6875, 0.625, 0.5625],
    ),
    (
        {"family": "one_cycle"},
        [0.04, 0.28, 0.76, 1, 0.9504844, 0.8117449, 0.6112605, 0.3887395, 0.1882551, 0.0495156],
    ),
    (
        {"family": "one_cycle", "warmup": 0.2},
        # over the last eight steps: done = 0, 1/8, … 7/8, and the peak is at 0.3
        [0.5, 1, 0.04, 0.3957669, 0.9356922, 0.9719417, 0.8117449, 0.5559822, 0.2830581, 0.0766379],
    ),
]


@pytest.mark.parametrize(("fields", "factors"), FAMILIES)
def test_factors_of_ten_steps(fields: dict[str, Any], factors: list[float]) -> None:
    schedule = Schedule(**fields)
    actual = [factor(schedule, step, 10) for step in range(10)]
    assert actual == pytest.approx(factors, abs=1e-7)


def test_warm_up_ends_at_the_full_rate_and_stretches_with_the_training() -> None:
    schedule = Schedule(family="cosine", warmup=0.1)
    for total in (10, 500, 1000):
        warm = [factor(schedule, step, total) for step in range(total // 10 + 1)]
        assert warm[:-1] == [(step + 1) / (total // 10) for step in range(total // 10)]
        assert warm[-1] == 1


def test_a_training_of_one_step() -> None:
    for fields, _ in FAMILIES:
        assert 0 < factor(Schedule(**fields), 0, 1) <= 1


def test_caffes_steps_are_counted_from_the_start_however_long_the_training_is() -> None:
    schedule = Schedule(family="step", every=100_000)
    actual = [factor(schedule, step, 450_000) for step in (0, 99_999, 100_000, 449_999)]
    assert actual == pytest.approx([1, 1, 0.1, 1e-4], rel=1e-12)


def test_caffes_iterations_are_counted_from_1() -> None:
    """The rate of iteration i is gamma^⌊i / stepsize⌋: 0.1 from iteration 100,000 on."""
    schedule = Schedule(family="step", every=100_000, count_from=1)
    iterations = (1, 99_999, 100_000, 100_001, 199_999, 200_000, 399_999, 400_000, 450_000)
    actual = [factor(schedule, iteration - 1, 450_000) for iteration in iterations]
    assert actual == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.01, 1e-3, 1e-4, 1e-4], rel=1e-12)


CYCLES: list[tuple[dict[str, Any], int, list[float]]] = [
    ({"restarts": 1}, 8, [1, 0.8535534, 0.5, 0.1464466] * 2),
    ({"restarts": 2}, 6, [1, 0.5] * 3),
    (  # cycles of 2, 4 and 8 steps
        {"restarts": 2, "growth": 2.0},
        14,
        [
            *(1, 0.5),
            *(1, 0.8535534, 0.5, 0.1464466),
            *(1, 0.9619398, 0.8535534, 0.6913417, 0.5, 0.3086583, 0.1464466, 0.0380602),
        ],
    ),
    ({"restarts": 1, "floor": 0.2, "warmup": 0.2}, 5, [1, 1, 0.6, 1, 0.6]),
]


@pytest.mark.parametrize(("fields", "total", "factors"), CYCLES)
def test_cosine_starts_again(fields: dict[str, Any], total: int, factors: list[float]) -> None:
    schedule = Schedule(family="cosine", **fields)
    actual = [factor(schedule, step, total) for step in range(total)]
    assert actual == pytest.approx(factors, abs=1e-7)


def test_the_rate_of_copied_layers_decays_towards_the_input() -> None:
    assert layer_factors(Recipe(), 3) == [1, 1, 1]
    assert layer_factors(Recipe(copied_rate=0.5, layer_decay=0.5), 3) == [0.125, 0.25, 0.5]
    assert layer_factors(Recipe(copied_rate=0.1), 1) == [0.1]
    assert layer_factors(Recipe(copied_rate=0.1), 0) == []


def test_fresh_first_is_a_part_of_the_steps() -> None:
    steps = [fresh_steps(Recipe(steps=10, fresh_first=part)) for part in (0.0, 0.25, 0.3, 0.96)]
    assert steps == [0, 2, 3, 10]
