"""Tables of the ways to use n layers: what each costs, and where one overtakes another. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from orchestrator.report.by_cost import Names, names_of_ways
from orchestrator.report.wording import bounds, half_width, percent, points, si
from orchestrator.stats.measurements import Network
from orchestrator.stats.overtaking import FITTED, TUNED

Rows = Sequence[Mapping[str, Any]]
Limit = int | None  # images per class; None for all


@dataclass(frozen=True)
class Listing:
    """A table with a name and n on each line, and a cell (text, small text) per column."""

    headings: list[str]
    lines: list[tuple[str, str, list[tuple[str, str]]]]


def cost_listing(networks: Sequence[Network], trials: Rows) -> Listing:
    """Return accuracy, median seconds and peak memory by way, n and number of images.

    `trials` are rows with `id`, `seconds_total` and `peak_memory_bytes`. On a CPU, the peak is that
    of a process, which may have trained larger networks before: the least one counts.
    """
    names, costs = names_of_ways(networks), {row["id"]: row for row in trials}
    cells: dict[tuple[str, int], dict[Limit, dict[str, Network]]] = defaultdict(dict)
    for x in networks:
        of_place = cells[names[x.arm, x.condition], x.n].setdefault(x.images_per_class, {})
        of_place[x.id] = x
    limits = _in_order({x.images_per_class for x in networks})
    order = list(dict.fromkeys(names.values()))
    lines = []
    for name, n in sorted(cells, key=lambda place: (order.index(place[0]), place[1])):
        of_line = cells[name, n]
        shown = [_cost(of_line[x], costs) if x in of_line else ("", "") for x in limits]
        lines.append((name, str(n or ""), shown))
    return Listing([_images(limit) for limit in limits], lines)


def _cost(networks: Mapping[str, Network], costs: Mapping[str, Mapping[str, Any]]) -> Any:
    rows = [costs[id] for id in networks if id in costs]
    seconds = [row["seconds_total"] for row in rows if row["seconds_total"]]
    memory = [row["peak_memory_bytes"] for row in rows if row["peak_memory_bytes"]]
    parts = [f"{median(seconds):.2g} s"] if seconds else []
    parts += [f"{si(min(memory))}B"] if memory else []
    return percent(fmean(x.value for x in networks.values())), ", ".join(parts)


def overtaking_listing(rows: Rows, names: Names) -> Listing:
    """Return fine-tuned less classifier in points, by pair of ways, n and number of images.

    `rows` are of `OVERTAKING`, of one division and metric.
    """
    limits = _in_order({row["images_per_class"] for row in rows})
    lines = []
    for (pair, n), some in _by_line(rows, names).items():
        cells = {
            row["images_per_class"]: (
                points(row["estimate"]) + ("✓" if row["is_better"] else ""),
                half_width(row),
            )
            for row in some
        }
        shown = [cells.get(limit, ("", "")) for limit in limits]
        lines.append((" − ".join(pair), str(n), shown))
    return Listing([_images(limit) for limit in limits], lines)


def overtaking_sentences(rows: Rows, names: Names) -> list[str]:
    """Say for each pair of ways from how many images fine-tuning is better, at each n."""
    parts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (pair, n), some in _by_line(rows, names).items():
        better = [row for row in some if row["is_better"]]
        if better:
            first = better[0]
            images = _images(first["images_per_class"])
            parts[pair].append(f"{images} at n = {n} ({points(first['estimate'])}{bounds(first)})")
        else:
            parts[pair].append(f"no number at n = {n}")
    return [
        f"{tuned} is shown to be better than {fitted} from these images of each class on: "
        f"{', '.join(some)}."
        for (tuned, fitted), some in parts.items()
    ]


def _by_line(
    rows: Rows, names: Names
) -> dict[tuple[tuple[str, str], int], list[Mapping[str, Any]]]:
    lines: dict[tuple[tuple[str, str], int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        pair = names[TUNED, row["tuned"]], names[FITTED, row["classifier"]]
        lines[pair, row["n"]].append(row)
    return lines


def _in_order(limits: Iterable[Limit]) -> list[Limit]:
    return sorted(limits, key=lambda limit: math.inf if limit is None else limit)


def _images(limit: Limit) -> str:
    return "all" if limit is None else str(limit)
