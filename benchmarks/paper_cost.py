"""Cost of the paper's 163 networks at given speeds, by kind of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BATCH = 256
TESTED = 50_000  # images of a test
TEST_EVERY = 1000  # iterations
LONG, SHORT = 450_000, 200_000  # iterations; SHORT with fewer images per class


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Images per second: in full training, with n frozen layers, in tests."""

    full: float
    frozen: dict[int, float]
    evaluate: float


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Networks of one kind: `frozen` counts those that freeze n layers, `full` the others."""

    name: str
    full: int = 0
    frozen: Mapping[int, int] | None = None
    iterations: int = LONG

    @property
    def networks(self) -> int:
        return self.full + sum((self.frozen or {}).values())


def _each(networks: int) -> dict[int, int]:
    return dict.fromkeys(range(1, 8), networks)


# The planned networks (yosinski/convnet_transfer, README and results/): 10 bases, 140 transfers,
# one base of all classes, and 12 of all classes with fewer images per class.
CONDITIONS = (
    Condition(name="bases of halves", full=10),
    Condition(name="base of all classes", full=1),
    Condition(name="BnB, frozen", frozen=_each(4)),
    Condition(name="AnB, frozen", frozen=_each(8)),
    Condition(name="AnB, natural and man-made", frozen=_each(2)),
    Condition(name="BnB+", full=14),
    Condition(name="AnB+", full=28),
    Condition(name="fewer images", full=12, iterations=SHORT),
)


def hours(condition: Condition, rates: Rates) -> float:
    """Return hours of one device for training, and for a test per thousand iterations."""
    images = condition.iterations * BATCH
    seconds = condition.full * images / rates.full if condition.full else 0.0
    for n, networks in (condition.frozen or {}).items():
        seconds += networks * images / rates.frozen[n]
    tested = condition.networks * condition.iterations // TEST_EVERY * TESTED
    return (seconds + tested / rates.evaluate) / 3600
