"""Two sets of networks cell by cell: treatment and number of layers. Pure: no disk.

A cell of the first set is compared with the same cell of the second. Where both have networks of
the same split, target and seed, the difference is taken within these pairs, and the split is the
unit. Otherwise the means over splits are compared (Welch). Many cells are tested, so each has the
smallest false-discovery rate at which it counts as different (Benjamini and Hochberg 1995).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, variance
from typing import Any, NamedTuple

import pyarrow as pa

from orchestrator.stats.effects import ARM, LAYERS, METRIC, POPULATION, table_schema
from orchestrator.stats.intervals import CONFIDENCE, quantile
from orchestrator.stats.measurements import ARMS, Network
from orchestrator.stats.statistics import Statistics
from orchestrator.store.schemas import INT, REAL, YES

RATE = 0.05  # false-discovery rate at which a cell counts as different

CONTRASTS = table_schema(
    *POPULATION,
    METRIC,
    ARM,
    LAYERS,
    ("first", REAL, "mean of the first set"),
    ("second", REAL, "mean of the second set"),
    ("difference", REAL, "second less first; of the pairs, where there are any"),
    ("se", REAL, "standard error of the difference over splits; null below two"),
    ("low", REAL, "lower pointwise 95 % bound"),
    ("high", REAL, "upper pointwise 95 % bound"),
    ("p", REAL, "two-sided p-value of no difference, by Student's or Welch's t"),
    ("q", REAL, "p adjusted for all cells: smallest false-discovery rate with this cell"),
    ("differs", YES, "q is at most 0.05; null without a p-value"),
    ("paired", YES, "networks of the same split, target and seed are compared"),
    ("n_pairs", INT, "pairs of networks"),
    ("n_same", INT, "pairs that are one and the same trial"),
    ("n_splits", INT, "splits that enter; the fewer of both sets without pairs"),
)

Population = tuple[str | None, str, int | None, str]  # condition, division, images and metric
Key = tuple[Population, str, int]  # population, arm and n


class Place(NamedTuple):
    """Labels that two networks of a pair share."""

    split: str
    target: str
    seed: int


@dataclass(frozen=True)
class Known:
    """A network with the hash of its split, which is equal in all stores."""

    network: Network
    split: str

    @property
    def place(self) -> Place:
        return Place(self.split, self.network.target, self.network.seed)


def contrasts(first: Statistics, second: Statistics, *, relative: bool = False) -> pa.Table:
    """Return one row per cell that both sets have; the schema is `CONTRASTS`.

    With `relative`, each network counts as its difference to its own base. A condition counts only
    if one of the sets has several.
    """
    sides = [_known(one, relative=relative) for one in (first, second)]
    alone = all(len({x.network.condition for x in side}) <= 1 for side in sides)
    cells = [_cells(side, alone=alone) for side in sides]
    shared = sorted(cells[0].keys() & cells[1].keys(), key=_order)
    rows = [_row(key, cells[0][key], cells[1][key]) for key in shared]
    return pa.Table.from_pylist(_adjusted(rows), schema=CONTRASTS)


def _known(statistics: Statistics, *, relative: bool) -> list[Known]:
    members = statistics.members.select(["sweep", "id", "split", "split_hash"]).to_pylist()
    hashes = {(x["sweep"], x["id"]): x["split_hash"] or x["split"] for x in members}
    networks: Iterable[Network] = statistics.networks
    if relative:
        values: dict[Any, list[float]] = defaultdict(list)
        for x in networks:
            if x.arm == "base":
                values[x.cell].append(x.value)
        networks = [
            replace(x, value=x.value - fmean(values[x.cell]))
            for x in networks
            if x.arm != "base" and x.cell in values
        ]
    return [Known(x, hashes[x.sweep, x.id]) for x in networks]


def _cells(side: Iterable[Known], *, alone: bool) -> dict[Key, list[Known]]:
    cells: dict[Key, list[Known]] = defaultdict(list)
    for x in side:
        of = x.network
        condition = None if alone else of.condition
        population = (condition, of.division, of.images_per_class, of.metric)
        cells[population, of.arm, of.n].append(x)
    return cells


def _order(key: Key) -> tuple[Any, ...]:
    (condition, division, images, metric), arm, n = key
    return (condition or "", division, images or 0, metric, ARMS.index(arm), n)


def _row(key: Key, first: Sequence[Known], second: Sequence[Known]) -> dict[str, Any]:
    by_place = [_by_place(side) for side in (first, second)]
    shared = sorted(by_place[0].keys() & by_place[1].keys())
    ids = [{x.place: x.network.id for x in side} for side in (first, second)]
    if shared:
        tree: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for place in shared:
            tree[place.split][place.target].append(by_place[1][place] - by_place[0][place])
        test = _one_sample(_means(tree))
    else:
        test = _two_samples(*(_splits(side) for side in (first, second)))
    (condition, division, images, metric), arm, n = key
    return {
        "condition": condition,
        "division": division,
        "images_per_class": images,
        "metric": metric,
        "arm": arm,
        "n": n,
        "first": fmean(x.network.value for x in first),
        "second": fmean(x.network.value for x in second),
        "paired": bool(shared),
        "n_pairs": len(shared),
        "n_same": sum(ids[0][place] == ids[1][place] for place in shared),
    } | test


def _by_place(side: Iterable[Known]) -> dict[Place, float]:
    values: dict[Place, list[float]] = defaultdict(list)
    for x in side:
        values[x.place].append(x.network.value)
    return {place: fmean(some) for place, some in values.items()}


def _splits(side: Iterable[Known]) -> list[float]:
    """Return the mean of each split, over seeds and then over targets."""
    tree: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for x in side:
        tree[x.split][x.network.target].append(x.network.value)
    return _means(tree)


def _means(tree: Mapping[str, Mapping[str, Sequence[float]]]) -> list[float]:
    return [fmean(map(fmean, targets.values())) for targets in tree.values()]


def _one_sample(splits: Sequence[float]) -> dict[str, Any]:
    if len(splits) < 2:
        return _test(fmean(splits), None, 0.0, len(splits))
    se = math.sqrt(variance(splits) / len(splits))
    return _test(fmean(splits), se, len(splits) - 1, len(splits))


def _two_samples(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    mean, count = fmean(second) - fmean(first), min(len(first), len(second))
    if count < 2:
        return _test(mean, None, 0.0, count)
    parts = [variance(side) / len(side) for side in (first, second)]
    total = sum(parts)
    weights = (x**2 / (len(side) - 1) for x, side in zip(parts, (first, second), strict=True))
    df = total**2 / max(sum(weights), 1e-300) if total else float(count - 1)
    return _test(mean, math.sqrt(total), df, count)


def _test(mean: float, se: float | None, df: float, count: int) -> dict[str, Any]:
    """Return the columns of a t test; without a standard error there is none."""
    columns: dict[str, Any] = {"difference": mean, "se": se, "n_splits": count}
    if se is None:
        return columns | dict.fromkeys(("low", "high", "p"))
    from scipy.special import stdtr

    half = quantile((1 + CONFIDENCE) / 2, df) * se
    certain = 1.0 if mean == 0 else 0.0  # all splits have the same difference
    p = 2 * float(stdtr(df, -abs(mean) / se)) if se else certain
    return columns | {"low": mean - half, "high": mean + half, "p": p}


def _adjusted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with `q` and `differs`."""
    tested = [row for row in rows if row["p"] is not None]
    for row in rows:
        row |= {"q": None, "differs": None}
    if tested:
        from scipy.stats import false_discovery_control

        rates = false_discovery_control([row["p"] for row in tested])
        for row, rate in zip(tested, rates, strict=True):
            row |= {"q": float(rate), "differs": bool(rate <= RATE)}
    return rows
