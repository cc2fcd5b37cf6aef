"""Commands on results: the state of a sweep, its tables and report, the paper's, exports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestrator.cli.arguments import (
    RESULTS,
    JsonOption,
    MarginOption,
    MetricOption,
    SetOption,
    StoreOption,
    SweepArgument,
    open_store,
    plan_of,
    print_table,
    report_of,
    statistics_of,
    sweep_name,
)
from orchestrator.cli.surroundings import echo
from orchestrator.errors import LayerwiseError
from orchestrator.margin import MARGIN_POINTS
from orchestrator.report.console import terminal

if TYPE_CHECKING:
    from orchestrator.store.store import Store


# Columns of the published results that a terminal shows.
SHOWN = ["directory", "name", "division", "val_mean10", "top1", "outcome"]


def status(
    sweep: Annotated[
        str | None,
        typer.Argument(
            metavar="SWEEP", help="Sweep, as for `run`; by default every sweep of the store."
        ),
    ] = None,
    store: StoreOption = RESULTS,
    changes: SetOption = [],  # noqa: B006
    as_json: JsonOption = False,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="Show the progress until the end; reads only the store."),
    ] = False,
) -> None:
    """Show the state of every trial, and why some have no result.

    A trial is complete, failed, lost, skipped or missing.
    """
    if sweep is None:
        if follow or changes:
            raise LayerwiseError("--follow and --set need the name of a sweep")
        ls(store, as_json)
        return
    if follow:
        _follow(sweep, changes, open_store(store, must_exist=True))
        return
    from orchestrator.report.status import print_status, status_summary

    opened = open_store(store)
    summary = status_summary(plan_of(sweep, changes, opened), opened)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        print_status(summary, terminal())


def ls(store: StoreOption = RESULTS, as_json: JsonOption = False) -> None:
    """List the sweeps, studies and unowned trials of the store.

    A trial is unowned if it belongs to no sweep.
    """
    from orchestrator.report.overview import print_store, store_summary

    summary = store_summary(open_store(store, must_exist=True))
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        print_store(summary, terminal())


def _follow(sweep: str, changes: list[str], store: Store) -> None:
    """Follow a sweep by its file or by its name in the store. Its data need not be here."""
    from orchestrator.report.follow import Follower, follow

    follow(Follower(store, sweep_name(sweep, changes, store)), terminal())


def query(
    sql: Annotated[str, typer.Argument(help="One SELECT from the tables.")],
    store: StoreOption = RESULTS,
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    as_json: JsonOption = False,
    parquet: Annotated[Path | None, typer.Option(help="Write a Parquet file.")] = None,
) -> None:
    """Query the tables in SQL (DuckDB)."""
    from orchestrator.report.answers import to_parquet
    from orchestrator.report.query import needs_store, run_query

    def note(gaps: str) -> None:
        echo(gaps, err=True)

    table = run_query(open_store(store, must_exist=needs_store(sql)), sql, note)
    if parquet is not None:
        to_parquet(table, parquet)
        echo(f"wrote {table.num_rows} rows to {parquet}", err=True)
    else:
        print_table(table, csv, as_json)


def reference(
    what: Annotated[
        Literal["table1", "figure2", "figure3"] | None,
        typer.Argument(help="Recompute this from the published results; by default, list them."),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the published results, or Table 1 or a figure from them.

    Table 1 is in percentage points.
    """
    from orchestrator.reference import recomputed
    from orchestrator.reference.published import paper
    from orchestrator.report import reference_tables as tables

    if what is None:
        networks = paper()
        print_table(networks if csv or as_json else networks.select(SHOWN), csv, as_json)
        return
    values: Any = {
        "table1": recomputed.table1,
        "figure2": recomputed.figure2,
        "figure3": recomputed.figure3,
    }[what]()
    if as_json:
        typer.echo(json.dumps(values, indent=1))
    elif csv:
        import pyarrow as pa

        rows = values if what == "table1" else next(iter(values.values()))
        print_table(pa.Table.from_pylist(rows), csv, as_json)
    elif what == "table1":
        terminal().print(tables.table1(values, recomputed.mixes()))
    elif what == "figure2":
        terminal().print(tables.figure2(values))
    else:
        terminal().print(tables.figure3(values))


