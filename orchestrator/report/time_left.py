"""`TimeLeft`: an estimate of the time until a run ends, from the items that are left. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.execution.items import Item

MANY = 1_000  # open items from which on an estimate serves until a twentieth of them has changed


class TimeLeft:
    """Open items of a run, with the times that others took.

    An item takes a time that all items of its unit share and one in proportion to its cost: both
    are fitted to those that ended, or to all others while none of its unit has. The rest of a run
    takes as long as its longest path, or as its work spread over the slots, whichever is longer.
    """

    def __init__(self, items: Sequence[Item]):
        """Take the items that are to run, parents before children."""
        self.open = {item.id: item for item in items}
        self.begun: dict[str, float] = {}
        self.fits: defaultdict[str, Fit] = defaultdict(Fit)  # by unit
        self.of_all = Fit()
        self.slots = 0
        self.changes = 0  # since the last estimate
        self.estimate: tuple[float, float] | None = None  # the seconds left, and its moment

    def started(self, item: Item, now: float) -> None:
        self.changes += 1
        self.begun[item.id] = now
        self.slots = max(self.slots, len(self.begun))

    def stopped(self, item: Item) -> None:
        """Take note that an attempt ended without an outcome. Its slot may have gone."""
        self.changes += 1
        self.begun.pop(item.id, None)
        self.slots = max(1, len(self.begun))

    def ended(self, item: Item, now: float | None = None) -> None:
        """Take an item out; its time counts if `now` is given."""
        self.changes += 1
        begun = self.begun.pop(item.id, None)
        self.open.pop(item.id, None)
        if now is not None and begun is not None:
            for fit in (self.fits[item.unit], self.of_all):
                fit.add(item.node.cost, now - begun)

    def again(self, item: Item) -> None:
        """Put an item back that is run once more, before the others."""
        self.changes += 1
        self.open = {item.id: item} | self.open

    def seconds(self, now: float) -> float | None:
        """Return the seconds left; None until an item has ended.

        It looks at every open item. In a large run, most calls go on from the last estimate.
        """
        if not self.of_all.number:
            return None
        if self.estimate and 20 * self.changes < len(self.open) and len(self.open) >= MANY:
            left, moment = self.estimate
            return max(0.0, left - (now - moment))
        self.changes = 0
        self.estimate = self._estimated(now), now
        return self.estimate[0]

    def _estimated(self, now: float) -> float:
        items, begun = list(self.open.items()), dict(self.begun)  # a display asks from its thread
        fits = {unit: self._fit(unit) for unit in {item.unit for _, item in items}}
        left = {}
        for id, item in items:
            each, per_cost = fits[item.unit]
            whole = each + per_cost * item.node.cost
            left[id] = max(0.0, whole - (now - begun.get(id, now)))
        until: dict[str, float] = {}  # the end of each item if slots were free
        for id, item in items:
            before = max((until.get(parent, 0.0) for parent in item.node.parents), default=0.0)
            until[id] = before + left[id]
        return max(sum(left.values()) / max(1, self.slots), max(until.values(), default=0.0))

    def _fit(self, unit: str) -> tuple[float, float]:
        """Return the seconds per item and per cost, from items of this unit or from all."""
        return (self.fits.get(unit) or self.of_all).line()


@dataclass
class Fit:
    """Least squares of seconds by cost, point by point (Welford's algorithm)."""

    number: int = 0
    mean_cost: float = 0.0
    mean_time: float = 0.0
    spread: float = 0.0
    """Sum of the squared deviations of the costs."""
    both: float = 0.0
    """Sum of the products of the deviations of cost and time."""

    def add(self, cost: float, seconds: float) -> None:
        self.number += 1
        deviation = cost - self.mean_cost
        self.mean_cost += deviation / self.number
        self.mean_time += (seconds - self.mean_time) / self.number
        self.spread += deviation * (cost - self.mean_cost)
        self.both += deviation * (seconds - self.mean_time)

    def line(self) -> tuple[float, float]:
        """Return the seconds per item and per cost, neither below zero."""
        proportional = self.mean_time / self.mean_cost if self.mean_cost else 0.0
        if self.spread <= 1e-9 * self.mean_cost**2:
            return 0.0, proportional
        per_cost = min(max(0.0, self.both / self.spread), proportional or 0.0)
        return self.mean_time - per_cost * self.mean_cost, per_cost
