"""Cost of copied and frozen layers for each class, from the counts per class. Pure: no disk."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean, variance
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.stats.effects import LAYERS, POPULATION, SWEEP, table_schema
from orchestrator.stats.intervals import CONFIDENCE, quantile
from orchestrator.stats.measurements import Cell, Group, Network
from orchestrator.store.schemas import INT, REAL

CLASS_EFFECTS = table_schema(
    SWEEP,
    *POPULATION,
    ("class_index", INT, "index of the class in the dataset"),
    LAYERS,
    ("base", REAL, "accuracy of the bases on the test images of the class"),
    ("transfer", REAL, "accuracy of AnB on them"),
    ("difference", REAL, "AnB less the base of the same split, target and seed, as a fraction"),
    ("se", REAL, "standard error over splits; null below two"),
    ("low", REAL, "lower pointwise 95 % bound"),
    ("high", REAL, "upper pointwise 95 % bound"),
    ("n_splits", INT, "splits that enter: each class is on one side of a split"),
    ("n_networks", INT, "networks of AnB that enter"),
)


def class_effects(networks: Iterable[Network], classes: pa.Table) -> pa.Table:
    """Return one row per group, class and n of AnB; the schema is `CLASS_EFFECTS`.

    One class against the rest and detectors are left out: they have no accuracy of a class.
    """
    chosen = [x for x in networks if x.arm in ("base", "AnB") and x.metric == "top1"]
    shares = _shares({x.id for x in chosen}, classes)
    bases: dict[Cell, list[dict[int, float]]] = defaultdict(list)
    for x in chosen:
        if x.arm == "base" and x.id in shares:
            bases[x.cell].append(shares[x.id])
    pairs: dict[tuple[Group, int, int], list[tuple[str, float, float]]] = defaultdict(list)
    for x in chosen:
        if x.arm != "AnB" or x.id not in shares or x.cell not in bases:
            continue
        for index, share in shares[x.id].items():
            own = [base[index] for base in bases[x.cell] if index in base]
            if own:
                pairs[x.cell.group, index, x.n].append((x.split, fmean(own), share))
    rows = [
        {name: value for name, value in group._asdict().items() if name != "metric"}
        | {"class_index": index, "n": n}
        | _columns(values)
        for (group, index, n), values in sorted(
            pairs.items(), key=lambda item: (item[0][0].order, *item[0][1:])
        )
    ]
    return pa.Table.from_pylist(rows, schema=CLASS_EFFECTS)


def _shares(ids: set[str], classes: pa.Table) -> dict[str, dict[int, float]]:
    """Return the share of correct test images by trial and class."""
    mask = pc.and_(
        pc.equal(classes["subset"], "test"),
        pc.is_in(classes["id"], pa.array(sorted(ids), pa.string())),
    )
    shares: dict[str, dict[int, float]] = defaultdict(dict)
    for row in classes.filter(mask).to_pylist():
        if row["class_index"] is not None and row["total"]:
            shares[row["id"]][row["class_index"]] = row["correct"] / row["total"]
    return shares


def _columns(values: list[tuple[str, float, float]]) -> dict[str, Any]:
    """Return the means over splits, and the interval of their difference."""
    by_split: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for split, base, share in values:
        by_split[split].append((base, share))
    means = [tuple(map(fmean, zip(*pairs, strict=True))) for pairs in by_split.values()]
    differences = [share - base for base, share in means]
    mean, count = fmean(differences), len(differences)
    columns: dict[str, Any] = {
        "base": fmean(base for base, _ in means),
        "transfer": fmean(share for _, share in means),
        "difference": mean,
        "n_splits": count,
        "n_networks": len(values),
    }
    if count < 2:
        return columns | dict.fromkeys(("se", "low", "high"))
    se = math.sqrt(variance(differences) / count)
    half = quantile((1 + CONFIDENCE) / 2, count - 1) * se
    return columns | {"se": se, "low": mean - half, "high": mean + half}
