"""From how many images per class fine-tuning overtakes a classifier on features. Pure.

Both use the first n layers of the same source, in the same split, target and seed; their conditions
differ. The numbers of images are tested in a fixed sequence from the largest down, each by its 95 %
interval, and the sequence ends with the first interval that does not lie above zero. So the
probability of naming one number too many is at most the level, for all of them together (Maurer,
Hothorn and Lehmacher 1995). The largest is first because fine-tuning is expected to win there, and
because "from k images on" is said of every larger number too.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Container, Sequence
from typing import Any

import pyarrow as pa

from orchestrator.stats.effects import METRIC, SWEEP, table_schema
from orchestrator.stats.intervals import INTERVAL, interval
from orchestrator.stats.measurements import Cell, Measured, Value, difference
from orchestrator.store.schemas import INT, REAL, TEXT, YES

OVERTAKING = table_schema(
    SWEEP,
    ("division", TEXT, "splits that are pooled: random, drawn, …; or one split by its own name"),
    METRIC,
    ("tuned", TEXT, "condition of the fine-tuned networks (AnB+), as JSON; null if none"),
    ("classifier", TEXT, "condition of the classifiers on features (AnB), as JSON; null if none"),
    ("n", INT, "number of first layers that are copied"),
    ("images_per_class", INT, "training images of each class of the target; null for all"),
    ("estimate", REAL, "mean of fine-tuned less classifier, paired, as a fraction"),
    *INTERVAL,
    ("is_better", YES, "fine-tuned is shown to be better with these images and with all more"),
)
PLACE = ("sweep", "division", "metric")
TUNED, FITTED = "AnB+", "AnB"

Place = tuple[str, str, str]  # sweep, division and metric
Way = tuple[str | None, int]  # condition and n
Ways = dict[Way, dict[Cell, list[Value]]]  # values by cell, without its condition


def overtaking(measured: Sequence[Measured], classifiers: Container[str]) -> pa.Table:
    """Return the differences of each pair of ways, by n and images per class: `OVERTAKING`.

    `classifiers` has the ids of classifiers on features. Networks that are members under several
    conditions stand under the first one.
    """
    tuned: dict[Place, Ways] = defaultdict(dict)
    fitted: dict[Place, Ways] = defaultdict(dict)
    seen: set[tuple[Cell, str]] = set()
    for x, number in measured:
        is_classifier = x.id in classifiers
        if (x.arm, is_classifier) not in ((TUNED, False), (FITTED, True)):
            continue
        cell = x.cell._replace(condition=None)
        if (cell, x.id) in seen:
            continue
        seen.add((cell, x.id))
        ways = (fitted if is_classifier else tuned)[x.sweep, x.division, x.metric]
        values = ways.setdefault((x.condition, x.n), {}).setdefault(cell, [])
        values.append(Value(cell, number, frozenset([x.id])))
    rows: list[dict[str, Any]] = []
    for place, some in tuned.items():
        for (one, n), minuend in some.items():
            for (other, m), subtrahend in fitted[place].items():
                if n == m:
                    pair = {"tuned": one, "classifier": other, "n": n}
                    labels = dict(zip(PLACE, place, strict=True))
                    rows += _sequence(minuend, subtrahend, {**labels, **pair})
    return pa.Table.from_pylist(rows, schema=OVERTAKING)


def _sequence(
    minuend: dict[Cell, list[Value]], subtrahend: dict[Cell, list[Value]], labels: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the differences of two ways, from few images to many, and where the first wins."""
    values: dict[int | None, list[Value]] = defaultdict(list)
    for cell in minuend.keys() & subtrahend.keys():
        first, second = minuend[cell], subtrahend[cell]
        trials = frozenset().union(*(x.trials for x in first + second))
        values[cell.images_per_class].append(Value(cell, difference(first, second), trials))
    rows, is_better = [], True
    for limit in sorted(values, key=lambda x: math.inf if x is None else x, reverse=True):
        pairs = sorted(values[limit], key=lambda value: value.cell[5:])
        mean, bounds = interval(pairs, 1)
        is_better = is_better and bounds["low"] is not None and bounds["low"] > 0
        rows.append(
            labels | {"images_per_class": limit, "estimate": mean, "is_better": is_better} | bounds
        )
    return rows[::-1]
