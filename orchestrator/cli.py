"""The command line. Every command is thin: it reads its arguments, asks, prints the answer."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestrator.errors import LayerwiseError, SweepError

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from orchestrator.experiment import Experiment
    from orchestrator.plan import Plan
    from orchestrator.progress import RunProgress
    from orchestrator.run import Run
    from orchestrator.store import Store

INTERRUPTED = 130
DRAINED = os.EX_TEMPFAIL  # 75: run the same command again, as batch systems understand it
MISTAKE = 2

app = typer.Typer(
    help="How transferable are the features of each layer of a network?",
    epilog="Start with: layerwise run digits",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SweepArgument = Annotated[
    str, typer.Argument(metavar="SWEEP", help="A YAML file or a bundled sweep, such as digits.")
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
    typer.Option("--only", help="These trials and their bases: 'treatment=transfer and n=3'."),
]
AddressOption = Annotated[
    str | None,
    typer.Option(envvar="RAY_ADDRESS", help="A Ray cluster that runs; without, a local one."),
]
CpusOption = Annotated[int | None, typer.Option(min=1, help="CPUs of the local cluster.")]
GpusOption = Annotated[int | None, typer.Option(min=0, help="GPUs of the local cluster.")]
DashboardOption = Annotated[bool, typer.Option("--dashboard", help="Start Ray's dashboard.")]
InlineOption = Annotated[bool, typer.Option("--inline", help="Train in this process, without Ray.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
RESULTS = "results"
SHOWN = ["directory", "name", "division", "val_mean10", "top1", "outcome"]  # of the paper's rows


@app.command(epilog="Example: layerwise init mine.yaml")
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("sweep.yaml"),
) -> None:
    """Write a commented sweep file to start from."""
    from importlib import resources

    text = (resources.files("sweeps") / "template.yaml").read_text(encoding="utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise LayerwiseError(f"{path} exists; give another name") from error
    except OSError as error:
        raise LayerwiseError(f"cannot write {path}: {error.strerror}") from error
    typer.echo(f"wrote {path}; try: layerwise check {path}")


@app.command(epilog="Example: layerwise check mine.yaml")
def check(sweep: SweepArgument, changes: SetOption = []) -> None:  # noqa: B006 - typer copies it
    """Read a sweep, show its layers and cut points, and train every treatment for two steps."""
    from orchestrator.check import check_sweep

    check_sweep(sweep, changes, _console())


@app.command(epilog="Examples: layerwise plan digits --json; layerwise plan mine.yaml --device k20")
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
    planned, opened = _plan(sweep, changes), _store(store)
    summary = plan_summary(planned, opened, _selected(planned, only), measured)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        print_plan(summary, _console())


@app.command(epilog="Example: layerwise splits digits --json")
def splits(
    sweep: SweepArgument,
    changes: SetOption = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """The classes of both halves of every split, and a hash of each half."""
    from orchestrator.splitting import summary as splits_summary

    summary = splits_summary(_examine(sweep, changes).splits)
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        from orchestrator.console import splits_table

        _console().print(splits_table(summary))


@app.command(
    epilog="Examples: layerwise run digits; layerwise run mine.yaml --set recipe.steps=100 "
    "--only 'treatment=transfer and n=3'; layerwise run mine.yaml --address auto"
)
def run(
    sweep: SweepArgument,
    store: StoreOption = RESULTS,
    changes: SetOption = [],  # noqa: B006
    only: OnlyOption = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Train failed ones again.")
    ] = False,
    address: AddressOption = None,
    cpus: CpusOption = None,
    gpus: GpusOption = None,
    dashboard: DashboardOption = False,
    inline: InlineOption = False,
    report: Annotated[bool, typer.Option(help="Write the report at the end.")] = True,
) -> None:
    """Train what the store lacks, and show the answer. After a stop, the same command goes on."""
    planned, opened, out = _plan(sweep, changes), _store(store), _console()
    from orchestrator.progress import RunProgress
    from orchestrator.run import Run

    progress = RunProgress(out, planned.flops)
    carried = Run(
        planned, opened, progress, only=_selected(planned, only), retry_failed=retry_failed
    )
    say(out, f"{sweep}: {len(carried.trials)} trials, {carried.already} complete in {store}")
    if carried.studies:
        from orchestrator.search.showing import print_studies, studies_summary

        print_studies(studies_summary(planned, opened), out)
    _train(carried, progress, out, None if inline else (address, cpus, gpus, dashboard))
    _conclude(carried, opened, out, report)


@app.command(
    epilog="Examples: layerwise search digits_search; "
    "layerwise search digits_search --export study.db; optuna-dashboard sqlite:///study.db"
)
def search(
    sweep: SweepArgument,
    store: StoreOption = RESULTS,
    changes: SetOption = [],  # noqa: B006
    address: AddressOption = None,
    cpus: CpusOption = None,
    gpus: GpusOption = None,
    dashboard: DashboardOption = False,
    inline: InlineOption = False,
    export: Annotated[
        Path | None, typer.Option(help="Write an Optuna storage, for optuna-dashboard.")
    ] = None,
) -> None:
    """Search the schedule of fine-tuned trials, and train nothing else. `run` goes on from it."""
    planned, opened, out = _plan(sweep, changes), _store(store), _console()
    if not planned.studies:
        raise LayerwiseError(f"{sweep} searches nothing; fine_tune: {{search: {{}}}} would")
    if export is not None and export.exists():
        raise LayerwiseError(f"{export} exists; give another name")
    from orchestrator.progress import RunProgress
    from orchestrator.run import Run
    from orchestrator.search.sampling import export as write_storage
    from orchestrator.search.showing import print_studies, print_study, rows_of, studies_summary

    progress = RunProgress(out, planned.flops)
    carried = Run(planned, opened, progress, only=(), search=True)
    print_studies(studies_summary(planned, opened), out)
    _train(carried, progress, out, None if inline else (address, cpus, gpus, dashboard))
    found = {study.id: rows_of(study, opened) for study in planned.studies}
    for study in planned.studies:
        print_study(study, found[study.id], out)
    if export is not None:
        names = {study.id: f"{study.sweep} {study.role} {study.id}" for study in planned.studies}
        write_storage(export, {names[id]: rows for id, rows in found.items()})
        say(out, f"wrote {export}; look at it with: optuna-dashboard sqlite:///{export}")
    if not all(one.choice() for one in carried.studies):
        say(out, f"not every search has a choice; why: layerwise status {sweep}")
        raise typer.Exit(1)


Places = tuple[str | None, int | None, int | None, bool]  # address, cpus, gpus, dashboard


def _train(carried: Run, progress: RunProgress, out: Console, places: Places | None) -> None:
    """Train what is open, on Ray or, without places, in this process."""
    progress.work = carried.flops
    missing = [carried.trials[id] for id in carried.open_trials()] + carried.open_study_trials()
    if not missing:
        return
    if not (places and places[0]):  # a cluster's own machines have the data
        _find_data(carried.plan)
    progress.begin(missing)
    try:
        if places is None:
            from orchestrator.inline import run_inline

            run_inline(carried)
        else:
            _launch(carried, *places)
    except KeyboardInterrupt:
        progress.close()
        _say_stopped(carried, out)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        progress.close()
    if carried.open_trials() or carried.open_study_trials():
        _say_stopped(carried, out)
        raise typer.Exit(DRAINED)


def _say_stopped(carried: Run, out: Console) -> None:
    complete = carried.tally()["complete"]
    say(
        out,
        f"stopped with {complete} of {len(carried.trials)} trials complete; "
        "the same command goes on from here",
    )


def _launch(
    carried: Run, address: str | None, cpus: int | None, gpus: int | None, dashboard: bool
) -> None:
    if address:
        os.environ["RAY_ADDRESS"] = address  # read when Ray is imported
    from orchestrator.experiment import own_modules
    from orchestrator.launch import Cluster, launch

    modules = tuple(own_modules(carried.plan.sweep))
    launch(carried, Cluster(cpus=cpus, gpus=gpus, dashboard=dashboard, modules=modules))


def _conclude(carried: Run, store: Store, out: Console, report: bool) -> None:
    """The table of results, the report, and an exit code that says whether all is complete."""
    from orchestrator.console import summary_table
    from orchestrator.stats import needs_classes

    tally = carried.tally()
    name, sweep = carried.plan.sweep.name, carried.plan.source.argument
    if tally["complete"]:
        members = store.members(name)
        classes = store.table("classes") if needs_classes(members) else None
        out.print(summary_table(members, store.table("trials"), classes))
        if report:
            say(out, f"report: {_write_report(store, name)}")
    bad = {state: n for state, n in tally.items() if n and state != "complete"}
    if bad:
        counts = ", ".join(f"{n} {state}" for state, n in bad.items())
        again = "" if "failed" not in bad else " (failed trials run again with --retry-failed)"
        say(out, f"{counts} of {len(carried.trials)} trials{again}; why: layerwise status {sweep}")
        raise typer.Exit(1)


@app.command(epilog="Examples: layerwise status digits; layerwise status digits --follow")
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
        _follow(sweep, changes, _store(store, must_exist=True))
        return
    from orchestrator.status import print_status, status_summary

    summary = status_summary(_plan(sweep, changes), _store(store))
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        print_status(summary, _console())


@app.command(
    epilog='Example: layerwise query "SELECT treatment, n, avg(top1) FROM trials GROUP BY ALL '
    'ORDER BY ALL"; tables: trials, curves, classes, sweeps, effects, levels, speed, speeds, '
    "table1, studies, held_out, paper, paper_curves",
)
def query(
    sql: Annotated[str, typer.Argument(help="One SELECT over the tables.")],
    store: StoreOption = RESULTS,
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    as_json: JsonOption = False,
    parquet: Annotated[Path | None, typer.Option(help="Write a Parquet file.")] = None,
) -> None:
    """Ask the tables in SQL (DuckDB)."""
    from orchestrator import query as asking

    table = asking.run_query(_store(store, must_exist=asking.needs_store(sql)), sql)
    if parquet is not None:
        asking.to_parquet(table, parquet)
        typer.echo(f"wrote {table.num_rows} rows to {parquet}", err=True)
    else:
        _print_table(table, csv, as_json)


@app.command(
    epilog="Examples: layerwise reference --csv; layerwise reference table1; "
    "layerwise reference figure3 --json"
)
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
        _print_table(whole if csv or as_json else whole.select(SHOWN), csv, as_json)
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
        _print_table(pa.Table.from_pylist(rows), csv, as_json)
    elif what == "table1":
        _console().print(console.reference_table1(found, recomputed.mixes()))
    elif what == "figure2":
        _console().print(console.reference_figure2(found))
    else:
        _console().print(console.reference_figure3(found))


@app.command(epilog="Example: layerwise report digits")
def report(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="Name of a sweep in the store.")],
    store: StoreOption = RESULTS,
) -> None:
    """Write the report: one HTML file and the figures as PNG."""
    name = sweep if not Path(sweep).suffix else _plan(sweep, []).sweep.name
    typer.echo(_write_report(_store(store, must_exist=True), name))


@app.command(epilog="Example: layerwise debug digits 'A3B+ s2'")
def debug(
    sweep: SweepArgument,
    trial: Annotated[str, typer.Argument(help="Beginning of an id, or a name: 'A3B+ s2'.")],
    store: StoreOption = RESULTS,
    changes: SetOption = [],  # noqa: B006
    record: Annotated[bool, typer.Option("--record", help="Write to the store.")] = False,
    pdb: Annotated[bool, typer.Option("--pdb", help="Stop in pdb at an error.")] = False,
) -> None:
    """Train one trial in this process, without Ray; its base first, where the store lacks it."""
    from orchestrator.debugging import debug_trial

    planned, opened = _plan(sweep, changes), _store(store)
    try:
        report = debug_trial(planned, trial, opened, record=record, echo=typer.echo)
    except LayerwiseError:
        raise
    except Exception:
        if not pdb:
            raise
        import pdb as debugger

        debugger.post_mortem(sys.exc_info()[2])
        raise typer.Exit(1) from None
    if report.message:
        typer.echo(report.message, err=True)
        raise typer.Exit(1)


@app.command(
    epilog="Examples: layerwise pack imagenet --root /data/ilsvrc; layerwise pack mine.yaml; "
    "layerwise pack imagenet --root /data/ilsvrc --verify"
)
def pack(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET|SWEEP", help="imagenet, or a sweep that uses one.")
    ],
    root: Annotated[str | None, typer.Option(help="Folder of the images.")] = None,
    size: Annotated[int | None, typer.Option(help="Pixels of a side; 256 by default.")] = None,
    resize: Annotated[
        str | None, typer.Option(help="squash (by default) or crop, which keeps the centre.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(help="Pack here, not beside the images; nodes find it in LAYERWISE_DATA."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores.")] = None,
    allow_corrupt: Annotated[
        bool, typer.Option("--allow-corrupt", help="Leave out files that cannot be read.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the checksums of a pack instead.")
    ] = False,
) -> None:
    """Decode a dataset's images once, so that training reads them from memory-mapped files.

    After a stop, the same command goes on. Results and ids are the same with and without a pack.
    """
    from orchestrator import packing

    options = {k: v for k, v in (("size", size), ("resize", resize)) if v is not None}
    data = packing.component(dataset, options, root)
    try:
        if verify:
            typer.echo(f"{packing.verify(data, to)}: every checksum is right")
        else:
            typer.echo(packing.write(data, workers=workers, to=to, allow_corrupt=allow_corrupt))
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from the shards that are whole", err=True)
        raise typer.Exit(INTERRUPTED) from None


@app.command(epilog="Example: layerwise clean --failed")
def clean(
    store: StoreOption = RESULTS,
    failed: Annotated[bool, typer.Option("--failed", help="Trials not complete.")] = False,
    sweep: Annotated[str | None, typer.Option(help="A sweep and its own trials.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
) -> None:
    """List what may go, then remove it: orphans always, and what the options name."""
    from orchestrator import clean as cleaning

    opened = _store(store, must_exist=True)
    waste = cleaning.orphans(opened)
    if failed:
        waste += cleaning.failed(opened)
    if sweep:
        waste += cleaning.of_sweep(opened, sweep)
    waste = list({item.path: item for item in waste}.values())
    for item in waste:
        typer.echo(f"{opened.files.shown(item.path)}  ({item.reason})")
    size = opened.size(item.path for item in waste)
    typer.echo(f"{len(waste)} files, {size / 1e6:.1f} MB")
    if waste and (yes or typer.confirm("remove them?")):
        cleaning.remove(opened, waste)
        typer.echo(f"removed {len(waste)} files")


def _follow(sweep: str, changes: list[str], store: Store) -> None:
    """`sweep` may be a file or the name of a sweep in the store: its data need not be here."""
    from orchestrator import sweep_file
    from orchestrator.follow import Follower, follow

    name = sweep_file.load(sweep, changes)[0].name if Path(sweep).suffix else sweep
    try:
        follow(Follower(store, name), _console())
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _examine(sweep: str, changes: list[str]) -> Experiment:
    from orchestrator import experiment, sweep_file

    return experiment.examine(*sweep_file.load(sweep, changes))


def _plan(sweep: str, changes: list[str]) -> Plan:
    from orchestrator import plan as planning

    return planning.plan(_examine(sweep, changes))


def _find_data(planned: Plan) -> None:
    from orchestrator.experiment import find_data

    dataset = planned.members[0].training.target.dataset
    find_data(planned.sweep, dataset, planned.source)


def _selected(planned: Plan, only: str | None) -> set[str] | None:
    from orchestrator.plan import select

    if only is None:
        return None
    found = select(planned, only)
    if not found:
        raise LayerwiseError(
            f"--only {only!r}: no trial of sweep {planned.sweep.name} is like that"
        )
    return found


def _store(place: str, must_exist: bool = False) -> Store:
    from orchestrator.store import Store

    store = Store(place)
    if must_exist and not store.exists():
        raise LayerwiseError(
            f"no store at {place}; `layerwise run` makes one, --store names another"
        )
    return store


def _print_table(table: pa.Table, csv: bool, as_json: bool) -> None:
    from orchestrator import query as asking

    if csv:
        typer.echo(asking.to_csv(table), nl=False)
    elif as_json:
        typer.echo(asking.to_json(table))
    else:
        from orchestrator.console import query_table

        out = _console()
        out.print(query_table(table, out.width))


def _write_report(store: Store, sweep: str) -> Path:
    from orchestrator.report.page import write_report

    here = Path() if store.is_remote else Path(store.root)  # a browser reads folders, not buckets
    return write_report(store, sweep, store.members(sweep), here / "reports" / sweep)


def say(out: Console, text: str) -> None:
    """One line, however wide the terminal is."""
    out.print(text, soft_wrap=True)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False)


def main(arguments: list[str] | None = None) -> Any:
    """The entry point: a user's mistake is one line a mistake on standard error and exit code 2."""
    try:
        return app(arguments)
    except LayerwiseError as error:
        prefix = "" if isinstance(error, SweepError) else "layerwise: "  # it names its file itself
        typer.echo(f"{prefix}{error}", err=True)
        sys.exit(MISTAKE)
