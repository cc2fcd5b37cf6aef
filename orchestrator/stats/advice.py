"""Advice on the frozen and fine-tuned n. Pure: no disk.

The loss of a frozen transfer is the accuracy of the best option less its own, within a cell. Layers
1..n are kept if the loss is shown to be below a margin. The tests run in a fixed sequence from the
first n on, each one-sided at the full level, and end with the first that shows nothing. So the
probability of keeping one layer too many is at most the level, for all n together (Maurer, Hothorn
and Lehmacher 1995). The best option is chosen by the same numbers, which makes losses look larger
than they are, and the advice more careful.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from orchestrator.margin import MARGIN
from orchestrator.stats.intervals import CLASS_AND_SEED, SPLIT, interval, quantile
from orchestrator.stats.measurements import (
    WITHOUT_LAYERS,
    Cell,
    Cells,
    Group,
    Measured,
    Value,
    by_cell,
    difference,
)

LEVEL, POWER = 0.05, 0.8
MOST_UNITS = 1000
CANDIDATES = (*WITHOUT_LAYERS, "AnB", "AnB+")  # options of whoever has one source and one target

Verdict = Literal["keeps", "loses", "open"]
Arm = tuple[str, int]  # arm and n
Costs = Mapping[str, Mapping[str, float | None]]  # by trial id


@dataclass(frozen=True)
class Option:
    """One way to train for the target: its accuracy and the mean cost of one network."""

    arm: str
    n: int
    value: float
    """Mean of the metric."""
    seconds: float | None
    """Wall time of the training alone, without that of its source."""
    memory_bytes: float | None
    """Peak memory: the GPU's, or that of the process on a CPU."""
    images: float | None
    """Training images seen, repeats counted."""


@dataclass(frozen=True)
class Comparison:
    """The difference of two options within cells, with one-sided bounds at `LEVEL`."""

    n: int
    mean: float
    lower: float | None
    upper: float | None
    units: int
    """Splits, or draws of the training images."""
    needed: int | None = None
    """Units in all that would probably decide; None if it is decided, or beyond `MOST_UNITS`."""
    verdict: Verdict = "open"


@dataclass(frozen=True)
class Advice:
    """The answer for one group."""

    group: Group
    margin: float
    unit: str
    best: Option
    scratch: Option | None
    losses: tuple[Comparison, ...]
    """Frozen transfer against the best option, up to the first n that is not kept."""
    frozen: Option | None
    """The largest n that is kept; None if none is shown to be."""
    best_frozen: Option
    """The frozen transfer with the highest accuracy, whatever the tests of the first n say."""
    tuned: Option | None
    """The n whose fine-tuned transfer is best; None without fine-tuning."""
    equals: tuple[int, ...]
    """The n whose fine-tuned transfer cannot be told from the best one's."""
    gain: Comparison | None
    """The best fine-tuned transfer less training from scratch."""

    @property
    def ends(self) -> Comparison:
        """The comparison with which the sequence of tests ends."""
        return self.losses[-1]


def advice(
    measured: Sequence[Measured], trials: Iterable[Mapping[str, Any]], margin: float = MARGIN
) -> list[Advice]:
    """Return the advice for each group that has frozen transfers.

    `trials` are rows with the columns `id`, `seconds_train`, `seconds_wait`, `peak_memory_bytes`
    and `images`.
    """
    costs = {row["id"]: row for row in trials}
    groups: dict[Group, dict[Cell, Any]] = defaultdict(dict)
    for cell, arms in by_cell(measured).items():
        groups[cell.group][cell] = arms
    answers = (_of_group(group, cells, costs, margin) for group, cells in groups.items())
    return sorted(filter(None, answers), key=lambda answer: answer.group.place)


def units_needed(gap: float, deviation: float) -> int | None:
    """Return how many units show a difference of `gap` one-sided with `POWER`.

    `deviation` is the standard deviation between units. None if more than `MOST_UNITS`.
    """
    for units in range(2, MOST_UNITS + 1):
        quantiles = quantile(1 - LEVEL, units - 1) + quantile(POWER, units - 1)
        if quantiles * deviation / math.sqrt(units) <= gap:
            return units
    return None


