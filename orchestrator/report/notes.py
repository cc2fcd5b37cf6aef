"""Notes at the top of a report: gaps, failures and limits of its numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.sections import Section
from orchestrator.report.wording import capital, count, left_out
from orchestrator.states import BAD_OUTCOMES, State
from orchestrator.stats.intervals import CLASS_AND_SEED
from orchestrator.stats.measurements import METRICS
from orchestrator.stats.statistics import Statistics
from trainers.datasets import SHARED

Row = Mapping[str, Any]
Rows = Sequence[Row]


def notes_of(
    sweep: str, statistics: Statistics, rows: Rows, groups: Sequence[Section]
) -> list[str]:
    """Return notes for the top of the page: gaps, failures and limits of the numbers."""
    members = statistics.members
    planned, outcomes = len(members["id"].unique()), Counter(row["outcome"] for row in rows)
    if not outcomes[State.COMPLETE]:
        return [
            f"No network is complete yet, so there is nothing to show. Run: layerwise run {sweep}"
        ]
    notes = []
    if statistics.metric is not None:
        notes.append(f"Every network is measured by the {METRICS[statistics.metric]}.")
    if outcomes[State.COMPLETE] < planned:
        others = [f"{outcomes[name]} {name}" for name in BAD_OUTCOMES if outcomes[name]]
        others += [f"{planned - len(rows)} not run"] if planned > len(rows) else []
        notes.append(
            f"Incomplete: {outcomes[State.COMPLETE]} of {planned} networks are complete "
            f"({', '.join(others)}). All numbers are of complete networks."
        )
    if statistics.unpaired or statistics.without_curve:
        notes.append(f"{capital(left_out(statistics, curves=True))}.")
    for group in groups:
        where = f"{group.title}: one" if len(groups) > 1 else "One"
        units = {row["unit"] for row in group.included}
        if CLASS_AND_SEED in units and all(row["low"] is None for row in group.included):
            notes.append(
                f"{where} split by nature, with one seed: differences have no interval, because "
                "one seed cannot tell how far seeds differ."
            )
        elif CLASS_AND_SEED in units:
            notes.append(
                f"{where} split by nature: its intervals cover which classes and which seeds were "
                "drawn; they say nothing about another such division."
            )
        elif units and max(row["n_splits"] for row in group.included) < 2:
            notes.append(
                f"{where} split: differences have no interval, because an interval counts splits."
            )
    if any(map(_allows_shared_images, rows)):
        notes.append(
            "Training, validation and test sets share images (shared_images of the dataset allows "
            "it), so accuracies may be too high."
        )
    if chance := sum(bool(row["at_chance"]) for row in rows):
        networks = count(chance, "network")
        notes.append(f"{networks} never left chance: effects are given with and without them.")
    if changed := sum(row["frozen_proven"] is False for row in rows):
        networks = count(changed, "network")
        notes.append(f"Frozen layers changed in {networks}: these numbers cannot be trusted.")
    return notes


def _allows_shared_images(row: Row) -> bool:
    """Return whether the dataset of a trial has the option `shared_images`."""
    dataset = json.loads(row["training"] or "{}").get("target", {}).get("dataset", {})
    return dict(dataset.get("options", ())).get(SHARED) is True
