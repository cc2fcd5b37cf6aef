"""The figure of accuracy against the time of one network: a panel per number of images."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from orchestrator.plan.conditions import readable
from orchestrator.report import charts
from orchestrator.report.charts import Frame, Panel, Row, span, stack
from orchestrator.stats.measurements import ARMS, WITHOUT_LAYERS, Network

Names = dict[tuple[str, str | None], str]  # of a way, by arm and condition


def accuracy_by_cost(networks: Sequence[Network], seconds: Mapping[str, float]) -> list[Panel]:
    """Draw mean accuracy over the median seconds of one network, a line per way to use n layers.

    `networks` are of one division and of any condition, `seconds` the time of each by id. With
    fewer than two ways beside the bases there is no figure.
    """
    by_limit: dict[int | None, list[Network]] = defaultdict(list)
    for network in networks:
        if network.id in seconds:
            by_limit[network.images_per_class].append(network)
    names = names_of_ways(networks)
    if sum(arm not in WITHOUT_LAYERS for arm, _ in names) < 2:
        return []
    inks = _inks(list(dict.fromkeys(names.values())))
    panels = []
    for limit in sorted(by_limit, key=lambda limit: math.inf if limit is None else limit):
        images = "all images" if limit is None else f"{limit} images of each class"
        rows = _rows(by_limit[limit], seconds, names, inks)
        panels.append(Panel(f"Accuracy, %, by seconds of one network, {images}", _chart(rows)))
    return panels


def _inks(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each way: that of its arm, as in other figures, if all are arms."""
    if all(name in charts.COLOURS for name in names):
        return {name: charts.COLOURS[name] for name in names}
    return dict(zip(names, charts.SERIES * len(names), strict=False))


def names_of_ways(networks: Sequence[Network]) -> Names:
    """Return a name for every arm and condition: `AnB`, or `AnB, logistic (none)`.

    Conditions with the same networks of an arm share a name, with the settings that they have in
    common. Settings that switch something off are left out, unless names would then be equal.
    """
    ids: dict[tuple[str, str | None], set[str]] = defaultdict(set)
    for network in networks:
        ids[network.arm, network.condition].add(network.id)
    common = {}
    for (arm, condition), own in ids.items():
        shared = [
            json.loads(c or "{}") for (a, c), other in ids.items() if (a, other) == (arm, own)
        ]
        alike = {k: v for k, v in shared[0].items() if all(s.get(k) == v for s in shared)}
        common[arm, condition] = alike
    short = {place: ", ".join([place[0], *_switched_on(x)]) for place, x in common.items()}
    full = {place: f"{place[0]}, {readable(json.dumps(x))}" for place, x in common.items()}
    members = {
        name: {frozenset(ids[p]) for p in short if short[p] == name} for name in short.values()
    }
    names = {
        place: short[place] if len(members[short[place]]) == 1 else full[place] for place in ids
    }
    return dict(sorted(names.items(), key=lambda item: (ARMS.index(item[0][0]), item[1])))


def _switched_on(settings: Mapping[str, Any]) -> list[str]:
    """Return the settings that are not off: `logistic (none)`, `fresh_first=0.5`."""
    on = {k: v for k, v in settings.items() if v and v != "none"}
    return [v if isinstance(v, str) else f"{k.rpartition('.')[2]}={v}" for k, v in on.items()]


def _rows(
    networks: Sequence[Network],
    seconds: Mapping[str, float],
    names: Mapping[tuple[str, str | None], str],
    inks: Mapping[str, str],
) -> list[Row]:
    """Return a mark per name and n, in the order of n."""
    marks: dict[tuple[str, int], dict[str, Network]] = defaultdict(dict)
    for network in networks:
        marks[names[network.arm, network.condition], network.n][network.id] = network
    rows = []
    for (name, n), of_mark in sorted(marks.items(), key=lambda item: item[0][1]):
        look = charts.style(name.partition(",")[0], name) | {
            "colour": inks[name],
            "ink": charts.INK.get(inks[name], inks[name]),
        }
        taken = median(seconds[id] for id in of_mark)
        values = {"y": 100 * fmean(x.value for x in of_mark.values()), "seconds": taken}
        rows.append(look | values | {"n": n, "networks": len(of_mark)})
    return rows


def _chart(rows: list[Row]) -> Any:
    times = [row["seconds"] for row in rows]
    low, high = min(times) / 1.3, max(times) * 1.3
    ticks = [m * 10.0**k for k in range(-3, 7) for m in (1, 2, 5) if low <= m * 10.0**k <= high]
    frame = Frame(
        (low, high),
        span(row["y"] for row in rows),
        across_label="seconds of one network, without its source",
        across_ticks=ticks or [low, high],
        across_text="format(datum.value, '~g')",
    )
    hover = {"label": "way", "n": "n", "y": "accuracy, %", "seconds": "seconds"}
    return stack(
        charts.curves(rows, frame, x="seconds", along="n"),
        charts.texts([row for row in rows if row["n"]], frame, "n", x="seconds"),
        charts.points(rows, frame, hover | {"networks": "networks"}, x="seconds"),
        charts.labels(rows, frame, x="seconds"),
    )
