"""What commands open and print: sweeps, stores, tables, the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.errors import LayerwiseError

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from orchestrator.experiment import Experiment
    from orchestrator.plan import Plan
    from orchestrator.store import Store


def examine(sweep: str, changes: list[str]) -> Experiment:
    from orchestrator import experiment, sweep_file

    return experiment.examine(*sweep_file.load(sweep, changes))


def plan_of(sweep: str, changes: list[str]) -> Plan:
    from orchestrator import plan as planning

    return planning.plan(examine(sweep, changes))


def require_data(planned: Plan) -> None:
    from orchestrator.experiment import find_data

    dataset = planned.members[0].training.target.dataset
    find_data(planned.sweep, dataset, planned.source)


def selected(planned: Plan, only: str | None) -> set[str] | None:
    from orchestrator.selection import select

    if only is None:
        return None
    found = select(planned, only)
    if not found:
        raise LayerwiseError(
            f"--only {only!r}: no trial of sweep {planned.sweep.name} is like that"
        )
    return found


def open_store(place: str, must_exist: bool = False) -> Store:
    from orchestrator.store import Store

    store = Store(place)
    if must_exist and not store.exists():
        raise LayerwiseError(
            f"no store at {place}; `layerwise run` makes one, --store names another"
        )
    return store


def print_table(table: pa.Table, csv: bool, as_json: bool) -> None:
    from orchestrator import query as asking

    if csv:
        typer.echo(asking.to_csv(table), nl=False)
    elif as_json:
        typer.echo(asking.to_json(table))
    else:
        from orchestrator.console import query_table

        out = terminal()
        out.print(query_table(table, out.width))


def report_of(store: Store, sweep: str) -> Path:
    from orchestrator.report.page import write_report

    here = Path() if store.is_remote else Path(store.root)  # a browser reads folders, not buckets
    return write_report(store, sweep, store.members(sweep), here / "reports" / sweep)


def terminal() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False)


def say(out: Console, text: str) -> None:
    """One line, however wide the terminal is."""
    out.print(text, soft_wrap=True)
