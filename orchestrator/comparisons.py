"""Networks that may be compared, and their differences, from the rows of trials. Pure: no disk.

Networks are compared within a cell: the same sweep, population, split, target and seed. Splits of
one population (one division of the classes, one number of images a class) and one metric form a
group, over which differences are averaged; groups are never mixed.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

BASES = ("base", "base_long")
COPIES = ("BnB", "BnB+", "AnB", "AnB+", "random", "random+")
ARMS = BASES + COPIES  # an arm is a treatment together with whether its first layers are frozen

DIFFERENCES = {  # effect: (arm, the arm that is subtracted from it)
    "selffer": ("BnB", "base"),
    "selffer_gain": ("BnB+", "base"),
    "transfer": ("AnB", "base"),
    "gain": ("AnB+", "base"),
    "random": ("random", "base"),
    "longer_training": ("base_long", "base"),
    "co_adaptation": ("base", "BnB"),
    "specificity": ("BnB", "AnB"),
    "recovery": ("AnB+", "AnB"),
    "transfer_gain": ("AnB+", "BnB+"),
}

METRICS = {  # metric: how a reader knows it
    "top1": "test top-1",
    "balanced_accuracy": "balanced test accuracy",
    "auroc": "test AUROC",
    "val_mean10": "mean of the ten best validation top-1",
}
ONE_CLASS = ("balanced_accuracy", "auroc")  # what a class against the rest is scored by

Number = float | np.ndarray  # a value, or the value followed by what it is in each redraw


class Group(NamedTuple):
    """What a statistic is over: splits that may be pooled, and the metric."""

    sweep: str
    division: str
    images_per_class: int | None
    metric: str

    @property
    def order(self) -> tuple[Any, ...]:
        """A key to sort by, although `images_per_class` may be null: all images come first."""
        limit = self.images_per_class
        return (self.sweep, self.division, limit is not None, limit or 0, self.metric)

    @property
    def place(self) -> tuple[Any, ...]:
        """A key to sort by for readers: random splits first."""
        return (self.division != "random", self.order)


class Cell(NamedTuple):
    """Networks that may be compared with each other."""

    sweep: str
    division: str
    images_per_class: int | None
    metric: str
    split: str
    target: str
    seed: int

    @property
    def group(self) -> Group:
        return Group(self.sweep, self.division, self.images_per_class, self.metric)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A complete trial as a member of a sweep: its labels there, and what it reached."""

    sweep: str
    id: str
    name: str
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
    val_top1: float
    at_chance: bool

    @property
    def cell(self) -> Cell:
        """The cell within which this network may be compared."""
        return Cell(
            self.sweep,
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


Cells = Mapping[Cell, Mapping[tuple[str, int], list[Value]]]


def arm(treatment: str, frozen: bool) -> str:
    """The paper's name of a treatment: a plus sign where all layers learn."""
    if treatment in BASES:
        return treatment
    name = {"selffer": "BnB", "transfer": "AnB", "random": "random"}[treatment]
    return name if frozen else f"{name}+"


def division_of(row: Mapping[str, Any]) -> str:
    """The division that a row names. Rows of old stores have none: those split by seed or by name.

    Splits of one division are a sample of it, those of another are not.
    """
    if row["division"] is not None:
        return str(row["division"])
    return "random" if re.fullmatch(r"s\d+", row["split"]) else "named"


def measurements(members: pa.Table, trials: pa.Table, metric: str | None = None) -> list[Network]:
    """Complete trials under the labels of the sweeps that they belong to, in canonical order.

    Labels come from membership: the same trial may belong to two sweeps under other names.
    A trial is measured by test top-1, or, as one class against the rest, by each of `ONE_CLASS`;
    with `metric`, by that column of `trials`, where it has one.
    """
    columns = ["id", "outcome", "classes", "val_top1", "at_chance", "training"]
    columns += [metric] if metric else ["top1", *ONE_CLASS]
    rows = {
        row["id"]: row
        for row in trials.select(list(dict.fromkeys(columns))).to_pylist()
        if row["outcome"] == "complete"
    }
    labels = ("sweep", "id", "name", "images_per_class", "split", "target", "seed", "n")
    networks = [
        Network(
            **{name: member[name] for name in labels},
            division=division_of(member),
            arm=arm(member["treatment"], member["frozen"]),
            classes=row["classes"],
            metric=name,
            value=row[name],
            val_top1=row["val_top1"],
            at_chance=row["at_chance"],
        )
        for member in members.to_pylist()
        if (row := rows.get(member["id"])) is not None
        for name in ([metric] if metric else _metrics(row))
        if row[name] is not None
    ]
    return sorted(
        networks,
        key=lambda x: (x.cell.group.order, ARMS.index(x.arm), x.n, x.split, x.target, x.seed),
    )


def by_cell(measured: Iterable[tuple[Network, Number]]) -> Cells:
    """Networks, each with its number, sorted into cells, then by arm and n."""
    cells: dict[Cell, dict[tuple[str, int], list[Value]]] = defaultdict(lambda: defaultdict(list))
    for x, number in measured:
        cells[x.cell][x.arm, x.n].append(Value(x.cell, number, frozenset([x.id])))
    return cells


def differences(
    cells: Cells, minuend: str, subtrahend: str
) -> dict[tuple[Group, int], list[Value]]:
    """Differences within each cell by (group, n). A base is compared at every n.

    Both members of a pair must exist. Networks that agree in all labels (transfers from several
    sources) are averaged.
    """
    found: dict[tuple[Group, int], list[Value]] = defaultdict(list)
    for cell, arms in cells.items():
        layers = sorted({n for name, n in arms if name in (minuend, subtrahend) and n > 0}) or [0]
        for n in layers:
            first, second = (
                arms.get((name, 0 if name in BASES else n)) for name in (minuend, subtrahend)
            )
            if first and second:
                trials = frozenset().union(*(x.trials for x in first + second))
                found[cell.group, n].append(Value(cell, _difference(first, second), trials))
    return {key: found[key] for key in sorted(found, key=lambda key: (key[0].order, key[1]))}


def estimate(number: Number) -> float:
    """The value itself, without its redraws."""
    return float(np.ravel(number)[0])


def _difference(first: Sequence[Value], second: Sequence[Value]) -> Number:
    """The difference of two means, redraw by redraw where all numbers have redraws."""
    numbers = [[x.value for x in values] for values in (first, second)]
    if not all(np.ndim(x) for side in numbers for x in side):
        numbers = [[estimate(x) for x in side] for side in numbers]
    minuend, subtrahend = (np.mean(np.stack(side), axis=0) for side in numbers)
    found: Number = minuend - subtrahend
    return found


def _metrics(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What a trial is scored by. The area under the curve is known of any two classes."""
    if row["auroc"] is None or row["training"] is None:
        return ("top1",)
    return ONE_CLASS if json.loads(row["training"])["target"].get("rest") else ("top1",)
