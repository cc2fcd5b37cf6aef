"""Networks that may be compared, and their differences, from the rows of trials. Pure: no disk.

Networks are compared within a cell: the same sweep, condition, population, split, target and seed.
A condition holds the settings in which the grids of a sweep differ. A population is one division of
the classes with one number of images per class. Splits of one
population, measured by one metric, form a group: differences are averaged within it, and groups
are never mixed.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from orchestrator.states import State

WITHOUT_LAYERS = ("base", "base_long", "pixels")  # nothing is copied or random in them: n = 0
STITCHED = {"stitched_self": "Bn|B", "stitched": "An|B"}  # treatment: its arm
COPIES = ("BnB", "BnB+", "AnB", "AnB+", "random", "random+", *STITCHED.values())
# An arm is a treatment together with whether its first layers are frozen.
ARMS = WITHOUT_LAYERS + COPIES

DIFFERENCES = {  # effect: (arm, the arm that is subtracted from it)
    "selffer": ("BnB", "base"),
    "selffer_gain": ("BnB+", "base"),
    "transfer": ("AnB", "base"),
    "gain": ("AnB+", "base"),
    "random": ("random", "base"),
    "longer_training": ("base_long", "base"),
    "pixels": ("pixels", "base"),
    "co_adaptation": ("base", "BnB"),
    "specificity": ("BnB", "AnB"),
    "recovery": ("AnB+", "AnB"),
    "transfer_gain": ("AnB+", "BnB+"),
    "gain_over_longer": ("AnB+", "base_long"),
    "selffer_gain_over_longer": ("BnB+", "base_long"),
    "stitched_self": ("Bn|B", "base"),
    "stitched": ("An|B", "base"),
    "stitching_self": ("base", "Bn|B"),
    "stitching_penalty": ("base", "An|B"),
    "stitching_specificity": ("Bn|B", "An|B"),
    "stitching_self_gain": ("Bn|B", "BnB"),
    "stitching_gain": ("An|B", "AnB"),
}

METRICS = {  # metric: its name for a reader
    "top1": "test top-1",
    "balanced_accuracy": "balanced test accuracy",
    "auroc": "test AUROC",
    "map50": "test mAP",
    "map": "test mAP, mean over overlaps of 0.5 to 0.95",
    "map50_voc07": "test mAP by the rule of PASCAL VOC 2007",
    "map50_voc10": "test mAP by the rule of PASCAL VOC 2010",
    "top1_at_best": "test top-1 at the best validation step",
    "val_mean10": "mean of the ten best validation top-1",
    "train_gap": "training less test top-1",
}
LESS = {"train_gap": ("train_top1", "top1")}  # metric: the columns that it is the difference of
ONE_CLASS = ("balanced_accuracy", "auroc")  # metrics of one class against the rest

Number = float | np.ndarray  # a value, or the value followed by the part of each class in its error


class Group(NamedTuple):
    """Splits that a statistic may pool, and its metric."""

    sweep: str
    condition: str | None
    division: str
    images_per_class: int | None
    metric: str

    @property
    def order(self) -> tuple[Any, ...]:
        """A key to sort by; a null `images_per_class` (all images) comes first."""
        limit, condition = self.images_per_class, self.condition or ""
        return (self.sweep, condition, self.division, limit is not None, limit or 0, self.metric)

    @property
    def place(self) -> tuple[Any, ...]:
        """A key to sort by for readers: random splits first."""
        return (self.division != "random", self.division, self.order)


class Cell(NamedTuple):
    """Networks that may be compared with each other."""

    sweep: str
    condition: str | None
    division: str
    images_per_class: int | None
    metric: str
    split: str
    target: str
    seed: int

    @property
    def group(self) -> Group:
        return Group(self.sweep, self.condition, self.division, self.images_per_class, self.metric)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A complete trial as a member of a sweep: its labels there and its results."""

    sweep: str
    id: str
    name: str
    condition: str | None
    division: str
    images_per_class: int | None
    split: str
    target: str
    seed: int
    arm: str
    n: int
    classes: int
    metric: str
    value: float
    val_top1: float | None
    at_chance: bool

    @cached_property
    def cell(self) -> Cell:
        """The cell within which this network may be compared."""
        return Cell(
            self.sweep,
            self.condition,
            self.division,
            self.images_per_class,
            self.metric,
            self.split,
            self.target,
            self.seed,
        )


class Value(NamedTuple):
    """One number of a cell, and the ids of the trials behind it."""

    cell: Cell
    value: Number
    trials: frozenset[str]


Measured = tuple[Network, Number]
Cells = Mapping[Cell, Mapping[tuple[str, int], list[Value]]]


def arm(treatment: str, frozen: bool) -> str:
    """Return the paper's name of a treatment, with a plus sign if all layers learn."""
    if treatment in WITHOUT_LAYERS:
        return treatment
    if treatment in STITCHED:
        return STITCHED[treatment]
    name = {"selffer": "BnB", "transfer": "AnB", "random": "random"}[treatment]
    return name if frozen else f"{name}+"


def division_of(row: Mapping[str, Any]) -> str:
    """Return the division of a row of `sweeps`.

    Rows of old stores have none, or `named` for every named split. Splits by seed are `random`
    there; each other split is a population of its own.
    """
    division: str | None = row["division"]
    split: str = row["split"]
    if division is None:
        return "random" if re.fullmatch(r"s\d+", split) else split
    if division in ("named", "named-source"):
        return division.replace("named", split)
    return division


def is_direction(division: str) -> bool:
    """Return whether a division is a transfer between named tasks: `mnist to digits`.

    The draws of the target's training images are its splits.
    """
    return " to " in division


