"""Completeness of a row of statistics: the networks of the plan beside those that enter. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from orchestrator.stats.measurements import (
    ONE_CLASS,
    Group,
    Network,
    arm,
    division_of,
)
from orchestrator.store.schemas import INT, Column

Population = tuple[Any, ...]  # sweep, condition, division and images per class
Place = tuple[str, str, int]  # split, target and seed
Arm = tuple[str, int]  # arm and n

COMPLETENESS: list[Column] = [
    ("n_half", INT, "splits of n_splits that enter with one direction, though the plan has two"),
    ("n_missing", INT, "planned pairs of networks (in levels: networks) that do not enter"),
]


@dataclass(frozen=True)
class Planned:
    """The places at which a plan has each arm. By default, nothing is known of the plan.

    `scored` has the targets of groups whose halves are measured by different metrics.
    """

    places: Mapping[Population, Mapping[Arm, set[Place]]] = field(default_factory=dict)
    scored: Mapping[Group, set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, members: pa.Table, networks: Iterable[Network]) -> Planned:
        """Return what the members of sweeps plan; `networks` are the complete ones."""
        places: dict[Population, dict[Arm, set[Place]]] = defaultdict(lambda: defaultdict(set))
        columns = ["sweep", "condition", "division", "split", "images_per_class", "treatment"]
        columns += ["frozen", "n", "target", "seed"]
        for row in members.select(columns).to_pylist():
            population = (row["sweep"], row["condition"], division_of(row), row["images_per_class"])
            of_arm = arm(row["treatment"], row["frozen"]), row["n"]
            places[population][of_arm].add((row["split"], row["target"], row["seed"]))
        targets: dict[Group, set[str]] = defaultdict(set)
        for x in networks:
            targets[x.cell.group].add(x.target)
        mixed = {_population(group) for group in targets if group.metric in ONE_CLASS}
        return cls(places, {k: v for k, v in targets.items() if _population(k) in mixed})

    def counts(
        self, group: Group, arms: Sequence[Arm], entered: AbstractSet[Place]
    ) -> dict[str, int]:
        """Return the columns `COMPLETENESS` of these arms, compared at the places `entered`."""
        by_arm = self.places.get(_population(group), {})
        planned = set[Place].intersection(*(by_arm.get(x, set()) for x in arms))
        if group in self.scored:
            planned = {x for x in planned if x[1] in self.scored[group]}
        if planned <= entered:
            return {"n_half": 0, "n_missing": 0}
        targets, with_value = _targets(planned), _targets(entered)
        half = [s for s, some in with_value.items() if len(some) == 1 < len(targets.get(s, ()))]
        return {"n_half": len(half), "n_missing": len(planned - entered)}


def _population(group: Group) -> Population:
    return group.sweep, group.condition, group.division, group.images_per_class


def _targets(places: Iterable[Place]) -> dict[str, set[str]]:
    """Return the targets of each split."""
    targets: dict[str, set[str]] = defaultdict(set)
    for split, target, _ in places:
        targets[split].add(target)
    return targets
