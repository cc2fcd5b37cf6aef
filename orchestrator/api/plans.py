"""Plans for Python: what a sweep would train, and what is complete."""

from __future__ import annotations

from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.api.sweeps import Sweep, planned
from orchestrator.api.tables import Table

if TYPE_CHECKING:
    import pyarrow as pa

    from orchestrator.plan import plan as room
    from orchestrator.store.store import Store


def plan(sweep: Sweep | str, store: str | Path = "results") -> Plan:
    """Return what a sweep would train, and how much of it a store has. Nothing is written.

    Example: `plan("digits")`. Raises `SweepError` for a mistake in the sweep.
    """
    from orchestrator.store.store import Store

    opened = Store(store)
    return Plan(planned(sweep, opened), opened)


class Plan:
    """The trials of a sweep, beside what a store has of them."""

    def __init__(self, of: room.Plan, store: Store):
        self.plan, self.store = of, store

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The numbers of `layerwise plan --json`: trials, cost, what the design can detect."""
        from orchestrator.report.plan_status import plan_summary

        return plan_summary(self.plan, self.store)

    @cached_property
    def trials(self) -> Table:
        """One row per trial: its labels, its state, and its floating-point operations."""
        return Table("plan", self._trials)

    def _trials(self) -> pa.Table:
        import pyarrow as pa

        from orchestrator.store.schemas import to_table

        states = {row["id"]: row["state"] for row in self.summary["list"]}
        trials = list(self.plan.trials.values())
        table = to_table("sweeps", [trial.labels() for trial in trials])
        flops = pa.array([self.plan.flops(trial) for trial in trials], pa.float64())
        state = pa.array([str(states[trial.id]) for trial in trials])
        return table.append_column("state", state).append_column("flops", flops)

    def __len__(self) -> int:
        return len(self.plan.trials)

    def __repr__(self) -> str:
        complete = self.summary["complete"]
        return f"<Plan {self.plan.sweep.name}: {len(self)} trials, {complete} complete>"

    def _repr_html_(self) -> str:
        cells = ["treatment", "trials", "complete"]
        rows = [
            [name, str(row["trials"]), str(row["complete"])]
            for name, row in self.summary["treatments"].items()
        ]
        head = "".join(f"<th>{cell}</th>" for cell in cells)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
