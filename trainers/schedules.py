"""The learning rate as a pure function of the step, so that a resumed training needs no replay."""

from __future__ import annotations

import math
from bisect import bisect_right

from trainers.config import Schedule

ONE_CYCLE_START = 1 / 25
ONE_CYCLE_PEAK = 0.3


def factor(schedule: Schedule, step: int, total: int) -> float:
    """What the recipe's rate is multiplied by at `step` (0-based) of `total` steps.

    Warm-up rises linearly to 1 over the first `warmup` of the steps; the family then runs over the
    steps that are left, except that `step` and `multi_step` drop at steps counted from the start,
    as Caffe's do. `floor` is the smallest factor of cosine and linear.
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
            return schedule.floor + (1 - schedule.floor) * (1 + math.cos(math.pi * done)) / 2
        case "linear":
            return schedule.floor + (1 - schedule.floor) * (1 - done)
        case "one_cycle":  # up and down again along half cosines (Smith and Topin 2018)
            if done < ONE_CYCLE_PEAK:
                start, end, part = ONE_CYCLE_START, 1.0, done / ONE_CYCLE_PEAK
            else:
                start, end, part = 1.0, 0.0, (done - ONE_CYCLE_PEAK) / (1 - ONE_CYCLE_PEAK)
            return end + (start - end) * (1 + math.cos(math.pi * part)) / 2