def is_sample(division: str) -> bool:
    """Return whether the splits of a division are draws of one population."""
    return re.fullmatch(r"(random(-\d+)?|drawn)(-source)?", division) is not None


def measurements(members: pa.Table, trials: pa.Table, metric: str | None = None) -> list[Network]:
    """Return the complete trials of the members, in canonical order.

    Labels come from the members: one trial may belong to two sweeps under different names. A trial
    is measured by test top-1; if it sets one class against the rest, by each of `ONE_CLASS`
    instead, and a detector by its mAP at an overlap of 0.5. `metric` names another column of
    `trials`, or a difference of two columns (`LESS`); trials without a value there are left out.
    """
    columns = ["id", "outcome", "classes", "val_top1", "at_chance"]
    columns += LESS.get(metric, (metric,)) if metric else ("top1", *ONE_CLASS, "map50")
    columns += ["training"] if metric is None and needs_training(trials) else []
    rows = {
        row["id"]: row
        for row in trials.select(list(dict.fromkeys(columns))).to_pylist()
        if row["outcome"] == State.COMPLETE
    }
    labels = (
        "sweep",
        "id",
        "name",
        "condition",
        "images_per_class",
        "split",
        "target",
        "seed",
        "n",
    )
    networks = [
        Network(
            **{name: member[name] for name in labels},
            division=division_of(member),
            arm=arm(member["treatment"], member["frozen"]),
            classes=row["classes"],
            metric=name,
            value=value,
            val_top1=row["val_top1"],
            at_chance=row["at_chance"],
        )
        for member in members.select([*labels, "division", "treatment", "frozen"]).to_pylist()
        if (row := rows.get(member["id"])) is not None
        for name in ([metric] if metric else _metrics(row))
        if (value := _value(row, name)) is not None
    ]
    orders = {cell: cell.group.order for cell in {x.cell for x in networks}}
    ranks = {order: rank for rank, order in enumerate(sorted(set(orders.values())))}
    groups = {cell: ranks[order] for cell, order in orders.items()}
    arms = {name: number for number, name in enumerate(ARMS)}

    def place(x: Network) -> tuple[Any, ...]:
        return groups[x.cell], arms[x.arm], x.n, x.split, x.target, x.seed

    return sorted(networks, key=place)


def needs_training(trials: pa.Table) -> bool:
    """Return whether the metrics of some trials depend on the column `training`."""
    return bool(trials["auroc"].null_count < trials.num_rows)


def by_cell(measured: Iterable[Measured]) -> Cells:
    """Return the numbers of networks by cell, then by arm and n."""
    cells: dict[Cell, dict[tuple[str, int], list[Value]]] = defaultdict(lambda: defaultdict(list))
    for x, number in measured:
        cells[x.cell][x.arm, x.n].append(Value(x.cell, number, frozenset([x.id])))
    return cells


def differences(
    cells: Cells, minuend: str, subtrahend: str
) -> dict[tuple[Group, int], list[Value]]:
    """Return the differences of two arms within each cell, by (group, n).

    A base is compared at every n. Both members of a pair must exist. Networks that agree in all
    labels (transfers from several sources) are averaged.
    """
    layers = {n for arms in cells.values() for _, n in arms if n > 0}
    if minuend in WITHOUT_LAYERS and subtrahend in WITHOUT_LAYERS:
        layers = {0}
    above = {name: int(name not in WITHOUT_LAYERS) for name in (minuend, subtrahend)}
    places = [
        (n, (minuend, n * above[minuend]), (subtrahend, n * above[subtrahend]))
        for n in sorted(layers)
    ]
    values: dict[tuple[Group, int], list[Value]] = defaultdict(list)
    for cell, arms in cells.items():
        group: Group | None = None
        for n, place, other in places:
            if (first := arms.get(place)) and (second := arms.get(other)):
                group = group or cell.group
                trials = frozenset[str]().union(*(x.trials for x in first + second))
                values[group, n].append(Value(cell, difference(first, second), trials))
    return {key: values[key] for key in sorted(values, key=lambda key: (key[0].order, key[1]))}


def estimate(number: Number) -> float:
    """Return the value itself, without the parts of its classes."""
    return float(number if isinstance(number, float) else np.ravel(number)[0])


def difference(first: Sequence[Value], second: Sequence[Value]) -> Number:
    """Return the difference of two means, class by class if all numbers have parts."""
    if len(first) == len(second) == 1:
        one, other = first[0].value, second[0].value
        if isinstance(one, float) and isinstance(other, float):  # as below, in less time
            return one - other
    numbers = [[x.value for x in values] for values in (first, second)]
    if not all(np.ndim(x) for side in numbers for x in side):
        numbers = [[estimate(x) for x in side] for side in numbers]
    minuend, subtrahend = (np.mean(np.stack(side), axis=0) for side in numbers)
    difference: Number = minuend - subtrahend
    return difference


def _value(row: Mapping[str, Any], metric: str) -> float | None:
    """Return a metric of a row of `trials`; None without a value."""
    values = [row[name] for name in LESS.get(metric, (metric,))]
    if None in values:
        return None
    return float(values[0] - values[1] if metric in LESS else values[0])


def _metrics(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the metrics of a trial: any two classes have an AUROC, only some are scored by it."""
    if row["map50"] is not None:
        return ("map50",)
    if row["auroc"] is None or row["training"] is None:
        return ("top1",)
    return ONE_CLASS if json.loads(row["training"])["target"].get("rest") else ("top1",)
