"""Numbers of cells as arrays, from measured networks or from single values. Pure: no disk.

A statistic of a hundred thousand networks is hundreds of means over thousands of cells. So labels
are integers here, which count them in order of appearance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.stats.measurements import (
    WITHOUT_LAYERS,
    Cell,
    Group,
    Measured,
    Number,
    Value,
    difference,
    estimate,
)

Level = tuple[Group, str, int]  # group, arm and n
Place = tuple[str, str, int]  # split, target and seed


@dataclass(frozen=True)
class Sample:
    """Numbers of cells of one group."""

    splits: np.ndarray
    """The split of each number, as an integer. Targets and seeds are given in the same way."""
    targets: np.ndarray
    seeds: np.ndarray
    numbers: np.ndarray | Sequence[Number]
    """An array if no number has class parts."""
    division: str
    n_networks: int
    """Different networks behind the numbers."""

    @classmethod
    def of(cls, values: Sequence[Value]) -> Sample:
        """Return values of one group as a sample."""
        numbers = [x.value for x in values]
        plain = not any(np.ndim(x) for x in numbers)
        return cls(
            _codes(x.cell.split for x in values),
            _codes(x.cell.target for x in values),
            _codes(x.cell.seed for x in values),
            np.array(numbers, float) if plain else numbers,
            values[0].cell.division,
            len(frozenset[str]().union(*(x.trials for x in values))),
        )

    def estimates(self) -> np.ndarray:
        """Return the numbers without the parts of their classes."""
        if isinstance(self.numbers, np.ndarray):
            return self.numbers
        return np.array([estimate(x) for x in self.numbers])

    def split_means(self) -> list[float]:
        """Return the mean of each split, over seeds and then over targets."""
        sides = self.splits * (self.targets.max() + 1) + self.targets
        _, first, of_side = np.unique(sides, return_index=True, return_inverse=True)
        by_side = self.estimates()[np.argsort(of_side, kind="stable")]
        numbers = np.split(by_side, np.cumsum(np.bincount(of_side))[:-1])
        means: dict[int, list[float]] = defaultdict(list)
        for side in np.argsort(first):  # in order of appearance
            means[self.splits[first[side]]].append(numbers[side].mean())
        return [float(np.mean(targets)) for targets in means.values()]


class Samples:
    """Measured networks, of which samples are taken."""

    def __init__(self, measured: Iterable[Measured]):
        cells: dict[Cell, int] = {}
        groups: list[Group] = []  # of each cell
        rows: dict[Level, list[int]] = defaultdict(list)
        of_network: list[int] = []  # the cell of each network
        self.measured = list(measured)
        for row, (x, _) in enumerate(self.measured):
            cell = cells.setdefault(x.cell, len(cells))
            if cell == len(groups):
                groups.append(x.cell.group)
            rows[groups[cell], x.arm, x.n].append(row)
            of_network.append(cell)
        self.estimates = np.array([estimate(number) for _, number in self.measured])
        self.has_parts = np.array([not isinstance(x, float) for _, x in self.measured], bool)
        self.rows = {level: np.array(some) for level, some in rows.items()}
        """Networks of each group, arm and n."""
        self.ids = _codes(x.id for x, _ in self.measured)
        self.cells = np.array(of_network, int)
        self.places: list[Place] = [(x.split, x.target, x.seed) for x in cells]
        self.labels = [_codes(place[k] for place in self.places) for k in range(3)]

    def levels(self) -> dict[Level, tuple[Sample, set[Place]]]:
        """Return the numbers of each group, arm and n, with their places."""
        return {
            level: self._sample(level[0], self.cells[rows], self._numbers(rows), rows)
            for level, rows in self.rows.items()
        }

    def differences(
        self, minuend: str, subtrahend: str
    ) -> dict[tuple[Group, int], tuple[Sample, set[Place]]]:
        """Return what `measurements.differences` does as samples, with their places."""
        layers = {n for _, _, n in self.rows if n > 0}
        if minuend in WITHOUT_LAYERS and subtrahend in WITHOUT_LAYERS:
            layers = {0}
        groups = dict.fromkeys(group for group, _, _ in self.rows)
        samples = {}
        for group in sorted(groups, key=lambda group: group.order):
            for n in sorted(layers):
                sides = [
                    self.rows.get((group, name, 0 if name in WITHOUT_LAYERS else n))
                    for name in (minuend, subtrahend)
                ]
                if sides[0] is not None and sides[1] is not None:
                    sample = self._difference(group, sides[0], sides[1])
                    if sample is not None:
                        samples[group, n] = sample
        return samples

    def _difference(
        self, group: Group, first: np.ndarray, second: np.ndarray
    ) -> tuple[Sample, set[Place]] | None:
        """Return the differences of two sets of networks in the cells that both have."""
        shared = np.intersect1d(self.cells[first], self.cells[second])
        if not len(shared):
            return None
        first, second = (rows[np.isin(self.cells[rows], shared)] for rows in (first, second))
        numbers: np.ndarray | list[Number]
        if self.has_parts[first].any() and self.has_parts[second].any():
            numbers = self._with_parts(first, second)
        else:
            numbers = self._means(first) - self._means(second)
        return self._sample(group, shared, numbers, np.concatenate([first, second]))

    def _means(self, rows: np.ndarray) -> np.ndarray:
        """Return the mean of each cell of some networks, in the order of cells."""
        _, of_cell = np.unique(self.cells[rows], return_inverse=True)
        return np.bincount(of_cell, self.estimates[rows]) / np.bincount(of_cell)

    def _with_parts(self, first: np.ndarray, second: np.ndarray) -> list[Number]:
        """Return what `_means` does of both sides, subtracted class by class."""
        sides: list[dict[int, list[Value]]] = [defaultdict(list), defaultdict(list)]
        for side, rows in zip(sides, (first, second), strict=True):
            for row in rows:
                x, number = self.measured[row]
                side[self.cells[row]].append(Value(x.cell, number, frozenset([x.id])))
        return [difference(sides[0][cell], sides[1][cell]) for cell in sorted(sides[0])]

    def _numbers(self, rows: np.ndarray) -> np.ndarray | list[Number]:
        has_parts = self.has_parts[rows].any()
        return [self.measured[row][1] for row in rows] if has_parts else self.estimates[rows]

    def _sample(
        self,
        group: Group,
        cells: np.ndarray,
        numbers: np.ndarray | Sequence[Number],
        rows: np.ndarray,
    ) -> tuple[Sample, set[Place]]:
        splits, targets, seeds = (codes[cells] for codes in self.labels)
        networks = len(np.unique(self.ids[rows]))
        sample = Sample(splits, targets, seeds, numbers, group.division, networks)
        return sample, {self.places[cell] for cell in cells.tolist()}


def _codes(labels: Iterable[Hashable]) -> np.ndarray:
    """Return the integer of each label."""
    codes: dict[Hashable, int] = {}
    return np.array([codes.setdefault(label, len(codes)) for label in labels], int)
