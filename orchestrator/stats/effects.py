"""Effects, levels and Table 1, with their intervals, from measured networks. Pure: no disk.

An effect is a difference between two networks of the same population, split, target and seed. It is
averaged over seeds, then over the two directions of a split. Both directions share both bases, so
the split is the unit of an interval; see `intervals` for the case of one split. Accuracies and
differences are fractions here and percentage points in the report.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa

from orchestrator.stats.completeness import COMPLETENESS, Planned
from orchestrator.stats.intervals import INTERVAL, interval
from orchestrator.stats.measurements import (
    DIFFERENCES,
    WITHOUT_LAYERS,
    Group,
    Network,
    Value,
    by_cell,
    differences,
    estimate,
)
from orchestrator.stats.samples import Samples
from orchestrator.store.schemas import INT, REAL, TEXT, Column


def table_schema(*columns: Column) -> pa.Schema:
    """Return a schema whose fields carry their descriptions."""
    return pa.schema(
        [pa.field(name, kind, metadata={"description": text}) for name, kind, text in columns]
    )


SWEEP: Column = ("sweep", TEXT, "the sweep whose members are compared")
POPULATION: list[Column] = [
    ("condition", TEXT, "settings that distinguish the grid from others, as JSON; null if none"),
    ("division", TEXT, "splits that are pooled: random, drawn, …; or one split by its own name"),
    ("images_per_class", INT, "training images of each class of the target; null for all"),
]
METRIC: Column = (
    "metric",
    TEXT,
    "top1; for one class against the rest balanced_accuracy and auroc",
)
GROUP: list[Column] = [SWEEP, *POPULATION, METRIC]
ARM: Column = (
    "arm",
    TEXT,
    "base, base_long, pixels, BnB, BnB+, AnB, AnB+, random, random+, Bn|B or An|B",
)
LAYERS: Column = (
    "n",
    INT,
    "number of first layers that are copied or random; 0 for bases and pixels",
)

EFFECTS = table_schema(
    SWEEP,
    ("effect", TEXT, "name of the difference"),
    LAYERS,
    *GROUP[1:],
    ("estimate", REAL, "mean difference of the metric on the test set, as a fraction"),
    *INTERVAL,
    *COMPLETENESS,
    ("at_chance", TEXT, "included or excluded: networks that never left chance"),
)
LEVELS = table_schema(
    SWEEP,
    ARM,
    LAYERS,
    *GROUP[1:],
    ("value", REAL, "mean of the metric on the test set"),
    ("top1", REAL, "equal to value if the metric is top1, else null"),
    *INTERVAL,
    *COMPLETENESS,
)
TABLE1 = table_schema(
    *GROUP,
    ("layers", TEXT, "range of n that is aggregated, such as 3-7"),
    ("versus", TEXT, "arm that AnB+ is compared with: base or BnB+"),
    ("pooled", REAL, "mean of all AnB+ less mean of all `versus`, in points; mixes targets"),
    (
        "own_base",
        REAL,
        "pooled of each network less the base of its target and seed, in points",
    ),
    ("se", REAL, "standard error of own_base over networks, in points; see se_kind"),
    ("se_kind", TEXT, "naive: Welch's, which takes networks that share a base for independent"),
    ("n_networks", INT, "networks of AnB+, and of BnB+ where it is `versus`"),
    ("n_targets", INT, "different targets (split and half) of these networks"),
    ("n_both", INT, "targets that have both AnB+ and `versus`"),
    ("gain", REAL, "mean of AnB+ less the own base, in points"),
    ("gain_versus", REAL, "mean of `versus` less the own base, in points; 0 for the base"),
    ("paired", REAL, "mean difference within target, n and seed, over splits, in points"),
    ("paired_low", REAL, "lower bound of its interval"),
    ("paired_high", REAL, "upper bound of its interval"),
    ("n_splits", INT, "splits that enter the paired difference"),
)
UNKNOWN = Planned()
FIRST_LAYERS = (1, 3, 5)  # Table 1 aggregates from these to the last layer that can be copied


def effects(samples: Samples, planned: Planned = UNKNOWN) -> pa.Table:
    """Return one row per group, effect and n, with and without networks at chance: `EFFECTS`."""
    rows: list[dict[str, Any]] = []
    some_at_chance = any(x.at_chance for x, _ in samples.measured)
    for at_chance in ("included", "excluded"):
        if at_chance == "excluded" and not some_at_chance:
            rows += [row | {"at_chance": at_chance} for row in rows]
            break
        if at_chance == "excluded":
            samples = Samples(x for x in samples.measured if not x[0].at_chance)
        for effect, (minuend, subtrahend) in DIFFERENCES.items():
            compared = samples.differences(minuend, subtrahend)
            layers = Counter(group for group, _ in compared)
            for (group, n), (sample, places) in compared.items():
                mean, bounds = interval(sample, layers[group])
                arms = [(x, 0 if x in WITHOUT_LAYERS else n) for x in (minuend, subtrahend)]
                rows.append(
                    group._asdict()
                    | {"effect": effect, "n": n, "estimate": mean}
                    | bounds
                    | planned.counts(group, arms, places)
                    | {"at_chance": at_chance}
                )
    rows.sort(key=lambda row: group_of(row).order)
    return pa.Table.from_pylist(rows, schema=EFFECTS)


def levels(samples: Samples, planned: Planned = UNKNOWN) -> pa.Table:
    """Return the mean of the metric per group, arm and n: `LEVELS`."""
    by_level = samples.levels()
    layers = Counter((group, name) for group, name, _ in by_level)
    rows = []
    for (group, name, n), (sample, places) in by_level.items():
        mean, bounds = interval(sample, layers[group, name])
        top1 = mean if group.metric == "top1" else None
        numbers = {"arm": name, "n": n, "value": mean, "top1": top1} | bounds
        counts = planned.counts(group, [(name, n)], places)
        rows.append(group._asdict() | numbers | counts)
    return pa.Table.from_pylist(rows, schema=LEVELS)


def group_of(row: Mapping[str, Any]) -> Group:
    """Return the group of a row of `EFFECTS` or `LEVELS`."""
    return Group(*(row[name] for name in Group._fields))


# Table 1 ----------------------------------------------------------------------------------------


def table1(networks: Iterable[Network]) -> pa.Table:
    """Return the paper's Table 1 for every group that has AnB+; the schema is `TABLE1`.

    The paper compares the mean of all AnB+ with that of all bases or all BnB+, over whatever
    targets were trained. Beside it stand the mean gains over each network's own base, and the
    difference within targets for which both arms were trained.
    """
    groups: dict[Group, list[Network]] = defaultdict(list)
    for x in networks:
        groups[x.cell.group].append(x)
    rows = []
    for group, members in groups.items():
        last = max((x.n for x in members if x.arm == "AnB+"), default=0)
        for first in FIRST_LAYERS:
            for versus in ("base", "BnB+"):
                if first <= last and (row := _aggregate(members, first, last, versus)):
                    layers = {"layers": f"{first}-{last}", "versus": versus}
                    rows.append(group._asdict() | layers | row)
    return pa.Table.from_pylist(rows, schema=TABLE1)


def _aggregate(
    networks: Sequence[Network], first: int, last: int, versus: str
) -> dict[str, Any] | None:
    """Return the numbers of one row of Table 1, in points, or None if networks are missing."""
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
    """Return the standard error of one mean or a difference of two; None for a sample of one."""
    parts = [np.var(x, ddof=1) / len(x) if len(x) > 1 else None for x in samples]
    known = [float(part) for part in parts if part is not None]
    return math.sqrt(sum(known)) if len(known) == len(parts) else None


def _paired(
    networks: Sequence[Network], first: int, last: int, versus: str
) -> tuple[float | None, dict[str, Any]]:
    """Return the mean over splits of AnB+ − versus, averaged over n in a cell, and its interval."""
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
