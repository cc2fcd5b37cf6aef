"""The learning rate as a pure function of the step, so that a resumed training needs no replay."""

from __future__ import annotations

import math
from bisect import bisect_right

from trainers.recipe import Recipe, Schedule

ONE_CYCLE_START = 1 / 25
ONE_CYCLE_PEAK = 0.3


def factor(schedule: Schedule, step: int, total: int) -> float:
    """Return the factor of the recipe's rate at `step` (0-based) of `total` steps.

    Warm-up rises linearly to 1 over the first `warmup` of the steps. The family then runs over the
    remaining steps; only `step` and `multi_step` drop at steps counted from the start, as in Caffe.
    Cosine with restarts is SGDR (Loshchilov and Hutter 2017, equation 5).
    """
    warmup = round(schedule.warmup * total)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    match schedule.family:
        case "constant":
            return 1.0
        case "step":
            assert schedule.every is not None
            return schedule.gamma ** ((step + schedule.count_from) // schedule.every)
        case "multi_step":
            drops = bisect_right([round(m * total) for m in schedule.milestones], step)
            return schedule.gamma**drops
        case "cosine":
            part = _cycle(done, schedule.restarts, schedule.growth)
            return schedule.floor + (1 - schedule.floor) * (1 + math.cos(math.pi * part)) / 2
        case "linear":
            return schedule.floor + (1 - schedule.floor) * (1 - done)
        case "one_cycle":  # up and down again along half cosines (Smith and Topin 2018)
            if done < ONE_CYCLE_PEAK:
                start, end, part = ONE_CYCLE_START, 1.0, done / ONE_CYCLE_PEAK
            else:
                start, end, part = 1.0, 0.0, (done - ONE_CYCLE_PEAK) / (1 - ONE_CYCLE_PEAK)
            return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


def _cycle(done: float, restarts: int, growth: float) -> float:
    """Return the fraction of the current cycle when the fraction `done` of all cycles is over."""
    lengths = [growth**number for number in range(restarts + 1)]
    left = done * sum(lengths)
    for length in lengths[:-1]:
        if left < length:
            return left / length
        left -= length
    return left / lengths[-1]


def layer_factors(recipe: Recipe, copied: int) -> list[float]:
    """Return the factor of the rate of each of the first `copied` layers, layer 1 first."""
    return [
        recipe.copied_rate * recipe.layer_decay ** (copied - number)
        for number in range(1, copied + 1)
    ]


def fresh_steps(recipe: Recipe) -> int:
    """Return the number of first steps in which only a fine-tuned network's fresh layers learn."""
    assert recipe.steps is not None
    return round(recipe.fresh_first * recipe.steps)
