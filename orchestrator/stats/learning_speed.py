"""Learning speed: steps to the base's final accuracy, and area under the curve. Pure: no disk.

The goal of a network is the validation top-1 that its target's own base had after its last step. A
network that never reached it is censored: it counts as slower than every other, never as missing.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.stats.effects import ARM, LAYERS, POPULATION, SWEEP, table_schema
from orchestrator.stats.intervals import INTERVAL, interval
from orchestrator.stats.measurements import (
    ARMS,
    ONE_CLASS,
    Cell,
    Group,
    Network,
    Value,
    differences,
)
from orchestrator.store.schemas import INT, REAL, TEXT

SPEED = table_schema(
    SWEEP,
    *POPULATION,
    ("id", TEXT, "id of the trial"),
    ("name", TEXT, "its readable name in this sweep"),
    ("split", TEXT, "name of the split"),
    ("target", TEXT, "half that the network is trained on"),
    ARM,
    LAYERS,
    ("seed", INT, "seed of the training"),
    ("goal", REAL, "validation top-1 of its target's base after the base's last step"),
    ("steps", INT, "step of the first evaluation that reached the goal; null if none did"),
    ("area", REAL, "mean validation top-1 over the base's steps: area under the curve / steps"),
)
SPEEDS = table_schema(
    SWEEP,
    ARM,
    LAYERS,
    *POPULATION,
    ("steps", REAL, "median steps to the goal; null if half or more never reached it"),
    ("n_never", INT, "networks that never reached the goal"),
    ("area_gain", REAL, "mean difference of `area` to the own base"),
    *INTERVAL,
)


def speed(networks: Iterable[Network], curves: pa.Table) -> pa.Table:
    """Return the step at which each network reached its base's final validation top-1: `SPEED`.

    Networks without a base or without a curve are left out. So is one class against the rest:
    validation top-1 says little of it.
    """
    points = _points(curves)
    networks = [x for x in networks if x.metric not in ONE_CLASS and x.val_top1 is not None]
    bases = {x.cell: x for x in networks if x.arm == "base" and x.id in points}
    rows = []
    for x in networks:
        if x.id not in points or (base := bases.get(x.cell)) is None:
            continue
        last = points[base.id][-1][0]
        curve = points[x.id]
        labels = {name: getattr(x, name) for name in SPEED.names[: SPEED.names.index("goal")]}
        assert base.val_top1 is not None
        reached = next((step for step, top1 in curve if top1 >= base.val_top1), None)
        rows.append(
            labels
            | {"goal": base.val_top1, "steps": reached}
            | {"area": _mean_height([(0, 1 / x.classes), *curve], last)}
        )
    return pa.Table.from_pylist(rows, schema=SPEED)


def _points(curves: pa.Table) -> dict[str, list[tuple[int, float]]]:
    """Return steps and validation top-1 of each curve by trial, in the order of the steps."""
    known = curves.filter(pc.and_(pc.is_valid(curves["step"]), pc.is_valid(curves["val_top1"])))
    names = pc.dictionary_encode(known["id"]).combine_chunks()
    codes, steps, top1 = (
        np.asarray(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)
        for column in (names.indices, known["step"], known["val_top1"])
    )
    order = np.lexsort((top1, steps, codes))
    ends = np.cumsum(np.bincount(codes, minlength=len(names.dictionary)))
    points, start = {}, 0
    for id, end in zip(names.dictionary.to_pylist(), ends.tolist(), strict=True):
        of_trial = order[start:end]
        points[id] = list(zip(steps[of_trial].tolist(), top1[of_trial].tolist(), strict=True))
        start = end
    return points


def speeds(table: pa.Table) -> pa.Table:
    """Return a summary of `speed` per group, arm and n; the schema is `SPEEDS`."""
    cells: dict[Cell, dict[tuple[str, int], list[Value]]] = defaultdict(lambda: defaultdict(list))
    reached: dict[tuple[Group, str, int], list[float]] = defaultdict(list)
    for row in table.to_pylist():
        cell = Cell(**{name: row.get(name, "top1") for name in Cell._fields})
        cells[cell][row["arm"], row["n"]].append(Value(cell, row["area"], frozenset([row["id"]])))
        steps = math.inf if row["steps"] is None else row["steps"]
        reached[cell.group, row["arm"], row["n"]].append(steps)
    gains = {name: differences(cells, name, "base") for name in ARMS}
    layers = Counter((group, name) for group, name, _ in reached)
    summary = []
    for (group, name, n), steps in reached.items():
        gain, bounds = interval(gains[name][group, n], layers[group, name])
        ordered = sorted(steps)
        middle = (ordered[(len(steps) - 1) // 2] + ordered[len(steps) // 2]) / 2
        labels = {key: value for key, value in group._asdict().items() if key != "metric"}
        summary.append(
            labels
            | {"arm": name, "n": n, "steps": middle if middle < math.inf else None}
            | {"n_never": steps.count(math.inf), "area_gain": gain}
            | bounds
            | {"n_networks": len(steps)}
        )
    return pa.Table.from_pylist(summary, schema=SPEEDS)


def _mean_height(curve: list[tuple[int, float]], last: int) -> float:
    """Return the mean of a curve over steps 0 to `last`, by trapezoids.

    A curve that ends earlier keeps its last height. Step 0 stands at chance: the output layer is
    fresh in every treatment.
    """
    steps, heights = np.array(curve, dtype=float).T
    grid = np.array([*steps[steps < last], last])
    height = np.interp(grid, steps, heights)
    return float(np.sum(np.diff(grid) * (height[1:] + height[:-1]) / 2) / last)
