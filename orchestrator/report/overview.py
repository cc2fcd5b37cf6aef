"""Overview of a store: its sweeps, their studies, and trials that belong to no sweep."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from orchestrator.states import State
from orchestrator.store.cleanup import of_trials, unowned
from orchestrator.store.store import Store
from orchestrator.store.survey import Survey

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS = ("trials", "complete", "ended badly", "missing")


def store_summary(store: Store) -> dict[str, Any]:
    """Return the sweeps of a store, their studies, and the unowned trials, as JSON values."""
    outcomes = store.outcomes()
    ended = {series: len(numbers) for series, numbers in store.study_numbers().items()}
    ids: dict[str, set[str]] = {}
    for row in store.table("sweeps", ["sweep", "id"]).to_pylist():
        ids.setdefault(row["sweep"], set()).add(row["id"])
    return {
        "sweeps": [{"sweep": name, **_counts(ids[name], outcomes)} for name in sorted(ids)],
        "studies": [
            {
                "sweep": name,
                "role": study["role"],
                "trials": study["trials"],
                "ended": min(ended.get(study["series"], 0), study["trials"]),
            }
            for name in sorted(ids)
            for study in store.sweep_record(name).studies
        ],
        "unowned": unowned_summary(Survey.of(store)),
    }


def unowned_summary(survey: Survey) -> dict[str, Any]:
    """Return number, kinds and bytes of the trials that belong to no sweep."""
    trials = unowned(survey)
    waste = of_trials(survey, trials, "") if trials else []
    return {
        "trials": len(trials),
        "kinds": dict(sorted(Counter(trials.values()).items())),
        "bytes": survey.store.size(item.path for item in waste),
    }


def unowned_line(summary: dict[str, Any]) -> str:
    """Return the line on trials of no sweep; empty if there are none."""
    if not summary["trials"]:
        return ""
    kinds = ", ".join(f"{n} {kind}" for kind, n in summary["kinds"].items())
    size = f"{summary['bytes'] / 1e6:.1f} MB"
    return (
        f"{summary['trials']} trials belong to no sweep ({kinds}; {size}); "
        "to remove them: layerwise clean --unowned"
    )


def print_store(summary: dict[str, Any], console: Console) -> None:
    """Print `store_summary`."""
    from rich.table import Table

    table = Table()
    table.add_column("sweep", overflow="fold")  # a name can be copied whole
    for heading in COLUMNS:
        table.add_column(heading, justify="right")
    for row in summary["sweeps"]:
        table.add_row(row["sweep"], *(str(row[name]) for name in COLUMNS))
    console.print(table)
    for study in summary["studies"]:
        done = f"{study['ended']} of {study['trials']} study trials ended"
        console.print(f"{study['sweep']}: search of {study['role']}: {done}", soft_wrap=True)
    if line := unowned_line(summary["unowned"]):
        console.print(line, soft_wrap=True)


def _counts(ids: set[str], outcomes: dict[str, str]) -> dict[str, int]:
    complete = sum(outcomes.get(id) == State.COMPLETE for id in ids)
    missing = len(ids - outcomes.keys())
    counts = (len(ids), complete, len(ids) - complete - missing, missing)
    return dict(zip(COLUMNS, counts, strict=True))
