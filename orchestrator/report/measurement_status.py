"""The state of the measurements of a plan, as JSON values and in a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.execution.measurement import MeasurementRun
from orchestrator.states import State

if TYPE_CHECKING:
    from rich.console import Console

STATES = (State.COMPLETE, State.FAILED, State.MISSING)


def measurements_summary(
    measuring: MeasurementRun, trials: Collection[str]
) -> list[dict[str, Any]]:
    """Return the number of measurements of these trials in each state, a row per measure."""
    counts: dict[str, Counter[str]] = {}
    reasons: dict[str, list[str]] = {}
    known = {*trials, *measuring.plan.weights}
    for id, one in measuring.measurements.items():
        if known.issuperset(one.networks):
            row = measuring.rows.get(id, {"outcome": State.MISSING, "error_message": None})
            counts.setdefault(one.measure, Counter())[row["outcome"]] += 1
            reasons.setdefault(one.measure, []).extend(filter(None, [row["error_message"]]))
    return [
        {
            "measure": measure,
            "measurements": states.total(),
            **{state.value: states[state] for state in STATES},
            "reasons": reasons[measure],
        }
        for measure, states in counts.items()
    ]


def print_measurements(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print `measurements_summary`: a line of counts, and one per reason of a failure."""
    if not rows:
        return
    parts = [f"{row['measure']} {row['complete']}/{row['measurements']}" for row in rows]
    console.print(f"measurements complete: {', '.join(parts)}", soft_wrap=True)
    for reason in dict.fromkeys(reason for row in rows for reason in row["reasons"]):
        console.print(f"failed: {reason}", soft_wrap=True)
