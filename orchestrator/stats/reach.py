"""Number of first layers that can be copied and frozen within a margin. Pure: no disk.

The loss at n is the base less AnB of the same split, target and seed. The n are tested in a fixed
sequence from the first on, each one-sided at 5 %, up to the first n whose loss is not shown to be
below the margin. So the probability of naming one layer too many is at most 5 %, for all n together
(Maurer, Hothorn and Lehmacher 1995).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.margin import MARGIN
from orchestrator.stats.intervals import quantile

LEVEL = 0.05


@dataclass(frozen=True)
class Step:
    """The loss at one n, as a fraction, and its one-sided upper bound; None without one."""

    n: int
    loss: float
    upper: float | None


@dataclass(frozen=True)
class Reach:
    """The answer for one group: the steps in the order of n, and how far they hold."""

    margin: float
    steps: tuple[Step, ...]
    passed: int
    """Number of steps from the first on whose loss is shown to be below the margin."""

    @property
    def last(self) -> Step | None:
        """The largest n that is shown to lose less than the margin."""
        return self.steps[self.passed - 1] if self.passed else None

    @property
    def next(self) -> Step | None:
        """The first n for which that is not shown; None if it is shown for all."""
        return self.steps[self.passed] if self.passed < len(self.steps) else None


def reach(effects: Iterable[Mapping[str, Any]], margin: float = MARGIN) -> Reach | None:
    """Return how far frozen transfer reaches, from rows of `EFFECTS` of one group.

    Rows of networks at chance are included. Return None without frozen transfers.
    """
    rows = [x for x in effects if x["effect"] == "transfer" and x["at_chance"] == "included"]
    steps = tuple(
        Step(row["n"], -row["estimate"] + 0.0, _upper(row))
        for row in sorted(rows, key=lambda row: row["n"])
    )
    if not steps:
        return None
    passed = 0
    for step in steps:
        if step.upper is None or step.upper >= margin:
            break
        passed += 1
    return Reach(margin, steps, passed)


def _upper(row: Mapping[str, Any]) -> float | None:
    """Return the one-sided bound of a loss; over classes and seeds, the two-sided one, wider."""
    if row["low"] is None:
        return None
    if row["df"] is None:
        return -float(row["low"])
    return -float(row["estimate"]) + quantile(1 - LEVEL, row["df"]) * float(row["se"])
