"""The smallest difference that a planned design can detect, from the spread in published results.

Pure but for the published rows, which come with the program.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator import reference
from orchestrator.comparisons import Network, arm, by_cell, differences, division_of, measurements

POWER, LEVEL = 0.8, 0.05  # chance to see a difference that is there, and one that is not
ARMS = ("AnB+", "BnB+")
ASSUMPTION = (
    "assumes that AnB+ − BnB+ of one target and seed spreads as a frozen network less its base "
    "does in the paper's results (random splits of ImageNet, 25,000 test images), alike at every n"
)


@dataclass(frozen=True, kw_only=True)
class Design:
    """How often a difference is measured at one n: splits are independent, the rest is averaged."""

    splits: int
    directions: float
    seeds: float


def spread(networks: Iterable[Network]) -> float:
    """Standard deviation of a network less its own base about the mean of its arm and n.

    Pooled over BnB and AnB of the random splits: two networks of one target are as far apart as a
    network and its base. A fraction.
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
    """The smallest difference that a t test paired by split finds with `POWER` at `LEVEL`.

    `sd` is of one target and seed. From the noncentral t distribution; null below two splits.
    """
    from scipy.special import nctdtrinc, stdtrit

    df = design.splits - 1
    if df < 1:
        return None
    se = sd / math.sqrt(design.splits * design.directions * design.seeds)
    critical = float(stdtrit(df, 1 - LEVEL / 2))
    return float(nctdtrinc(df, 1 - POWER, critical)) * se


def design_of(labels: Sequence[dict[str, Any]]) -> Design | None:
    """What the members with these labels hold of both fine-tuned arms on random splits.

    Directions and seeds are means over splits, at the n that has fewest. Null without both arms.
    """
    places: dict[int, dict[str, set[tuple[str, str, int]]]] = defaultdict(lambda: defaultdict(set))
    for row in labels:
        if division_of(row) == "random" and row["images_per_class"] is None:
            name = arm(row["treatment"], row["frozen"])
            places[row["n"]][name].add((row["split"], row["target"], row["seed"]))
    paired = [found[ARMS[0]] & found[ARMS[1]] for n, found in places.items() if n]
    paired = [cells for cells in paired if cells]
    if not paired:
        return None
    fewest = min(paired, key=len)
    splits = {split for split, _, _ in fewest}
    targets = {(split, target) for split, target, _ in fewest}
    return Design(
        splits=len(splits),
        directions=len(targets) / len(splits),
        seeds=len(fewest) / len(targets),
    )


def power_summary(labels: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """What `plan` says of a design with both fine-tuned arms, as JSON values; in points."""
    if (design := design_of(labels)) is None:
        return None
    members, trials, _ = reference.tables()
    sd = spread(measurements(members, trials, reference.METRIC))
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
