"""The state and the best trials of searches, as JSON values and in a terminal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.plan.plan import Plan
from orchestrator.plan.study import Study, best
from orchestrator.report.wording import count, percent, si
from orchestrator.states import STUDY_OUTCOMES, State
from orchestrator.store.store import Store

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

TUNED = {"fine_tune": "fine-tuned trials", "base_long": "base_long"}
MOST_ROWS = 10


def rows_of(study: Study, store: Store) -> list[dict[str, Any]]:
    """Return the rows of a study's own trials, by number."""
    return [row for row in store.study_trials(study.series) if row["number"] < study.trials]


def studies_summary(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """Return the state and the best value of each search of a plan, as JSON values."""
    summaries = []
    for study in plan.studies:
        rows = rows_of(study, store)
        states = Counter(row["state"] for row in rows)
        chosen = best(rows)
        missing = study.trials - len(rows)
        summaries.append(
            {
                "id": study.id,
                "role": study.role,
                "sampler": study.sampler,
                "pruner": study.pruner,
                "splits": sorted({cell.split for cell in study.cells}),
                "cells": len(study.cells),
                "trials": study.trials,
                **{state.value: states[state] for state in STUDY_OUTCOMES},
                "missing": missing,
                "flops": missing * sum(map(plan.flops, study.cells)),
                "own": next((row["value"] for row in rows if row["number"] == 0), None),
                "best": chosen["value"] if chosen else None,
                "best_trial": chosen["number"] if chosen else None,
            }
        )
    return summaries


def print_studies(summaries: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print `studies_summary`, one line per search."""
    for study in summaries:
        states = [
            f"{study[state]} {state}" for state in (*STUDY_OUTCOMES, State.MISSING) if study[state]
        ]
        trials, networks = count(study["trials"], "trial"), count(study["cells"], "network")
        text = (
            f"search for {TUNED[study['role']]}: {trials} of {networks} on "
            f"{', '.join(study['splits'])} ({study['sampler']}, {study['pruner']}): "
            f"{', '.join(states)}"
        )
        if study["missing"]:
            text += f"; at most {si(study['flops'])}FLOP to go"
        if study["best"] is not None:
            text += f"; best validation top-1 {percent(study['best'])} % (trial "
            own = "failed" if study["own"] is None else f"{percent(study['own'])} %"
            text += f"{study['best_trial']}), the sweep's own {own}"
        console.print(text, soft_wrap=True)


def print_study(study: Study, rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the best trials of a search and the sweep's own, with the values that they tried."""
    console.print(f"search for {TUNED[study.role]} (study {study.id})")
    ranked = sorted(
        (row for row in rows if row["state"] == State.COMPLETE),
        key=lambda row: (-row["value"], row["number"]),
    )
    shown = ranked[:MOST_ROWS]
    shown += [row for row in ranked[MOST_ROWS:] if row["number"] == 0]
    console.print(_table(shown))
    others = Counter(row["state"] for row in rows if row["state"] != State.COMPLETE)
    left_out = len(ranked) - len(shown)
    notes = [f"{left_out} more complete"] if left_out else []
    notes += [f"{number} {state}" for state, number in others.items()]
    if notes:
        console.print(f"beside these: {', '.join(notes)}")
    failed = next((row for row in rows if row["state"] == State.FAILED), None)
    if failed:
        console.print(f"trial {failed['number']} failed: {failed['error_message']}", soft_wrap=True)


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    from rich.table import Table

    table = Table("trial", "validation top-1, %", "tried")
    for row in rows:
        name = f"{row['number']} (the sweep's own)" if row["number"] == 0 else str(row["number"])
        table.add_row(name, percent(row["value"], 2), tried(row))
    return table


def tried(row: Mapping[str, Any]) -> str:
    """Return the values that a study trial tried: `family cosine, rate 0.03, warmup 0.1`."""
    parameters: dict[str, Any] = json.loads(row["parameters"])
    if not parameters:
        return "a schedule outside of the space"
    family = parameters.pop("family", None)
    parts = [f"family {family}"] if family else []
    for name, value in parameters.items():
        if isinstance(value, bool):
            continue  # a switch shows by the parameters that it adds
        text = f"{value:.3g}" if isinstance(value, float) else str(value)
        parts.append(f"{name.rpartition('.')[2]} {text}")
    return ", ".join(parts)
