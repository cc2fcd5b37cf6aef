"""Effects, levels and Table 1, with their intervals, from the rows of trials. Pure: no disk.

An effect is a difference between two networks of the same population, split, target and seed. It is
averaged over seeds, then over the two directions of a split: they share both bases, so the split is
the unit of an interval (`intervals` says what happens with one split). Accuracies and differences
are fractions; the reader sees points.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa

from orchestrator.comparisons import (
    DIFFERENCES,
    Group,
    Network,
    Number,
    Value,
    by_cell,
    differences,
    estimate,
    measurements,
)
from orchestrator.intervals import INTERVAL, interval, redraw_classes, single_splits
from orchestrator.tables import INT, REAL, TEXT, Column


def table_schema(*columns: Column) -> pa.Schema:
    """A schema whose fields carry their descriptions."""
    return pa.schema(
        [pa.field(name, kind, metadata={"description": text}) for name, kind, text in columns]
    )


SWEEP: Column = ("sweep", TEXT, "the sweep whose members are compared")
POPULATION: list[Column] = [
    ("division", TEXT, "whose splits are pooled: random, natural_manmade, whole, named, …"),
    ("images_per_class", INT, "training images of each class of the target; null for all"),
]
METRIC: Column = (
    "metric",
    TEXT,
    "top1; balanced_accuracy and auroc where one class stands against the rest",
)
GROUP: list[Column] = [SWEEP, *POPULATION, METRIC]
ARM: Column = ("arm", TEXT, "base, base_long, BnB, BnB+, AnB, AnB+, random or random+")
LAYERS: Column = ("n", INT, "how many first layers are copied or random; 0 for bases")

EFFECTS = table_schema(
    SWEEP,
    ("effect", TEXT, "name of the difference"),
    LAYERS,
    *GROUP[1:],
    ("estimate", REAL, "mean difference of the metric on the test set, as a fraction"),
    *INTERVAL,
    ("at_chance", TEXT, "whether networks that never left chance are included or excluded"),
)
LEVELS = table_schema(
    SWEEP,
    ARM,
    LAYERS,
    *GROUP[1:],
    ("value", REAL, "mean of the metric on the test set"),
    ("top1", REAL, "the same where the metric is top1, else null"),
    *INTERVAL,
)
TABLE1 = table_schema(
    *GROUP,
    ("layers", TEXT, "numbers of copied layers that are aggregated, such as 3-7"),
    ("versus", TEXT, "what AnB+ is compared with: base or BnB+"),
    ("pooled", REAL, "mean of all AnB+ less mean of all `versus`, in points: mixes targets"),
    ("own_base", REAL, "the same, each network less the base of its target and seed, in points"),
    ("se", REAL, "standard error of own_base over networks, in points: see se_kind"),
    ("se_kind", TEXT, "naive: Welch's, which counts networks that share a base as independent"),
    ("n_networks", INT, "networks of AnB+, and of BnB+ where it is `versus`"),
    ("n_targets", INT, "different targets (split and half) of these networks"),
    ("n_both", INT, "those of these targets that have AnB+ and `versus`"),
    ("gain", REAL, "mean of AnB+ less the own base, in points"),
    ("gain_versus", REAL, "mean of `versus` less the own base, in points; 0 for the base"),
    ("paired", REAL, "mean difference within target, n and seed, over splits, in points"),
    ("paired_low", REAL, "lower bound of its interval"),
    ("paired_high", REAL, "upper bound of its interval"),
    ("n_splits", INT, "splits that the paired difference is over"),
)
FIRST_LAYERS = (1, 3, 5)  # Table 1 aggregates from these to the last layer that can be copied


def effects(members: pa.Table, trials: pa.Table, classes: pa.Table | None = None) -> pa.Table:
    """One row per group, effect, n, with and without networks at chance, as `EFFECTS` says.

    `classes` gives divisions of one split their intervals; see `needs_classes`.
    """
    return effects_of(measurements(members, trials), members, classes)


def effects_of(
    networks: Sequence[Network], members: pa.Table, classes: pa.Table | None = None
) -> pa.Table:
    """`effects` from measurements, whatever their metric is."""
    numbers = _numbers(networks, members, classes)
    rows: list[dict[str, Any]] = []
    for at_chance in ("included", "excluded"):
        cells = by_cell(x for x in numbers if at_chance == "included" or not x[0].at_chance)
        for effect, (minuend, subtrahend) in DIFFERENCES.items():
            found = differences(cells, minuend, subtrahend)
            layers = Counter(group for group, _ in found)
            for (group, n), values in found.items():
                mean, bounds = interval(values, layers[group])
                rows.append(
                    group._asdict()
                    | {"effect": effect, "n": n, "estimate": mean}
                    | bounds
                    | {"at_chance": at_chance}
                )
    rows.sort(key=lambda row: group_of(row).order)
    return pa.Table.from_pylist(rows, schema=EFFECTS)


def levels(members: pa.Table, trials: pa.Table, classes: pa.Table | None = None) -> pa.Table:
    """Mean of the metric per group, arm and n; the schema is `LEVELS`."""
    return levels_of(measurements(members, trials), members, classes)


def levels_of(
    networks: Sequence[Network], members: pa.Table, classes: pa.Table | None = None
) -> pa.Table:
    """`levels` from measurements, whatever their metric is."""
    places: dict[tuple[Group, str, int], list[Value]] = defaultdict(list)
    for x, number in _numbers(networks, members, classes):
        places[x.cell.group, x.arm, x.n].append(Value(x.cell, number, frozenset([x.id])))
    layers = Counter((group, name) for group, name, _ in places)
    rows = []
    for (group, name, n), values in places.items():
        mean, bounds = interval(values, layers[group, name])
        top1 = mean if group.metric == "top1" else None
        rows.append(group._asdict() | {"arm": name, "n": n, "value": mean, "top1": top1} | bounds)
    return pa.Table.from_pylist(rows, schema=LEVELS)


def group_of(row: Mapping[str, Any]) -> Group:
    """The group of a row of `EFFECTS` or `LEVELS`."""
    return Group(*(row[name] for name in Group._fields))


def needs_classes(members: pa.Table) -> bool:
    """Whether intervals of these members take the table `classes`: else it need not be read."""
    return bool(single_splits(members))


def _numbers(
    networks: Sequence[Network], members: pa.Table, classes: pa.Table | None
) -> list[tuple[Network, Number]]:
    """Each network with its value, and with its redraws where its division is one split."""
    redrawn = {} if classes is None else redraw_classes(networks, single_splits(members), classes)
    return [
        (x, x.value if x.metric != "top1" else redrawn.get((x.sweep, x.id), x.value))
        for x in networks
    ]


# Table 1 ----------------------------------------------------------------------------------------


def table1(members: pa.Table, trials: pa.Table, metric: str | None = None) -> pa.Table:
    """The paper's Table 1 for every group that has AnB+; the schema is `TABLE1`.

    The paper pools: all AnB+ against all bases or all BnB+, of whatever targets were trained.
    Beside it stands the same against each target's own base, and the difference within targets
    where both were trained. `metric` is a column of `trials`; by default each trial's own.
    """
    groups: dict[Group, list[Network]] = defaultdict(list)
    for x in measurements(members, trials, metric):
        groups[x.cell.group].append(x)
    rows = []
    for group, networks in groups.items():
        last = max((x.n for x in networks if x.arm == "AnB+"), default=0)
        for first in FIRST_LAYERS:
            for versus in ("base", "BnB+"):
                if first <= last and (row := _aggregate(networks, first, last, versus)):
                    layers = {"layers": f"{first}-{last}", "versus": versus}
                    rows.append(group._asdict() | layers | row)
    return pa.Table.from_pylist(rows, schema=TABLE1)


def _aggregate(
    networks: Sequence[Network], first: int, last: int, versus: str
) -> dict[str, Any] | None:
    """The numbers of one row of Table 1, in points; None where networks are missing."""
    bases = {x.cell: x.value for x in networks if x.arm == "base"}
    tuned = {
        name: [x for x in networks if x.arm == name and first <= x.n <= last]
        for name in ("AnB+", "BnB+")
    }
    opposed = tuned[versus] if versus in tuned else [x for x in networks if x.arm == "base"]
    gains = {
        name: [x.value - bases[x.cell] for x in chosen if x.cell in bases]
        for name, chosen in tuned.items()
    }
    sides = [gains["AnB+"], *([gains[versus]] if versus in gains else [])]
    if not opposed or not all(sides):
        return None
    compared = tuned["AnB+"] + (opposed if versus in tuned else [])
    targets = {(x.split, x.target) for x in compared}
    both = {(x.split, x.target) for x in tuned["AnB+"]} & {(x.split, x.target) for x in opposed}
    gain, gain_versus = fmean(sides[0]), fmean(sides[1]) if len(sides) > 1 else 0.0
    paired, bounds = _paired(networks, first, last, versus)
    points = {
        "pooled": fmean(x.value for x in tuned["AnB+"]) - fmean(x.value for x in opposed),
        "own_base": gain - gain_versus,
        "se": _welch(sides),
        "gain": gain,
        "gain_versus": gain_versus,
        "paired": paired,
        "paired_low": bounds.get("low"),
        "paired_high": bounds.get("high"),
    }
    return {name: None if x is None else 100 * x for name, x in points.items()} | {
        "se_kind": "naive",
        "n_networks": len({x.id for x in compared}),
        "n_targets": len(targets),
        "n_both": len(both),
        "n_splits": bounds.get("n_splits", 0),
    }


def _welch(samples: Iterable[Sequence[float]]) -> float | None:
    """Standard error of a difference of means (or of one mean); None for a sample of one."""
    parts = [np.var(x, ddof=1) / len(x) if len(x) > 1 else None for x in samples]
    known = [float(part) for part in parts if part is not None]
    return math.sqrt(sum(known)) if len(known) == len(parts) else None


def _paired(
    networks: Sequence[Network], first: int, last: int, versus: str
) -> tuple[float | None, dict[str, Any]]:
    """The mean over splits of AnB+ − versus, averaged within a cell over n, and its interval."""
    cells = by_cell((x, x.value) for x in networks)
    of_cell: dict[Any, list[Value]] = defaultdict(list)
    for (_, n), values in differences(cells, "AnB+", versus).items():
        for value in values if first <= n <= last else []:
            of_cell[value.cell].append(value)
    means = [
        Value(
            cell,
            fmean(estimate(x.value) for x in values),
            frozenset().union(*(x.trials for x in values)),
        )
        for cell, values in of_cell.items()
    ]
    return interval(means, 1) if means else (None, {})
