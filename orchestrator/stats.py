"""Effects and levels with their intervals, from the rows of trials. Pure: no disk.

An effect is a difference of test top-1 between two networks of the same split, target and seed. It
is averaged over seeds, then over the two directions of a split: they share both bases, so the split
is the unit of every interval. Accuracies and differences are fractions; the reader sees points.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from orchestrator.tables import INT, REAL, TEXT, Column

CONFIDENCE = 0.95
UNIT = "split"
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

INTERVAL: list[Column] = [
    ("se", REAL, "standard error over splits; null below two splits"),
    ("df", INT, "degrees of freedom of the t interval: splits less one"),
    ("low", REAL, "lower pointwise bound"),
    ("high", REAL, "upper pointwise bound"),
    ("low_simultaneous", REAL, "lower bound that holds for all n together (Bonferroni)"),
    ("high_simultaneous", REAL, "upper bound that holds for all n together (Bonferroni)"),
    ("confidence", REAL, "confidence of the bounds"),
    ("n_splits", INT, "splits that enter"),
    ("n_networks", INT, "different networks that enter, those subtracted counted too"),
    ("unit", TEXT, "what the interval counts as one observation"),
]


def table_schema(*columns: Column) -> pa.Schema:
    """A schema whose fields carry their descriptions."""
    return pa.schema(
        [pa.field(name, kind, metadata={"description": text}) for name, kind, text in columns]
    )


SWEEP: Column = ("sweep", TEXT, "the sweep whose members are compared")
ARM: Column = ("arm", TEXT, "base, base_long, BnB, BnB+, AnB, AnB+, random or random+")
LAYERS: Column = ("n", INT, "how many first layers are copied or random; 0 for bases")

EFFECTS = table_schema(
    SWEEP,
    ("effect", TEXT, "name of the difference"),
    LAYERS,
    ("estimate", REAL, "mean difference of test top-1, as a fraction"),
    *INTERVAL,
    ("at_chance", TEXT, "whether networks that never left chance are included or excluded"),
)
LEVELS = table_schema(SWEEP, ARM, LAYERS, ("top1", REAL, "mean test top-1"), *INTERVAL)


def arm(treatment: str, frozen: bool) -> str:
    """The paper's name of a treatment: a plus sign where all layers learn."""
    if treatment in BASES:
        return treatment
    name = {"selffer": "BnB", "transfer": "AnB", "random": "random"}[treatment]
    return name if frozen else f"{name}+"


@dataclass(frozen=True, kw_only=True)
class Network:
    """A complete trial as a member of a sweep: its labels there, and what it reached."""

    sweep: str
    id: str
    name: str
    split: str
    target: str
    seed: int
    arm: str
    n: int
    classes: int
    top1: float
    val_top1: float
    at_chance: bool


class Cell(NamedTuple):
    """Networks that may be compared with each other."""

    sweep: str
    split: str
    target: str
    seed: int


class Value(NamedTuple):
    """One number of a cell, and the ids of the trials behind it."""

    cell: Cell
    value: float
    trials: frozenset[str]


def measurements(members: pa.Table, trials: pa.Table) -> list[Network]:
    """Complete trials under the labels of the sweeps that they belong to, in canonical order.

    Labels come from membership: the same trial may belong to two sweeps under other names.
    """
    columns = ["id", "outcome", "classes", "top1", "val_top1", "at_chance"]
    rows = {
        row["id"]: row for row in trials.select(columns).to_pylist() if row["outcome"] == "complete"
    }
    labels = ("sweep", "id", "name", "split", "target", "seed", "n")
    networks = [
        Network(
            **{name: member[name] for name in labels},
            arm=arm(member["treatment"], member["frozen"]),
            **{name: row[name] for name in columns[2:]},
        )
        for member in members.to_pylist()
        if (row := rows.get(member["id"])) is not None
    ]
    return sorted(networks, key=lambda x: (x.sweep, ARMS.index(x.arm), x.n, *cell_of(x)))


