"""Means of what was measured of networks, with intervals: weights, losses, similarities. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from orchestrator.stats.effects import ARM, GROUP, LAYERS, table_schema
from orchestrator.stats.intervals import INTERVAL, interval
from orchestrator.stats.measurements import Group, Network, Value
from orchestrator.store.schemas import INT, REAL, TEXT

START, TARGET, SOURCE = "start", "base of the target", "base of the source"
CHANGE = "change"  # distance from the start, divided by the norm there

COMPARISONS = table_schema(
    *GROUP[:1],
    ARM,
    LAYERS,
    ("against", TEXT, "what the network is compared with: start, or a base of target or source"),
    (
        "quantity",
        TEXT,
        "as in measurements; change is the distance of a layer's weights divided by their norm at "
        "the start",
    ),
    ("layer", INT, "number of the layer; null for a value of the whole network"),
    ("position", REAL, "place on the line: 0 is the base of the target, 1 the network"),
    *GROUP[1:],
    ("value", REAL, "mean over networks"),
    *INTERVAL,
)

Row = Mapping[str, Any]


class Place(NamedTuple):
    """Values that are averaged."""

    group: Group
    arm: str
    n: int
    against: str
    quantity: str
    layer: int | None
    position: float | None


def comparisons(
    networks: Iterable[Network], parents: Mapping[str, str | None], measurements: pa.Table
) -> pa.Table:
    """Return the mean of every value of `measurements` but the predictors: `COMPARISONS`.

    `parents` has the id of what each member copies layers of. Comparisons with networks that are no
    members are left out, and so are values that are not finite. The arm `base` against the base of
    the source compares both bases.
    """
    by_id: dict[str, list[Network]] = defaultdict(list)
    for x in networks:
        by_id[x.id].append(x)
    places: dict[Place, list[Value]] = defaultdict(list)
    for row in _with_changes(measurements.to_pylist()):
        for x in by_id.get(row["trial"], ()):
            against = _against(row, x.arm, parents)
            if against and math.isfinite(row["value"]):
                where = (against, row["quantity"], row["layer"], row["position"])
                place = Place(x.cell.group, x.arm, x.n, *where)
                places[place].append(Value(x.cell, row["value"], frozenset([x.id])))
    layers = Counter(place._replace(n=0) for place in places)
    rows = []
    for place, values in places.items():
        mean, bounds = interval(values, layers[place._replace(n=0)])
        own = place._asdict() | place.group._asdict()
        del own["group"]
        rows.append(own | {"value": mean} | bounds)
    rows.sort(key=lambda row: (row["against"], row["quantity"], row["n"], row["layer"] or 0))
    return pa.Table.from_pylist(rows, schema=COMPARISONS)


def _with_changes(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the rows, and the change of every layer whose weights had a norm at the start."""
    parts: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for row in rows:
        if row["measure"] != "predictors":
            yield row
        if row["measure"] == "weights":
            of_layer = parts[row["id"], row["layer"]]
            of_layer[row["quantity"]] = row["value"]
            is_whole = len(of_layer) == 3  # distance, norm and cosine
            if is_whole and of_layer["norm"]:
                change = of_layer["distance"] / of_layer["norm"]
                yield {**row, "quantity": CHANGE, "value": change}


def _against(row: Row, arm: str, parents: Mapping[str, str | None]) -> str | None:
    """Return what a network is compared with; None for what is no member."""
    if row["measure"] == "weights":
        return START
    if row["other"] not in parents:
        return None
    is_source = arm == "base" or (arm.startswith("A") and row["other"] == parents[row["trial"]])
    return SOURCE if is_source else TARGET
