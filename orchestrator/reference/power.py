"""The smallest difference that a planned design can detect, from the spread in published results.

Pure, except that it reads the published rows.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.reference.recomputed import statistics
from orchestrator.stats.measurements import (
    Network,
    arm,
    by_cell,
    differences,
    division_of,
    is_direction,
    is_sample,
)

POWER, LEVEL = 0.8, 0.05  # probability to detect a true difference, and a false one
ENOUGH = 4  # splits: with fewer, the t interval is more than four standard errors on either side
ARMS = ("AnB+", "BnB+")
ASSUMPTION = (
    "assumes that AnB+ − BnB+ of one target and seed spreads as a frozen network less its base "
    "does in the paper's results (random splits of ImageNet, 25,000 test images), alike at every "
    "n, and independently in both directions of a split, though they share both bases"
)


@dataclass(frozen=True, kw_only=True)
class Design:
    """Measurements of one difference at one n: splits are independent, the rest is averaged.

    `directions` are targets per split, `seeds` are networks per target; both may be means.
    """

    splits: int
    directions: float
    seeds: float


def spread(networks: Iterable[Network]) -> float:
    """Return the standard deviation of a network less its own base, within arm and n; a fraction.

    It is pooled over BnB and AnB of the random splits. The assumption is that two networks of one
    target differ as much as a network and its base.
    """
    cells = by_cell((x, x.value) for x in networks if x.division == "random")
    squares, df = 0.0, 0
    for minuend in ("BnB", "AnB"):
        for values in differences(cells, minuend, "base").values():
            numbers = [float(x.value) for x in values]
            mean = sum(numbers) / len(numbers)
            squares += sum((x - mean) ** 2 for x in numbers)
            df += len(numbers) - 1
    return math.sqrt(squares / df)


def detectable(sd: float, design: Design) -> float | None:
    """Return the smallest difference that a t test paired by split detects; None below two splits.

    It does so with probability `POWER` at `LEVEL`, by the noncentral t distribution. `sd` is the
    standard deviation of the difference of one target and seed, in the unit of the answer.
    """
    from scipy.special import nctdtrinc, stdtrit

    df = design.splits - 1
    if df < 1:
        return None
    se = sd / math.sqrt(design.splits * design.directions * design.seeds)
    critical = float(stdtrit(df, 1 - LEVEL / 2))
    return float(nctdtrinc(df, 1 - POWER, critical)) * se


def few_splits(labels: Sequence[dict[str, Any]]) -> dict[tuple[str, int], float | None]:
    """Return the smallest detectable effect of populations with fewer than `ENOUGH` drawn splits.

    The result maps a kind of splits (random or drawn) and their number to a multiple of the
    standard deviation between splits, or to None where a single split has no interval. `labels`
    are those of members.
    """
    populations = _compared(labels, "split")
    kinds = {
        ("draws" if is_direction(division) else division.split("-")[0], len(splits))
        for (division, *_), splits in populations.items()
        if (is_sample(division) or (is_direction(division) and len(splits) > 1))
        and len(splits) < ENOUGH
    }
    return {
        (kind, count): detectable(1.0, Design(splits=count, directions=1, seeds=1))
        for kind, count in sorted(kinds)
    }


def one_seed(labels: Sequence[dict[str, Any]]) -> list[str]:
    """Return the divisions that are one split by nature, and whose networks have one seed.

    Their differences get no interval. `labels` are those of members.
    """
    populations, splits = _compared(labels, "seed"), _compared(labels, "split")
    return sorted(
        {
            place[0]
            for place, seeds in populations.items()
            if len(seeds) == 1 and not is_sample(place[0]) and len(splits[place]) == 1
        }
    )


def _compared(labels: Sequence[dict[str, Any]], label: str) -> dict[tuple[Any, ...], set[Any]]:
    """Return the values of a label by population, over members compared with a base."""
    values: dict[tuple[Any, ...], set[Any]] = defaultdict(set)
    for row in labels:
        if row["treatment"] != "base":
            place = division_of(row), row["condition"], row["images_per_class"]
            values[place].add(row[label])
    return values


def design_of(labels: Sequence[dict[str, Any]]) -> Design | None:
    """Return the design of both fine-tuned arms on random splits, from the labels of members.

    It is that of the n with the fewest pairs. None if no cell has both arms.
    """
    places: dict[int, dict[str, set[tuple[str, str, int]]]] = defaultdict(lambda: defaultdict(set))
    for row in labels:
        if division_of(row) == "random" and row["images_per_class"] is None:
            name = arm(row["treatment"], row["frozen"])
            places[row["n"]][name].add((row["split"], row["target"], row["seed"]))
    pairs = [cells[ARMS[0]] & cells[ARMS[1]] for n, cells in places.items() if n]
    fewest = min(filter(None, pairs), key=len, default=None)
    if fewest is None:
        return None
    splits = {split for split, _, _ in fewest}
    targets = {(split, target) for split, target, _ in fewest}
    return Design(
        splits=len(splits),
        directions=len(targets) / len(splits),
        seeds=len(fewest) / len(targets),
    )


def power_summary(labels: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the power of a design with both fine-tuned arms, as JSON values in points.

    None if the members with these labels have no such design.
    """
    if (design := design_of(labels)) is None:
        return None
    sd = spread(statistics().networks)
    smallest = detectable(sd, design)
    return {
        "difference": "AnB+ − BnB+",
        "points": None if smallest is None else 100 * smallest,
        "power": POWER,
        "level": LEVEL,
        "splits": design.splits,
        "directions": design.directions,
        "seeds": design.seeds,
        "sd_points": 100 * sd,
        "assumption": ASSUMPTION,
    }
