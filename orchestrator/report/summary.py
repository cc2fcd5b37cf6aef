"""The numbers of the table that ends a run, which this machine remembers.

Effects of a hundred thousand networks take seconds. A run with nothing to do needs none of them
anew: they follow from the rows that count, the labels of the sweep, the metric and the code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.compute as pc

from orchestrator.remembered import recalled, remember, surroundings
from orchestrator.report.wording import count, left_out
from orchestrator.states import State
from orchestrator.stats.statistics import Statistics
from orchestrator.store.store import Store

KIND = "summaries"  # folder of the cache
PACKAGES = ("orchestrator", "trainers")
LIBRARIES = ("numpy", "scipy", "pyarrow")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The results of one sweep, for a terminal."""

    layers: Sequence[int]
    """The n of its members, from 1 on."""
    effects: Sequence[dict[str, Any]]
    """Rows of `EFFECTS`, with networks at chance."""
    levels: Sequence[dict[str, Any]]
    """Rows of `LEVELS`."""
    notes: Sequence[str]
    """Sentences on the networks at chance and on those that are left out."""


def summary_of(statistics: Statistics) -> Summary:
    """Return the summary of the statistics of one sweep."""
    effects = statistics.effects.to_pylist()
    layers = statistics.members["n"].unique().to_pylist()
    return Summary(
        layers=sorted(n for n in layers if n > 0),
        effects=[row for row in effects if row["at_chance"] == "included"],
        levels=statistics.levels.to_pylist(),
        notes=[*_at_chance(statistics), *filter(None, [left_out(statistics)])],
    )


def known_summary(
    store: Store, sweep: str, metric: str, statistics: Callable[[], Statistics]
) -> Summary:
    """Return the summary of a sweep by a metric; `statistics` are computed only if they are needed.

    Raises what `statistics` raises, and `StoreError`.
    """
    question, place = _question(store, sweep, metric), f"{store.root} {sweep} {metric}"
    if question is not None and (text := recalled(KIND, question, place)) is not None:
        return Summary(**json.loads(text))
    summary = summary_of(statistics())
    if question is not None and question == _question(store, sweep, metric):  # nobody wrote between
        remember(KIND, question, json.dumps(asdict(summary)), place)
    return summary


def _question(store: Store, sweep: str, metric: str) -> str | None:
    """Return all that a summary depends on; None if the store cannot tell without reading rows."""
    state = store.state(sweep)
    return state and f"{surroundings(PACKAGES, LIBRARIES)} {metric} {state}"


def _at_chance(statistics: Statistics) -> list[str]:
    """Return a warning if networks of the sweep never left chance."""
    scores = statistics.scores
    complete = scores.filter(pc.equal(scores["outcome"], State.COMPLETE.value))
    chance = pc.sum(complete["at_chance"]).as_py()
    if not chance:
        return []
    return [f"{chance} of {count(len(complete), 'network')} never left chance: see the report"]
