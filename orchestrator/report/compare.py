"""Two sweeps beside each other: accuracy cell by cell, settings, and what they ran on."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.errors import SweepError
from orchestrator.reference import recomputed
from orchestrator.reference.published import SWEEP as PAPER
from orchestrator.report.wording import count, points, population
from orchestrator.stats.contrasts import RATE, contrasts
from orchestrator.stats.measurements import METRICS, Group
from orchestrator.stats.statistics import Statistics
from orchestrator.store.store import Store
from orchestrator.sweep.load import load_recorded
from orchestrator.sweep.settings import differences, settings

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

RAN_ON = ("dataset_fingerprint", "device", "threads", "precision")  # columns of trials


@dataclass(frozen=True)
class Side:
    """One of the two that are compared: a sweep of a store, or the published results."""

    name: str
    statistics: Statistics
    settings: dict[str, Any] | None
    """Its settings; None for published results, and for a text that cannot be read any more."""

    @classmethod
    def of(cls, store: Store | None, name: str, metric: str | None = None) -> Side:
        """Return a sweep of a store; without one, the paper. Raises `StoreError`."""
        if store is None:
            return cls(PAPER, recomputed.statistics(metric or "top1"), None)
        statistics = Statistics.of_sweep(store, name, metric)
        record = store.sweep_record(name)
        try:
            sweep, _ = load_recorded(name, record.text, record.forms or ())
        except SweepError:
            return cls(name, statistics, None)
        return cls(name, statistics, settings(sweep))


def comparison(first: Side, second: Side, *, relative: bool = False) -> dict[str, Any]:
    """Return what differs between two sides as JSON values; `cells` are rows of `CONTRASTS`."""
    table: pa.Table = contrasts(first.statistics, second.statistics, relative=relative)
    both = first.settings is not None and second.settings is not None
    return {
        "first": first.name,
        "second": second.name,
        "relative": relative,
        "rate": RATE,
        "cells": table.to_pylist(),
        "settings": differences(first.settings or {}, second.settings or {}) if both else None,
        "ran_on": _ran_on(first, second),
    }


def _ran_on(first: Side, second: Side) -> dict[str, str]:
    """Return in what the machines, the data or the programs of both sides differ."""
    sides = [_surroundings(side.statistics) for side in (first, second)]
    return {
        name: f"was {', '.join(sorted(was))} and is {', '.join(sorted(now))}"
        for name, was in sides[0].items()
        if (now := sides[1].get(name)) and was != now
    }


def _surroundings(statistics: Statistics) -> dict[str, set[str]]:
    """Return the values of each column, and the versions of each library, that occur."""
    values: dict[str, set[str]] = defaultdict(set)
    for row in statistics.trials.select([*RAN_ON, "versions"]).to_pylist():
        versions = json.loads(row.pop("versions") or "{}")
        for name, value in (row | versions).items():
            if value is not None:
                values[name].add(str(value))
    return values


def print_comparison(result: Mapping[str, Any], console: Console) -> None:
    """Print `comparison`."""
    from rich.table import Table

    first, second, cells = result["first"], result["second"], result["cells"]
    what = "difference to the own base, points" if result["relative"] else "%"
    groups: dict[Group, list[Mapping[str, Any]]] = {}
    for row in cells:
        names = ("condition", "division", "images_per_class", "metric")
        groups.setdefault(Group("", *(row[name] for name in names)), []).append(row)
    for group, rows in groups.items():
        where = f"{population(group)}: " if len(groups) > 1 else ""
        table = Table(title=f"{where}{METRICS[group.metric]}, {what}", title_justify="left")
        table.add_column("treatment")
        for heading in ("n", "first", "second", "difference", "95 %", "q", "pairs"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*_line(row, relative=result["relative"]))
        console.print(table)
    for line in sentences(result):
        console.print(line, soft_wrap=True)
    for title, texts in (("settings", result["settings"]), ("ran on", result["ran_on"])):
        for key, text in (texts or {}).items():
            console.print(f"{title}: {key} {text}", soft_wrap=True)
    if result["settings"] is None:
        console.print(f"settings of {first} or {second} are not known as a sweep file")


def sentences(result: Mapping[str, Any]) -> list[str]:
    """Return what the comparison says, in words."""
    first, second, cells = result["first"], result["second"], result["cells"]
    if not cells:
        return [f"{first} and {second} have no cell in common: no treatment with the same n"]
    tested = [row for row in cells if row["q"] is not None]
    differing = [row for row in tested if row["differs"]]
    lines = [
        f"first: {first}; second: {second}; {count(len(cells), 'cell')} in common, "
        f"{sum(row['paired'] for row in cells)} of them paired"
    ]
    if not tested:
        lines.append("one split in common: nothing can be tested")
    elif not differing:
        lines.append(
            f"no cell differs at a false-discovery rate of {RATE:.0%}, of {len(tested)} tested"
        )
    else:
        names = ", ".join(
            f"{_name(row)} ({points(row['difference'])})"
            for row in sorted(differing, key=lambda row: row["q"])
        )
        verb = "differs" if len(differing) == 1 else "differ"
        lines.append(
            f"{len(differing)} of {len(tested)} tested cells {verb} at a false-discovery rate of "
            f"{RATE:.0%}: {names}"
        )
    same, pairs = (sum(row[name] for row in cells) for name in ("n_same", "n_pairs"))
    if same:
        lines.append(f"{same} of {count(pairs, 'pair')} are one and the same trial")
    return lines


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['arm']} n = {row['n']}" if row["n"] else str(row["arm"])


def _line(row: Mapping[str, Any], *, relative: bool) -> Sequence[str]:
    def number(value: float) -> str:
        return points(value) if relative else f"{100 * value:.1f}"

    bounds = "" if row["low"] is None else f"{points(row['low'])} … {points(row['high'])}"
    q = "" if row["q"] is None else f"{row['q']:.3f}{' *' if row['differs'] else ''}"
    pairs = str(row["n_pairs"]) if row["paired"] else "none"
    n = str(row["n"] or "")
    numbers = (number(row["first"]), number(row["second"]), points(row["difference"]))
    return (row["arm"], n, *numbers, bounds, q, pairs)
