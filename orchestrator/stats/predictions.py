"""Predictors of transfer, held to the measured accuracy. Pure: no disk.

A predictor scores the features of a source at layer n for a target. Two questions are asked of it,
each answered by Kendall's tau-b: does it order the n of one source and target (`over_n`), and does
it order, at one n, what there is to choose from (`within_n`)? Of named tasks these are the sources
of one target. A half of a split has one source only: there all sources and targets are ordered.
tau-b counts pairs in the same order less pairs in the opposite order, and allows for ties (Kendall
1945), which small test sets have. Plain and not weighted: of seven n, the worst matter as much as
the best.

The first question has a static answer without any score, "smaller n is better": a predictor is of
use there only if it beats this list.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import pyarrow as pa

from orchestrator.stats.effects import GROUP, table_schema
from orchestrator.stats.intervals import INTERVAL, interval
from orchestrator.stats.measurements import Cell, Group, Network, Value, is_direction
from orchestrator.store.schemas import REAL, TEXT
from trainers.canonical import digest

ARMS = ("AnB", "AnB+")
STATIC = "smaller n"  # the static list, as a predictor
LEAST = 3  # places that an order needs

PREDICTIONS = table_schema(
    *GROUP[:1],
    ("arm", TEXT, "AnB or AnB+"),
    ("predictor", TEXT, "name of the score; `smaller n` is the static list"),
    (
        "comparison",
        TEXT,
        "over_n: order of the n of one source and target; over_n_less_static: that, less the tau "
        "of the static list; within_n: order at one n, averaged over n, of the sources of one "
        "target or, for halves, of sources and targets",
    ),
    *GROUP[1:],
    ("tau", REAL, "mean of Kendall's tau-b with the metric on the test set, or their difference"),
    *INTERVAL,
)

Scores = Mapping[str, Mapping[int | None, float]]


class Sample(NamedTuple):
    """A transfer: its accuracy, and the scores of what it copied."""

    cell: Cell
    id: str
    n: int
    accuracy: float
    scores: Scores

    def score(self, predictor: str) -> float | None:
        """Return a score; one that has no layer holds for every n."""
        if predictor == STATIC:
            return -self.n
        of_layer = self.scores.get(predictor, {})
        return of_layer.get(self.n, of_layer.get(None))


def predictions(networks: Iterable[Network], trials: pa.Table, measurements: pa.Table) -> pa.Table:
    """Return the rank correlations of every predictor by group and arm: `PREDICTIONS`.

    A predictor that gives equal scores to all has no correlation, and no row. Intervals are over
    splits, or draws of named tasks; those of `within_n` of halves by the jackknife, which leaves
    out one split at a time, since a split has too few targets for an order of its own. Each
    direction to a target has the target's row of `within_n`.
    """
    samples: dict[tuple[Group, str], list[Sample]] = defaultdict(list)
    choices: dict[tuple[Any, ...], list[Sample]] = defaultdict(list)
    scores = _scores(measurements)
    places = _places(trials)
    for x in networks:
        if x.arm in ARMS and places.get(x.id) in scores:
            sample = Sample(x.cell, x.id, x.n, x.value, scores[places[x.id]])
            samples[x.cell.group, x.arm].append(sample)
            choices[_choice(sample), x.arm].append(sample)
    rows = []
    for (group, arm), some in samples.items():
        names = list(dict.fromkeys(name for sample in some for name in sample.scores))
        over_n = {name: _over_n(some, name) for name in (*names, STATIC)}
        static = {value.cell: value for value in over_n[STATIC]}
        for name, values in over_n.items():
            family = len(names)
            own = {"arm": arm, "predictor": name} | group._asdict()
            against = [_less(x, static[x.cell]) for x in values if x.cell in static]
            parts = {"over_n": values, "over_n_less_static": [] if name == STATIC else against}
            for comparison, numbers in parts.items():
                if numbers:
                    tau, bounds = interval(numbers, family)
                    rows.append(own | {"comparison": comparison, "tau": tau} | bounds)
            choice = choices[_choice(some[0]), arm]
            order = _of_sources if is_direction(group.division) else _within_n
            if name != STATIC and (row := order(choice, name, family)):
                rows.append(own | {"comparison": "within_n"} | row)
    return pa.Table.from_pylist(rows, schema=PREDICTIONS)


def _choice(sample: Sample) -> Group:
    """Return the group of what there is to choose from: all directions to a target are one."""
    group = sample.cell.group
    if not is_direction(group.division):
        return group
    return group._replace(division=f"to {sample.cell.target}")


def _scores(measurements: pa.Table) -> dict[tuple[str, str], Scores]:
    """Return the scores by source and task, then by name and layer."""
    scores: dict[tuple[str, str], dict[str, dict[int | None, float]]] = {}
    for row in measurements.to_pylist():
        if row["measure"] == "predictors" and row["value"] is not None:
            of_pair = scores.setdefault((row["trial"], row["task"]), {})
            of_pair.setdefault(row["quantity"], {})[row["layer"]] = row["value"]
    return scores  # type: ignore[return-value]


def _places(trials: pa.Table) -> dict[str, tuple[str, str]]:
    """Return source and task of the transfers, by id."""
    rows = trials.select(["id", "parent", "training", "treatment"]).to_pylist()
    return {
        row["id"]: (row["parent"], digest(json.loads(row["training"])["target"]))
        for row in rows
        if row["treatment"] == "transfer" and row["training"]
    }


def tau(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return Kendall's tau-b of pairs; None below three pairs, or where one side is constant."""
    from scipy.stats import kendalltau

    if len(pairs) < LEAST:
        return None
    statistic = float(kendalltau(*zip(*pairs, strict=True)).statistic)
    return None if math.isnan(statistic) else statistic


