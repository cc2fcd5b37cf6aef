"""Does transfer speed learning up? Steps to the base's final accuracy, area under the curve. Pure.

The goal of a network is the validation top-1 that its target's own base had after its last step. A
network that never reached it is censored: it counts as slower than every other, never as missing.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa

from orchestrator.stats import (
    ARM,
    ARMS,
    INTERVAL,
    LAYERS,
    SWEEP,
    Cell,
    Value,
    cell_of,
    differences,
    interval,
    measurements,
    table_schema,
)
from orchestrator.tables import INT, REAL, TEXT

SPEED = table_schema(
    SWEEP,
    ("id", TEXT, "the trial"),
    ("name", TEXT, "its readable name in this sweep"),
    ("split", TEXT, "name of the split"),
    ("target", TEXT, "half that the network is trained on"),
    ARM,
    LAYERS,
    ("seed", INT, "seed of the training"),
    ("goal", REAL, "validation top-1 of its target's base after the base's last step"),
    ("steps", INT, "first evaluation that reached the goal; null where none did"),
    ("area", REAL, "mean validation top-1 over the base's steps: area under the curve / steps"),
)
SPEEDS = table_schema(
    SWEEP,
    ARM,
    LAYERS,
    ("steps", REAL, "median steps to the goal; null where half or more never reached it"),
    ("n_never", INT, "networks that never reached it"),
    ("area_gain", REAL, "mean difference of `area` to the own base"),
    *INTERVAL,
)


def speed(members: pa.Table, trials: pa.Table, curves: pa.Table) -> pa.Table:
    """When each network reached its base's final validation top-1; the schema is `SPEED`.

    Networks without a base or without a curve are left out.
    """
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in curves.select(["id", "step", "val_top1"]).to_pylist():
        points[row["id"]].append((row["step"], row["val_top1"]))
    networks = measurements(members, trials)
    bases = {cell_of(x): x for x in networks if x.arm == "base" and x.id in points}
    rows = []
    for x in networks:
        if x.id not in points or (base := bases.get(cell_of(x))) is None:
            continue
        last = max(step for step, _ in points[base.id])
        curve = sorted(points[x.id])
        labels = {name: getattr(x, name) for name in SPEED.names[: SPEED.names.index("goal")]}
        reached = next((step for step, top1 in curve if top1 >= base.val_top1), None)
        rows.append(
            labels
            | {"goal": base.val_top1, "steps": reached}
            | {"area": _mean_height([(0, 1 / x.classes), *curve], last)}
        )
    return pa.Table.from_pylist(rows, schema=SPEED)


def speeds(table: pa.Table) -> pa.Table:
    """`speed` summarised per sweep, arm and n; the schema is `SPEEDS`."""
    cells: dict[Cell, dict[tuple[str, int], list[Value]]] = defaultdict(lambda: defaultdict(list))
    reached: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for row in table.to_pylist():
        cell = Cell(row["sweep"], row["split"], row["target"], row["seed"])
        cells[cell][row["arm"], row["n"]].append(Value(cell, row["area"], frozenset([row["id"]])))
        steps = math.inf if row["steps"] is None else row["steps"]
        reached[row["sweep"], row["arm"], row["n"]].append(steps)
    gains = {name: differences(cells, name, "base") for name in ARMS}
    layers = Counter((sweep, name) for sweep, name, _ in reached)
    summary = []
    for (sweep, name, n), steps in reached.items():
        gain, bounds = interval(gains[name][sweep, n], layers[sweep, name])
        ordered = sorted(steps)
        middle = (ordered[(len(steps) - 1) // 2] + ordered[len(steps) // 2]) / 2
        summary.append(
            {"sweep": sweep, "arm": name, "n": n, "steps": middle if middle < math.inf else None}
            | {"n_never": steps.count(math.inf), "area_gain": gain}
            | bounds
            | {"n_networks": len(steps)}
        )
    return pa.Table.from_pylist(summary, schema=SPEEDS)


def _mean_height(curve: list[tuple[int, float]], last: int) -> float:
    """Mean of a curve over steps 0 to `last`, by trapezoids; one that ends before keeps its height.

    Step 0 stands at chance: the output layer is fresh in every treatment.
    """
    steps, heights = np.array(curve, dtype=float).T
    grid = np.array([*steps[steps < last], last])
    height = np.interp(grid, steps, heights)
    return float(np.sum(np.diff(grid) * (height[1:] + height[:-1]) / 2) / last)
