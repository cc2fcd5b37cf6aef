"""The state of a plan's trials in a store: outcomes, and the reasons of those without a result."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from textwrap import indent
from typing import TYPE_CHECKING, Any

from orchestrator.plan.plan import Plan
from orchestrator.report.derived_status import Derived, print_derived
from orchestrator.report.search_status import print_studies, studies_summary
from orchestrator.report.wording import lacking_note
from orchestrator.states import BAD_OUTCOMES, OUTCOMES, State
from orchestrator.store.store import Store

if TYPE_CHECKING:
    from rich.console import Console

STATES = (*OUTCOMES, State.MISSING)


@dataclass(frozen=True)
class Status:
    """The state of every trial of a plan: an outcome, or `missing`."""

    plan: Plan
    states: dict[str, str]
    lacking: dict[str, str]
    """Paths of files that are gone, by the trial that has a row and counts as missing for it."""
    derived: Derived
    """The measurements and features of the plan."""

    @classmethod
    def of(cls, plan: Plan, store: Store) -> Status:
        """Return the state of a plan in a store. Raises `StoreError`, `SweepError`."""
        checked = store.check(plan.trials)
        lacking = dict(checked.lacking)
        outcomes = {id: x for id, x in checked.outcomes.items() if id not in lacking}
        settled = {id for id in plan.trials if outcomes.get(id) in (State.COMPLETE, State.FAILED)}
        bases = {base for id in plan.trials.keys() - settled for base in plan.trials[id].parents}
        lacking |= store.check_weights([base for base in bases if base in settled])
        complete = {id for id in settled - lacking.keys() if outcomes[id] == State.COMPLETE}
        derived = Derived(plan, store, complete)
        lacking |= derived.lacking
        states = {
            id: State.MISSING if id in lacking else outcomes.get(id, State.MISSING)
            for id in plan.trials
        }
        return cls(plan, states, lacking, derived)

    def notes(self) -> list[str]:
        """Return a line on the trials that count as missing because a file is gone."""
        return lacking_note({self.plan.trials[id].name: path for id, path in self.lacking.items()})

    def ids(self, *states: str) -> list[str]:
        """Return the trials in one of these states."""
        return [id for id, state in self.states.items() if state in states]

    def by_treatment(self) -> dict[str, Counter[str]]:
        """Count the trials per state, by treatment as the sweep file writes it."""
        counts: dict[str, Counter[str]] = {}
        for id, trial in self.plan.trials.items():
            counts.setdefault(trial.treatment_name, Counter())[self.states[id]] += 1
        return counts

    def reasons(self, store: Store) -> list[dict[str, Any]]:
        """Return the trials that ended and are not complete, with the reason."""
        about = ("error_type", "error_step", "error_message", "error_traceback")
        columns = ("id", "name", "outcome", *about)
        rows = {
            row["id"]: {column: row[column] for column in columns}
            for state in BAD_OUTCOMES
            for row in store.rows(self.ids(state), state)
        }
        return [rows[id] for id in self.states if id in rows]


def status_summary(plan: Plan, store: Store) -> dict[str, Any]:
    """Return the state of a sweep as JSON values, with the reasons for trials not complete."""
    status = Status.of(plan, store)
    counts = Counter(status.states.values())
    return {
        "sweep": plan.sweep.name,
        "trials": len(plan.trials),
        **{state.value: counts[state] for state in STATES},
        "treatments": {name: dict(counts) for name, counts in status.by_treatment().items()},
        "studies": studies_summary(plan, store),
        "measurements": status.derived.measurements(plan.trials),
        "features": status.derived.features(plan.trials),
        "lacking": status.notes(),
        "reasons": status.reasons(store),
    }


def print_status(summary: dict[str, Any], console: Console) -> None:
    """Print `status_summary`."""
    from rich.table import Table

    table = Table("treatment")
    for state in STATES:
        table.add_column(state, justify="right")
    for name, counts in (*summary["treatments"].items(), ("all", summary)):
        table.add_row(name, *(str(counts.get(state, 0)) for state in STATES))
    console.print(table)
    print_studies(summary["studies"], console)
    print_derived(summary, console)
    for note in summary["lacking"]:
        console.print(note, soft_wrap=True)
    shown = {None}
    for row in summary["reasons"]:
        where = f" at step {row['error_step']}" if row["error_step"] is not None else ""
        console.print(
            f"{row['id'][:8]} {row['name']}: {row['outcome']}{where}: {row['error_message']}",
            soft_wrap=True,
        )
        if (text := row["error_traceback"]) not in shown:  # trials often fail in the same way
            shown.add(text)
            console.print(indent(text, "    "), soft_wrap=True)