def _tau_of(samples: Iterable[Sample], predictor: str) -> float | None:
    pairs = [(x.score(predictor), x.accuracy) for x in samples]
    return tau([(score, accuracy) for score, accuracy in pairs if score is not None])


def _by(samples: Iterable[Sample], key: Callable[[Sample], Any]) -> dict[Any, list[Sample]]:
    groups: dict[Any, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[key(sample)].append(sample)
    return groups


def _over_n(samples: Sequence[Sample], predictor: str) -> list[Value]:
    """Return the correlation over n of each source and target."""
    return [
        Value(cell, number, frozenset(x.id for x in some))
        for cell, some in _by(samples, lambda x: x.cell).items()
        if (number := _tau_of(some, predictor)) is not None
    ]


def _less(value: Value, other: Value) -> Value:
    return Value(value.cell, value.value - other.value, value.trials | other.trials)


def _mean_within_n(samples: Iterable[Sample], predictor: str) -> float | None:
    taus = [_tau_of(some, predictor) for some in _by(samples, lambda x: x.n).values()]
    known = [number for number in taus if number is not None]
    return fmean(known) if known else None


def _within_n(samples: Sequence[Sample], predictor: str, family: int) -> dict[str, Any] | None:
    """Return the mean correlation within each n, with an interval by the jackknife over splits."""
    whole = _mean_within_n(samples, predictor)
    if whole is None:
        return None
    splits = _by(samples, lambda x: x.cell.split)
    values = []
    for split, some in splits.items():
        rest = [x for x in samples if x.cell.split != split]
        part = _mean_within_n(rest, predictor)
        if part is None:
            return None
        number = len(splits) * whole - (len(splits) - 1) * part
        values.append(Value(some[0].cell, number, frozenset(x.id for x in some)))
    mean, bounds = interval(values, family)
    ends = ("low", "high", "low_simultaneous", "high_simultaneous")
    shifted = {x: None if bounds[x] is None else bounds[x] + whole - mean for x in ends}
    return {"tau": whole} | bounds | shifted


def _of_sources(samples: Sequence[Sample], predictor: str, family: int) -> dict[str, Any] | None:
    """Return the mean correlation over the sources of a target, each at one n, draw and seed."""
    values = []
    for some in _by(samples, lambda x: (x.cell.split, x.cell.seed)).values():
        number = _mean_within_n(some, predictor)
        if number is not None:
            ids = frozenset(x.id for x in some)
            values.append(Value(some[0].cell._replace(division=""), number, ids))
    if not values:
        return None
    mean, bounds = interval(values, family)
    return {"tau": mean} | bounds
