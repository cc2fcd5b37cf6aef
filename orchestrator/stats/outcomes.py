"""Trials that ended without a result, and what the others cost, from the view `results`. Pure."""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.states import State
from orchestrator.stats.effects import LAYERS, SWEEP, table_schema
from orchestrator.store.schemas import INT, OF_MEMBERS, REAL, TEXT, YES

_FAILURE = (
    *("sweep", "id", "name", "outcome", "error_type", "error_step", "error_message"),
    *("treatment", "n", "frozen", "split", "target", "seed", "condition", "images_per_class"),
    *("retries", "host", "started", "ended", "error_traceback"),
)
FAILURES = pa.schema([OF_MEMBERS.field(name) for name in _FAILURE])

COST = table_schema(
    SWEEP,
    ("treatment", TEXT, "base, base_long, selffer, transfer, random, pixels, stitched, …"),
    ("frozen", YES, "the first n layers are held fixed"),
    LAYERS,
    ("networks", INT, "complete networks, each once"),
    ("images", INT, "training images seen by all of them, repeats counted"),
    ("seconds", REAL, "wall time of their last attempts, with loading and evaluation"),
    ("seconds_each", REAL, "median of these times"),
    ("cpu_hours", REAL, "these hours times requested CPUs"),
    ("gpu_hours", REAL, "these hours times requested GPUs"),
    ("images_per_second", REAL, "median training images per second of one network"),
    ("peak_memory_bytes", INT, "largest peak of memory: the GPU's, or the process's on a CPU"),
    ("retries", INT, "attempts beyond the first"),
)


def failures(results: pa.Table) -> pa.Table:
    """Return the rows of `results` that are not complete: failed, lost or skipped."""
    failed = results.filter(pc.not_equal(results["outcome"], State.COMPLETE.value))
    return failed.select(FAILURES.names).cast(FAILURES)


def cost(results: pa.Table) -> pa.Table:
    """Return time and memory by sweep, treatment and n; the schema is `COST`."""
    groups: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = defaultdict(dict)
    columns = ["sweep", "treatment", "frozen", "n", "id", "outcome", "images", "seconds_total"]
    columns += ["cpu", "gpu", "images_per_second", "peak_memory_bytes", "retries"]
    for row in results.select(columns).to_pylist():
        if row["outcome"] == State.COMPLETE:
            groups[row["sweep"], row["treatment"], row["frozen"], row["n"]][row["id"]] = row
    rows = [
        dict(zip(("sweep", "treatment", "frozen", "n"), key, strict=True))
        | _costs(list(members.values()))
        for key, members in groups.items()
    ]
    rows.sort(key=lambda row: (row["sweep"], row["treatment"], not row["frozen"], row["n"]))
    return pa.Table.from_pylist(rows, schema=COST)


def _costs(rows: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = [row["seconds_total"] or 0.0 for row in rows]
    rates = [row["images_per_second"] for row in rows if row["images_per_second"]]

    def hours(column: str) -> float:
        amounts = ((row[column] or 0.0) * time for row, time in zip(rows, seconds, strict=True))
        return sum(amounts) / 3600

    return {
        "networks": len(rows),
        "images": sum(row["images"] or 0 for row in rows),
        "seconds": sum(seconds),
        "seconds_each": median(seconds),
        "cpu_hours": hours("cpu"),
        "gpu_hours": hours("gpu"),
        "images_per_second": median(rates) if rates else None,
        "peak_memory_bytes": max((row["peak_memory_bytes"] or 0 for row in rows), default=0),
        "retries": sum(row["retries"] or 0 for row in rows),
    }
