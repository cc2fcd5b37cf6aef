"""The intervals of a mean: over splits by Student's t, or over the classes of one split. Pure.

Splits drawn at random are a sample of splits, and the split is the unit. A known division, such as
natural and man-made, is one split by nature: its interval covers only which classes and which seeds
were drawn, by the bootstrap (Efron 1979, percentiles). Both networks of a difference are redrawn
with the same classes and seeds, and so are all differences of one split.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.comparisons import Network, Value, division_of, estimate
from orchestrator.tables import INT, REAL, TEXT, Column
from trainers.config import key

CONFIDENCE = 0.95
SPLIT, CLASS_AND_SEED = "split", "class and seed"  # units
DRAWS = 2000

Bounds = tuple[float, float] | tuple[None, None]

INTERVAL: list[Column] = [
    ("se", REAL, "standard error over units; null below two splits drawn at random"),
    ("df", INT, "degrees of freedom of the t interval: splits less one; null for class and seed"),
    ("low", REAL, "lower pointwise bound"),
    ("high", REAL, "upper pointwise bound"),
    ("low_simultaneous", REAL, "lower bound that holds for all n together (Bonferroni)"),
    ("high_simultaneous", REAL, "upper bound that holds for all n together (Bonferroni)"),
    ("confidence", REAL, "confidence of the bounds"),
    ("n_splits", INT, "splits that enter"),
    ("n_seeds", INT, "seeds that enter"),
    ("n_networks", INT, "different networks that enter, those subtracted counted too"),
    ("unit", TEXT, "what the interval counts as one observation: split, or class and seed"),
]


def interval(values: Sequence[Value], family: int) -> tuple[float, dict[str, Any]]:
    """The mean over splits, and the columns `INTERVAL`: bounds alone and as one of `family`.

    Numbers with redraws get the interval of their redraws, others Student's t over splits.
    """
    tree: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for x in values:
        tree[x.cell.split][x.cell.target].append(estimate(x.value))
    splits = [np.mean([np.mean(seeds) for seeds in targets.values()]) for targets in tree.values()]
    mean, count = float(np.mean(splits)), len(splits)
    redrawn = all(np.ndim(x.value) for x in values)
    se: float | None = None
    bounds: list[Bounds]
    if redrawn:
        draws = _redraw_seeds(values)
        se = float(np.std(draws, ddof=1))
        bounds = [_quantiles(draws, k) for k in (1, family)]
    else:
        if count > 1:
            se = float(np.std(splits, ddof=1) / math.sqrt(count))
        bounds = [_t(mean, se, count - 1, k) for k in (1, family)]
    (low, high), (low_all, high_all) = bounds
    return mean, {
        "se": se,
        "df": None if redrawn else count - 1,
        "low": low,
        "high": high,
        "low_simultaneous": low_all,
        "high_simultaneous": high_all,
        "confidence": CONFIDENCE,
        "n_splits": count,
        "n_seeds": len({x.cell.seed for x in values}),
        "n_networks": len(frozenset().union(*(x.trials for x in values))),
        "unit": CLASS_AND_SEED if redrawn else SPLIT,
    }


def single_splits(members: pa.Table) -> set[tuple[str, str]]:
    """The (sweep, division) that are one split by nature: not drawn at random, and alone."""
    splits: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in members.select(["sweep", "split", "division"]).to_pylist():
        splits[row["sweep"], division_of(row)].add(row["split"])
    return {
        (sweep, division)
        for (sweep, division), names in splits.items()
        if len(names) == 1 and not division.startswith("random")
    }


def redraw_classes(
    networks: Iterable[Network], alone: set[tuple[str, str]], classes: pa.Table
) -> dict[tuple[str, str], np.ndarray]:
    """By (sweep, id), of the divisions `alone`: test top-1, then (DRAWS,) it with classes redrawn.

    The classes of a target are drawn as often as there are, with replacement; the draws depend on
    division, split and target alone. `classes` is the table of that name. Networks without counts,
    or with other test images than the first of their target, are left out.
    """
    targets: dict[tuple[str, str, str, str], dict[str, float]] = defaultdict(dict)
    for x in networks:
        if (x.sweep, x.division) in alone and x.metric == "top1":
            targets[x.sweep, x.division, x.split, x.target][x.id] = x.value
    ids = pa.array(sorted({id for values in targets.values() for id in values}), pa.string())
    test = classes.filter(
        pc.and_(pc.equal(classes["subset"], "test"), pc.is_in(classes["id"], ids))
    )
    code = pc.index_in(test["id"], ids).to_numpy()
    order = np.lexsort((test["class_index"].to_numpy(), code))
    correct, total = (test[name].to_numpy()[order] for name in ("correct", "total"))
    unique = zip(*np.unique(code[order], return_index=True, return_counts=True), strict=True)
    rows = {ids[k].as_py(): slice(start, start + count) for k, start, count in unique}
    found: dict[tuple[str, str], np.ndarray] = {}
    for (sweep, *target), values in targets.items():
        known = [id for id in values if id in rows]
        if not known:
            continue
        images = total[rows[known[0]]]
        known = [id for id in known if np.array_equal(total[rows[id]], images)]
        random = np.random.default_rng(key("classes", *target))
        draws = random.multinomial(len(images), np.full(len(images), 1 / len(images)), DRAWS)
        hits = np.stack([correct[rows[id]] for id in known])
        redrawn = (hits.astype(float) @ draws.T) / (draws @ images)
        for id, row in zip(known, redrawn, strict=True):
            found[sweep, id] = np.append(values[id], row)
    return found


def _redraw_seeds(values: Sequence[Value]) -> np.ndarray:
    """The mean over targets and redrawn seeds (DRAWS,); both directions have the same seeds."""
    seeds = sorted({x.cell.seed for x in values})
    random = np.random.default_rng(key("seeds", values[0].cell.division, values[0].cell.split))
    draws = random.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), DRAWS)
    means = []
    for target in sorted({x.cell.target for x in values}):
        of_target = [x for x in values if x.cell.target == target]
        weights = draws[:, [seeds.index(x.cell.seed) for x in of_target]]
        numbers = np.stack([np.asarray(x.value)[1:] for x in of_target], axis=1)
        drawn = weights.sum(1)
        mean = np.full(DRAWS, np.nan)  # where none of this target's seeds was drawn
        np.divide((weights * numbers).sum(1), drawn, out=mean, where=drawn > 0)
        means.append(mean)
    found: np.ndarray = np.nanmean(means, axis=0)
    return found


def _quantiles(draws: np.ndarray, family: int) -> Bounds:
    tail = (1 - CONFIDENCE) / 2 / family
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def _t(mean: float, se: float | None, df: int, family: int) -> Bounds:
    if se is None:
        return None, None
    from scipy.special import stdtrit  # the quantile of t; importing scipy.stats takes 0.6 s

    half = float(stdtrit(df, 1 - (1 - CONFIDENCE) / 2 / family)) * se
    return mean - half, mean + half
