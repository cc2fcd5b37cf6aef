"""The state of a plan's measurements and features, as JSON values and in a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.execution import extraction, measurement
from orchestrator.execution.derived import DerivedRun
from orchestrator.plan.plan import Plan
from orchestrator.report.wording import si
from orchestrator.states import State
from orchestrator.store.store import Store

if TYPE_CHECKING:
    from rich.console import Console

STATES = (State.COMPLETE, State.FAILED, State.MISSING)


class Derived:
    """The measurements and the extractions of features of a plan."""

    def __init__(self, plan: Plan, store: Store, complete: Collection[str]):
        """`complete` are the ids of the complete trials. Raises `SweepError`."""
        self.plan = plan
        self.measuring, self.extracting = self.runs = [
            DerivedRun(kind, plan, store, plan.trials, complete)
            for kind in (measurement.KIND, extraction.KIND)
        ]

    @property
    def lacking(self) -> dict[str, str]:
        """Paths of missing weights, by the id of the trial that must be trained again."""
        return {id: path for run in self.runs for id, path in run.lacking.items()}

    def measurements(self, trials: Collection[str]) -> list[dict[str, Any]]:
        """Return the number of measurements of these trials in each state, a row per measure."""
        rows = _rows(self.measuring, trials, lambda one: str(one.measure))
        return [
            {"measure": measure, "measurements": len(ids), **_states(self.measuring, ids)}
            for measure, ids in rows.items()
        ]

    def features(self, trials: Collection[str]) -> list[dict[str, Any]]:
        """Return the number of extractions of these trials in each state, a row per entry.

        `bytes` is the size of all vectors of the entry.
        """
        rows = _rows(self.extracting, trials, lambda one: str(one.part))
        members = self.extracting.members
        return [
            {
                "features": part,
                "extractions": len(ids),
                "bytes": sum(members[id].bytes(self.plan) for id in ids),
                **_states(self.extracting, ids),
            }
            for part, ids in rows.items()
        ]


def _rows(
    run: DerivedRun, trials: Collection[str], group: Callable[[Any], str]
) -> dict[str, list[str]]:
    """Return the ids of the work on these trials, by group."""
    known, rows = {*trials, *run.plan.weights}, dict[str, list[str]]()
    for id, one in run.members.items():
        if known.issuperset(one.networks):
            rows.setdefault(group(one), []).append(id)
    return rows


def _states(run: DerivedRun, ids: Sequence[str]) -> dict[str, Any]:
    missing = {"outcome": State.MISSING, "error_message": None}
    rows = [run.rows.get(id, missing) for id in ids]
    counts = Counter(row["outcome"] for row in rows)
    reasons = [row["error_message"] for row in rows if row["error_message"]]
    return {**{state.value: counts[state] for state in STATES}, "reasons": reasons}


def print_derived(summary: Mapping[str, Any], console: Console) -> None:
    """Print the measurements and features of a summary: counts, and reasons of failures."""
    if rows := summary["measurements"]:
        parts = [f"{row['measure']} {row['complete']}/{row['measurements']}" for row in rows]
        console.print(f"measurements complete: {', '.join(parts)}", soft_wrap=True)
    if rows := summary["features"]:
        parts = [
            f"{row['features']} {row['complete']}/{row['extractions']} ({si(row['bytes'])}B)"
            for row in rows
        ]
        console.print(f"features complete: {', '.join(parts)}", soft_wrap=True)
    rows = [*summary["measurements"], *summary["features"]]
    for reason in dict.fromkeys(reason for row in rows for reason in row["reasons"]):
        console.print(f"failed: {reason}", soft_wrap=True)
