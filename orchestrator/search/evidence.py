"""What the schedule that a search chose is worth on cells that it never saw. Pure: no disk."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from typing import Any

import pyarrow as pa

from orchestrator.comparisons import Cell, Value, arm, division_of
from orchestrator.intervals import INTERVAL, interval
from orchestrator.stats import SWEEP, table_schema
from orchestrator.tables import INT, REAL, TEXT
from trainers.config import from_json

TOGETHER = "fine-tuned"  # BnB+ and AnB+, which share a schedule

HELD_OUT = table_schema(
    SWEEP,
    ("division", TEXT, "the population that the splits are drawn from"),
    ("images_per_class", INT, "training images of each class of the target; null where all"),
    ("study", TEXT, "id of the study that chose the schedule"),
    ("arm", TEXT, "BnB+, AnB+, base_long, or fine-tuned: BnB+ and AnB+ together"),
    ("n", INT, "how many first layers are copied; 0 for all n together"),
    ("estimate", REAL, "mean test top-1 with the searched schedule less that with the sweep's own"),
    *INTERVAL,
    ("n_pairs", INT, "pairs of networks that differ in nothing but the schedule"),
)


def unsearched(training: str) -> str:
    """The id of the same training with its own schedule, from a row's `training`."""
    return dataclasses.replace(from_json(training), schedule_from=None).id


def held_out(members: pa.Table, trials: pa.Table) -> pa.Table:
    """Searched schedules against the sweeps' own, over pairs that are both complete: `HELD_OUT`."""
    columns = ["id", "outcome", "top1", "study", "training"]
    rows = {
        row["id"]: row
        for row in trials.select(columns).to_pylist()
        if row["outcome"] == "complete" and row["top1"] is not None
    }
    groups: dict[tuple[Any, ...], list[Value]] = defaultdict(list)
    for member in members.to_pylist():
        row = rows.get(member["id"])
        if row is None or row["study"] is None:
            continue
        own = rows.get(unsearched(row["training"]))
        if own is None:
            continue
        names = ("split", "target", "seed")
        labels = (member["sweep"], division_of(member), member["images_per_class"])
        cell = Cell(*labels, "top1", *(member[name] for name in names))
        value = Value(cell, row["top1"] - own["top1"], frozenset((row["id"], own["id"])))
        name, n = arm(member["treatment"], member["frozen"]), member["n"]
        for part in {(name, n), (name, 0), *([(TOGETHER, 0), (TOGETHER, n)] if n else [])}:
            groups[(*labels, row["study"], *part)].append(value)
    layers = Counter(key[:-1] for key in groups if key[-1] > 0)
    found = []
    for key, values in groups.items():
        family = layers[key[:-1]] if key[-1] > 0 else 1
        estimate, bounds = interval(values, family)
        named = dict(zip(HELD_OUT.names, key, strict=False))
        found.append(named | {"estimate": estimate} | bounds | {"n_pairs": len(values)})
    found.sort(key=lambda row: [str(row[name]) for name in HELD_OUT.names[:5]] + [row["n"]])
    return pa.Table.from_pylist(found, schema=HELD_OUT)