def _of_group(group: Group, cells: Cells, costs: Costs, margin: float) -> Advice | None:
    options = _options(cells, costs)
    frozen = sorted(n for arm, n in options if arm == "AnB")
    if not frozen:
        return None
    best = max(options.values(), key=lambda option: (option.value, -option.n))
    losses: list[Comparison] = []
    largest: Option | None = None
    for n in frozen:
        loss = _compared(cells, (best.arm, best.n), ("AnB", n), margin)
        losses.append(loss)
        if loss.verdict != "keeps":
            break
        largest = options["AnB", n]
    scratch = options.get(("base", 0))
    tuned = max(
        (option for option in options.values() if option.arm == "AnB+"),
        key=lambda option: (option.value, -option.n),
        default=None,
    )
    gain = _compared(cells, ("AnB+", tuned.n), ("base", 0), 0.0) if tuned and scratch else None
    values = [x for arms in cells.values() for x in arms.get(("AnB", frozen[0]), ())]
    unit = interval(values, 1)[1]["unit"]
    return Advice(
        group,
        margin,
        SPLIT if unit == CLASS_AND_SEED else unit,
        best,
        scratch,
        tuple(losses),
        largest,
        max(
            (option for option in options.values() if option.arm == "AnB"),
            key=lambda option: (option.value, -option.n),
        ),
        tuned,
        _equals(cells, options, tuned) if tuned else (),
        gain,
    )


def _options(cells: Cells, costs: Costs) -> dict[Arm, Option]:
    """Return the options that every cell of the group has, or most cells if none has all."""
    values: dict[Arm, list[Value]] = defaultdict(list)
    for arms in cells.values():
        for (arm, n), some in arms.items():
            if arm in CANDIDATES:
                values[arm, n] += some
    places = {key: {x.cell for x in some} for key, some in values.items()}
    most = max(map(len, places.values()), default=0)
    options = {}
    for (arm, n), some in values.items():
        if len(places[arm, n]) == most:
            rows = [costs[id] for x in some for id in x.trials if id in costs]
            spent = [_seconds(row) for row in rows]
            options[arm, n] = Option(
                arm,
                n,
                interval(some, 1)[0],
                _mean(spent),
                _mean([row["peak_memory_bytes"] for row in rows]),
                _mean([row["images"] for row in rows]),
            )
    return options


def _compared(cells: Cells, minuend: Arm, subtrahend: Arm, margin: float) -> Comparison:
    """Return the difference of two options, tested against a margin in both directions."""
    n = subtrahend[1] or minuend[1]
    if minuend == subtrahend:  # an option loses nothing against itself
        units = len({cell.split for cell, arms in cells.items() if arms.get(minuend)})
        return Comparison(n, 0.0, 0.0, 0.0, units, verdict="keeps")
    values = _values(cells, minuend, subtrahend)
    mean, bounds = interval(values, 1)
    units, se, df = bounds["n_splits"], bounds["se"], bounds["df"]
    if se is None:
        return Comparison(n, mean, None, None, units)
    if df is None:  # over classes and seeds of one split: two-sided bounds, which are wider
        lower, upper = bounds["low"], bounds["high"]
    else:
        half = quantile(1 - LEVEL, df) * se
        lower, upper = mean - half, mean + half
    verdict: Verdict = "keeps" if upper <= margin else "loses" if lower > margin else "open"
    needed = None
    if verdict == "open" and df is not None:
        needed = units_needed(abs(margin - mean), se * math.sqrt(units))
    return Comparison(n, mean, lower, upper, units, needed, verdict)


def _values(cells: Cells, minuend: Arm, subtrahend: Arm) -> list[Value]:
    """Return the differences of two options in all cells that have both."""
    values = []
    for cell, arms in cells.items():
        first, second = arms.get(minuend), arms.get(subtrahend)
        if first and second:
            trials = frozenset().union(*(x.trials for x in (*first, *second)))
            values.append(Value(cell, difference(first, second), trials))
    return values


def _equals(cells: Cells, options: Mapping[Arm, Option], tuned: Option) -> tuple[int, ...]:
    """Return the other n whose fine-tuned transfer is not shown to be worse, Bonferroni."""
    others = sorted(n for arm, n in options if arm == "AnB+" and n != tuned.n)
    equal = []
    for n in others:
        _, bounds = interval(_values(cells, ("AnB+", tuned.n), ("AnB+", n)), len(others))
        low = bounds["low_simultaneous"]
        if low is None or low <= 0:
            equal.append(n)
    return tuple(equal)


def _seconds(row: Mapping[str, Any]) -> float | None:
    if row["seconds_train"] is None:
        return None
    return float(row["seconds_train"] + (row["seconds_wait"] or 0.0))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