def report(
    sweep: SweepArgument,
    store: StoreOption = RESULTS,
    changes: SetOption = [],  # noqa: B006
    metric: MetricOption = "top1",
    margin: MarginOption = MARGIN_POINTS,
) -> None:
    """Write the report of a sweep: one HTML file, and its figures.

    The figures are PNG, SVG and PDF files.
    """
    opened = open_store(store, must_exist=True)
    name = sweep_name(sweep, changes, opened)
    echo(report_of(opened, name, statistics_of(opened, name, metric), margin))


def advise(
    sweep: SweepArgument,
    store: StoreOption = RESULTS,
    changes: SetOption = [],  # noqa: B006
    margin: MarginOption = MARGIN_POINTS,
    as_json: JsonOption = False,
) -> None:
    """Say which layers to freeze and which to fine-tune.

    The answer has the cost of each option, and bounds that say how sure it is.
    """
    from orchestrator.report import advised

    opened = open_store(store, must_exist=True)
    name = sweep_name(sweep, changes, opened)
    answers = statistics_of(opened, name, "top1").advice(margin / 100)
    if not answers:
        raise LayerwiseError(
            f"sweep {name} has no complete frozen transfer yet: add transfer to its treatments and "
            f"run it"
        )
    if as_json:
        typer.echo(json.dumps([advised.as_json(answer) for answer in answers], indent=2))
    else:
        advised.print_advice(answers, terminal())


def export(
    what: Annotated[
        Literal["weights", "csv", "parquet", "duckdb", "tensorboard", "mlflow"],
        typer.Argument(
            help="Weights of a trial; tables as csv, parquet or duckdb; runs for tensorboard or "
            "mlflow."
        ),
    ],
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[TRIAL] TO",
            help="For weights, a name or the beginning of an id; then the file, the folder or "
            "MLflow's address to write to.",
        ),
    ],
    sweep: Annotated[
        str | None,
        typer.Option(help="Only this sweep; for weights, that in which the trial has this name."),
    ] = None,
    store: StoreOption = RESULTS,
) -> None:
    """Write results for other programs: weights, tables or runs.

    An export can be repeated: what it wrote before is replaced, and nothing is there twice.
    """
    opened = open_store(store, must_exist=True)
    if what == "weights":
        if len(words) != 2:
            raise LayerwiseError("export weights takes a trial and a file: 'A s2' a.safetensors")
        _export_weights(opened, words[0], Path(words[1]), sweep)
        return
    if len(words) != 1:
        raise LayerwiseError(f"export {what} takes one place to write to, found {len(words)}")
    (to,) = words
    if what in ("tensorboard", "mlflow"):
        from orchestrator.report import trackers
        from orchestrator.stats.statistics import Statistics

        of = Statistics.of_sweep(opened, sweep) if sweep else Statistics.of_store(opened)
        if what == "mlflow":
            written, present = trackers.to_mlflow(of, to)
            echo(f"wrote {written} runs to {to}; {present} were there already")
        else:
            echo(f"wrote {trackers.to_tensorboard(of, Path(to))} runs to {to}")
        return
    from orchestrator.report import export as files

    tables = files.tables_of(opened, sweep)
    write = {
        "csv": files.write_csv,
        "parquet": files.write_parquet,
        "duckdb": files.write_database,
    }[what]
    write(tables, Path(to))
    echo(f"wrote {len(tables)} tables to {to}")


def _export_weights(store: Store, trial: str, path: Path, sweep: str | None) -> None:
    """Write the final weights of a trial to a file, to copy layers from in other sweeps."""
    from orchestrator.store.exports import weights_of
    from trainers import whole_file

    if path.exists():
        raise LayerwiseError(f"{path} exists; give another name")
    name, data = weights_of(store, trial, sweep)
    try:
        whole_file.write(path, data)
    except OSError as error:
        raise LayerwiseError(f"cannot write {path}: {error.strerror}") from error
    echo(f"wrote the weights of {name} to {path}")
