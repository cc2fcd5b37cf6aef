"""Gain of a searched schedule on held-out networks, which the search never saw. Pure: no disk."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pyarrow as pa

from orchestrator.states import State
from orchestrator.stats.effects import POPULATION, SWEEP, table_schema
from orchestrator.stats.intervals import INTERVAL, interval
from orchestrator.stats.measurements import Cell, Value, arm, division_of
from orchestrator.store.schemas import INT, REAL, TEXT
from trainers.config import unsearched_id

TOGETHER = "fine-tuned"  # BnB+ and AnB+, which share a schedule

HELD_OUT = table_schema(
    SWEEP,
    *POPULATION,
    ("study", TEXT, "id of the study that chose the schedule"),
    ("arm", TEXT, "BnB+, AnB+, base_long, or fine-tuned: BnB+ and AnB+ together"),
    ("n", INT, "number of first layers that are copied; 0 for all n together"),
    ("estimate", REAL, "mean test top-1 with the searched schedule less that with the sweep's own"),
    *INTERVAL,
    ("n_pairs", INT, "pairs of networks that differ in nothing but the schedule"),
)


def held_out(members: pa.Table, trials: pa.Table) -> pa.Table:
    """Compare searched schedules with the sweep's own, over complete pairs: `HELD_OUT`.

    A pair is two networks that differ in nothing but the schedule. The one with the sweep's own
    schedule need not be a member.
    """
    columns = ["id", "outcome", "top1", "study", "training"]
    rows = {
        row["id"]: row
        for row in trials.select(columns).to_pylist()
        if row["outcome"] == State.COMPLETE and row["top1"] is not None
    }
    groups: dict[tuple[Any, ...], list[Value]] = defaultdict(list)
    for member in members.to_pylist():
        row = rows.get(member["id"])
        if row is None or row["study"] is None:
            continue
        own = rows.get(unsearched_id(row["training"]))
        if own is None:
            continue
        names = ("split", "target", "seed")
        population = (member["condition"], division_of(member), member["images_per_class"])
        labels = (member["sweep"], *population)
        cell = Cell(*labels, "top1", *(member[name] for name in names))
        value = Value(cell, row["top1"] - own["top1"], frozenset((row["id"], own["id"])))
        name, n = arm(member["treatment"], member["frozen"]), member["n"]
        for part in {(name, n), (name, 0), *([(TOGETHER, 0), (TOGETHER, n)] if n else [])}:
            groups[(*labels, row["study"], *part)].append(value)
    layers = Counter(key[:-1] for key in groups if key[-1] > 0)
    gains = []
    for key, values in groups.items():
        family = layers[key[:-1]] if key[-1] > 0 else 1
        estimate, bounds = interval(values, family)
        named = dict(zip(HELD_OUT.names, key, strict=False))
        gains.append(named | {"estimate": estimate} | bounds | {"n_pairs": len(values)})
    gains.sort(key=lambda row: [str(row[name]) for name in HELD_OUT.names[:6]] + [row["n"]])
    return pa.Table.from_pylist(gains, schema=HELD_OUT)
