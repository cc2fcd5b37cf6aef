"""What was planned and what came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestrator.cli.opening import (
    examine,
    open_store,
    plan_of,
    print_table,
    report_of,
    selected,
    terminal,
)
from orchestrator.cli.options import (
    RESULTS,
    JsonOption,
    OnlyOption,
    SetOption,
    StoreOption,
    SweepArgument,
)
from orchestrator.cli.running import INTERRUPTED

if TYPE_CHECKING:
    from orchestrator.store import Store


SHOWN = ["directory", "name", "division", "val_mean10", "top1", "outcome"]  # of the paper's rows


def plan(
    sweep: SweepArgument,
    store: StoreOption = RESULTS,
    changes: SetOption = [],  # noqa: B006
    only: OnlyOption = None,
    device: Annotated[
        str | None,
        typer.Option(help="GPU-hours on it: k20, or a JSON file of images a second."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What a sweep would train, what is complete already, what the rest will cost."""
    from orchestrator.budget import device_of
    from orchestrator.status import plan_summary, print_plan

    measured = device_of(device) if device else None
    planned, opened = plan_of(sweep, changes), open_store(store)
    summary = plan_summary(planned, opened, selected(planned, only), measured)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        print_plan(summary, terminal())


def splits(
    sweep: SweepArgument,
    changes: SetOption = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """The classes of both halves of every split, and a hash of each half."""
    from orchestrator.splitting import summary as splits_summary

    summary = splits_summary(examine(sweep, changes).splits)
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        from orchestrator.console import splits_table

        terminal().print(splits_table(summary))


def status(
    sweep: SweepArgument,
    store: StoreOption = RESULTS,
    changes: SetOption = [],  # noqa: B006
    as_json: JsonOption = False,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Show progress until the end, from the store alone."),
    ] = False,
) -> None:
    """What is complete, failed, lost, skipped or missing, and why."""
    if follow:
        _follow(sweep, changes, open_store(store, must_exist=True))
        return
    from orchestrator.status import print_status, status_summary

    summary = status_summary(plan_of(sweep, changes), open_store(store))
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        print_status(summary, terminal())


def _follow(sweep: str, changes: list[str], store: Store) -> None:
    """`sweep` may be a file or the name of a sweep in the store: its data need not be here."""
    from orchestrator import sweep_file
    from orchestrator.follow import Follower, follow

    name = sweep_file.load(sweep, changes)[0].name if Path(sweep).suffix else sweep
    try:
        follow(Follower(store, name), terminal())
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def query(
    sql: Annotated[str, typer.Argument(help="One SELECT over the tables.")],
    store: StoreOption = RESULTS,
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    as_json: JsonOption = False,
    parquet: Annotated[Path | None, typer.Option(help="Write a Parquet file.")] = None,
) -> None:
    """Ask the tables in SQL (DuckDB)."""
    from orchestrator import query as asking

    table = asking.run_query(open_store(store, must_exist=asking.needs_store(sql)), sql)
    if parquet is not None:
        asking.to_parquet(table, parquet)
        typer.echo(f"wrote {table.num_rows} rows to {parquet}", err=True)
    else:
        print_table(table, csv, as_json)


def reference(
    what: Annotated[
        Literal["table1", "figure2", "figure3"] | None,
        typer.Argument(help="Recompute this from the published results; without, list them."),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The paper's published results; its Table 1 (in points) and Figures 2 and 3 from them."""
    from orchestrator import console
    from orchestrator.reference import paper, recomputed

    if what is None:
        whole = paper()
        print_table(whole if csv or as_json else whole.select(SHOWN), csv, as_json)
        return
    found: Any = {
        "table1": recomputed.table1,
        "figure2": recomputed.figure2,
        "figure3": recomputed.figure3,
    }[what]()
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    elif csv:
        import pyarrow as pa

        rows = found if what == "table1" else next(iter(found.values()))
        print_table(pa.Table.from_pylist(rows), csv, as_json)
    elif what == "table1":
        terminal().print(console.reference_table1(found, recomputed.mixes()))
    elif what == "figure2":
        terminal().print(console.reference_figure2(found))
    else:
        terminal().print(console.reference_figure3(found))


def report(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="Name of a sweep in the store.")],
    store: StoreOption = RESULTS,
) -> None:
    """Write the report: one HTML file and the figures as PNG."""
    name = sweep if not Path(sweep).suffix else plan_of(sweep, []).sweep.name
    typer.echo(report_of(open_store(store, must_exist=True), name))
