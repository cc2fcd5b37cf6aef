"""Arguments that several commands share, and the sweeps, plans and stores that they name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.errors import LayerwiseError
from orchestrator.margin import MARGIN_POINTS
from orchestrator.report.console import say, shown, terminal

if TYPE_CHECKING:
    import pyarrow as pa

    from orchestrator.plan.plan import Plan
    from orchestrator.plan.resolve import ResolvedSweep
    from orchestrator.stats.statistics import Statistics
    from orchestrator.store.store import Store
    from orchestrator.sweep.schema import Sweep
    from orchestrator.sweep.source import Source

SweepArgument = Annotated[
    str,
    typer.Argument(metavar="SWEEP", help="A YAML file, a bundled sweep, or one in the store."),
]
StoreOption = Annotated[
    str,
    typer.Option(
        "--store", envvar="LAYERWISE_STORE", help="Folder of the results, or s3://bucket/prefix."
    ),
]
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the sweep: recipe.steps=100."),
]
OnlyOption = Annotated[
    str | None,
    typer.Option(
        "--only",
        metavar="CONDITION",
        help="SQL on a trial's labels; bases are added: \"treatment = 'transfer' AND n = 3\".",
    ),
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Replace a sweep of this name with other settings.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_ADDRESS",
        help="A running Ray cluster, or auto; by default a local one is started.",
    ),
]
CpusOption = Annotated[int | None, typer.Option(min=1, help="CPUs of the local cluster.")]
GpusOption = Annotated[int | None, typer.Option(min=0, help="GPUs of the local cluster.")]
DashboardOption = Annotated[bool, typer.Option("--dashboard", help="Start Ray's dashboard.")]
InlineOption = Annotated[bool, typer.Option("--inline", help="Train in this process, without Ray.")]
MarginOption = Annotated[
    float, typer.Option("--margin", min=0.0, help="Points that frozen layers may lose.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
MetricOption = Annotated[
    Literal[
        "top1",
        "top1_at_best",
        "val_mean10",
        "balanced_accuracy",
        "auroc",
        "train_gap",
        "map50",
        "map",
        "map50_voc07",
        "map50_voc10",
    ],
    typer.Option(
        help="Measure networks by test top-1 after the last step, test top-1 at the best "
        "validation step, the mean of the ten best validation top-1 (the paper's), balanced test "
        "accuracy, test AUROC of one class, or training less test top-1. Detectors: test mAP at "
        "an overlap of 0.5 (their default), over 0.5 to 0.95, or by the rules of PASCAL VOC."
    ),
]
RESULTS = "results"


def loaded_sweep(sweep: str, changes: list[str], store: Store | None) -> tuple[Sweep, Source]:
    """Load a sweep by its file or bundled name with `--set` changes, or by its name in a store."""
    from orchestrator.api.sweeps import loaded

    return loaded(sweep, changes, store)


def sweep_name(sweep: str, changes: list[str], store: Store) -> str:
    """Return the name in the store of a sweep. Its data need not be on this machine."""
    if not changes and sweep in store.sweep_names():
        return sweep
    from orchestrator.sweep.load import is_file_or_bundled

    is_known = changes or is_file_or_bundled(sweep)
    return loaded_sweep(sweep, changes, store)[0].name if is_known else sweep


def resolved_sweep(sweep: str, changes: list[str], store: Store | None = None) -> ResolvedSweep:
    """Load a sweep with its `--set` changes, its data and its network."""
    from orchestrator.plan.resolve import resolve

    resolved = resolve(*loaded_sweep(sweep, changes, store))
    for note in (note for data in resolved.datasets.values() for note in data.notes):
        say(terminal(errors=True), note)
    return resolved


def plan_of(sweep: str, changes: list[str], store: Store | None = None) -> Plan:
    """Load a sweep with its `--set` changes, and plan it."""
    from orchestrator.plan.plan import make_plan

    return make_plan(resolved_sweep(sweep, changes, store))


def selected(planned: Plan, only: str | None) -> set[str] | None:
    """Return the ids of the trials whose labels meet the SQL condition `only`; None without one.

    Raises `LayerwiseError` for a condition that is not valid or that no trial meets.
    """
    from orchestrator.api.sweeps import chosen

    return chosen(planned, only, "--only")


def open_store(place: str, must_exist: bool = False) -> Store:
    """Open the store at `place`. Raises `LayerwiseError` if it must exist and does not."""
    from orchestrator.cli.surroundings import do_without_pandas

    do_without_pandas()
    from orchestrator.store.store import Store

    store = Store(place)
    if must_exist and not store.exists():
        raise LayerwiseError(
            f"no store at {place}; `layerwise run` makes one, --store names another"
        )
    return store


def print_table(table: pa.Table, csv: bool, as_json: bool) -> None:
    """Print a table as CSV, as JSON or for a reader."""
    from orchestrator.report.answers import to_csv, to_json

    if csv:
        text = to_csv(table)
        typer.echo(shown(text) if sys.stdout.isatty() else text, nl=False)
    elif as_json:
        typer.echo(to_json(table))
    else:
        from orchestrator.report.terminal import query_table

        out = terminal()
        out.print(query_table(table, out.width))


def statistics_of(store: Store, sweep: str, metric: str) -> Statistics:
    """Return the statistics of a sweep by the metric of `MetricOption`.

    By default one class against the rest, and a detector, has its own metric, so the default names
    none. Raises `LayerwiseError` for a metric that no network of the sweep has.
    """
    from orchestrator.stats.statistics import Statistics

    statistics = Statistics.of_sweep(store, sweep, None if metric == "top1" else metric)
    if statistics.metric and not statistics.networks and statistics.results.num_rows:
        raise LayerwiseError(f"--metric: no complete trial of sweep {sweep} has a {metric}")
    return statistics


def report_of(
    store: Store, sweep: str, statistics: Statistics, margin: float = MARGIN_POINTS
) -> Path:
    """Write the report of a sweep, and return the path of its page. `margin` is in points."""
    from orchestrator.api.pages import write_report_of

    return write_report_of(store, sweep, statistics, margin)


def report_folder(store: Store, sweep: str, part: str = "") -> Path:
    """Return the folder of a sweep's report, or of a part of it. Raises `StoreError` for a link."""
    from orchestrator.api.pages import report_folder

    return report_folder(store, sweep, part)