def effects(members: pa.Table, trials: pa.Table) -> pa.Table:
    """One row per sweep, effect, n, with and without networks at chance, as `EFFECTS` says."""
    networks = measurements(members, trials)
    rows: list[dict[str, Any]] = []
    for at_chance in ("included", "excluded"):
        chosen = [x for x in networks if at_chance == "included" or not x.at_chance]
        cells = by_cell(chosen, {x.id: x.top1 for x in chosen})
        for effect, (minuend, subtrahend) in DIFFERENCES.items():
            found = differences(cells, minuend, subtrahend)
            layers = Counter(sweep for sweep, _ in found)
            for (sweep, n), values in found.items():
                estimate, bounds = interval(values, layers[sweep])
                rows.append(
                    {"sweep": sweep, "effect": effect, "n": n, "estimate": estimate}
                    | bounds
                    | {"at_chance": at_chance}
                )
    rows.sort(key=lambda row: row["sweep"])
    return pa.Table.from_pylist(rows, schema=EFFECTS)


def levels(members: pa.Table, trials: pa.Table) -> pa.Table:
    """Mean test top-1 per sweep, arm and n; the schema is `LEVELS`."""
    groups: dict[tuple[str, str, int], list[Value]] = defaultdict(list)
    for x in measurements(members, trials):
        groups[x.sweep, x.arm, x.n].append(Value(cell_of(x), x.top1, frozenset([x.id])))
    layers = Counter((sweep, name) for sweep, name, _ in groups)
    rows = []
    for (sweep, name, n), values in groups.items():
        mean, bounds = interval(values, layers[sweep, name])
        rows.append({"sweep": sweep, "arm": name, "n": n, "top1": mean} | bounds)
    return pa.Table.from_pylist(rows, schema=LEVELS)


def cell_of(network: Network) -> Cell:
    """The cell within which this network may be compared."""
    return Cell(network.sweep, network.split, network.target, network.seed)


def by_cell(
    networks: Iterable[Network], values: Mapping[str, float]
) -> dict[Cell, dict[tuple[str, int], list[Value]]]:
    """Values (by trial id) sorted into cells, then by arm and n."""
    cells: dict[Cell, dict[tuple[str, int], list[Value]]] = defaultdict(lambda: defaultdict(list))
    for x in networks:
        cells[cell_of(x)][x.arm, x.n].append(Value(cell_of(x), values[x.id], frozenset([x.id])))
    return cells


def differences(
    cells: Mapping[Cell, Mapping[tuple[str, int], list[Value]]], minuend: str, subtrahend: str
) -> dict[tuple[str, int], list[Value]]:
    """Differences within each cell by (sweep, n). A base is compared at every n.

    Both members of a pair must exist. Networks that agree in all labels (transfers from several
    sources) are averaged.
    """
    found: dict[tuple[str, int], list[Value]] = defaultdict(list)
    for cell, arms in cells.items():
        layers = sorted({n for name, n in arms if name in (minuend, subtrahend) and n > 0}) or [0]
        for n in layers:
            first, second = (
                arms.get((name, 0 if name in BASES else n)) for name in (minuend, subtrahend)
            )
            if first and second:
                means = [np.mean([x.value for x in values]) for values in (first, second)]
                trials = frozenset().union(*(x.trials for x in first + second))
                found[cell.sweep, n].append(Value(cell, float(means[0] - means[1]), trials))
    return dict(sorted(found.items()))


def interval(values: list[Value], family: int) -> tuple[float, dict[str, Any]]:
    """The mean over splits, and the columns `INTERVAL`: t bounds, alone and as one of `family`."""
    tree: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for x in values:
        tree[x.cell.split][x.cell.target].append(x.value)
    splits = [np.mean([np.mean(seeds) for seeds in targets.values()]) for targets in tree.values()]
    mean, count = float(np.mean(splits)), len(splits)
    se = float(np.std(splits, ddof=1) / math.sqrt(count)) if count > 1 else None
    low, high = _bounds(mean, se, count - 1, 1)
    low_all, high_all = _bounds(mean, se, count - 1, family)
    return mean, {
        "se": se,
        "df": count - 1,
        "low": low,
        "high": high,
        "low_simultaneous": low_all,
        "high_simultaneous": high_all,
        "confidence": CONFIDENCE,
        "n_splits": count,
        "n_networks": len(frozenset().union(*(x.trials for x in values))),
        "unit": UNIT,
    }


def _bounds(
    mean: float, se: float | None, df: int, family: int
) -> tuple[float, float] | tuple[None, None]:
    if se is None:
        return None, None
    from scipy.special import stdtrit  # the quantile of t; importing scipy.stats takes 0.6 s

    half = float(stdtrit(df, 1 - (1 - CONFIDENCE) / 2 / family)) * se
    return mean - half, mean + half
