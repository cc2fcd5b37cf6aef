"""Training: a whole sweep, its searches alone, one trial."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.opening import (
    open_store,
    plan_of,
    report_of,
    require_data,
    say,
    selected,
    terminal,
)
from orchestrator.cli.options import (
    RESULTS,
    AddressOption,
    CpusOption,
    DashboardOption,
    GpusOption,
    InlineOption,
    OnlyOption,
    SetOption,
    StoreOption,
    SweepArgument,
)
from orchestrator.errors import LayerwiseError

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.progress import RunProgress
    from orchestrator.run import Run
    from orchestrator.store import Store


INTERRUPTED = 130
DRAINED = os.EX_TEMPFAIL  # 75: run the same command again, as batch systems understand it

Places = tuple[str | None, int | None, int | None, bool]  # address, cpus, gpus, dashboard


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
    planned, opened, out = plan_of(sweep, changes), open_store(store), terminal()
    from orchestrator.progress import RunProgress
    from orchestrator.run import Run

    progress = RunProgress(out, planned.flops)
    carried = Run(
        planned, opened, progress, only=selected(planned, only), retry_failed=retry_failed
    )
    say(out, f"{sweep}: {len(carried.trials)} trials, {carried.already} complete in {store}")
    if carried.studies:
        from orchestrator.search.showing import print_studies, studies_summary

        print_studies(studies_summary(planned, opened), out)
    _train(carried, progress, out, None if inline else (address, cpus, gpus, dashboard))
    _conclude(carried, opened, out, report)


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
    planned, opened, out = plan_of(sweep, changes), open_store(store), terminal()
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

    planned, opened = plan_of(sweep, changes), open_store(store)
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


def _train(carried: Run, progress: RunProgress, out: Console, places: Places | None) -> None:
    """Train what is open, on Ray or, without places, in this process."""
    progress.work = carried.flops
    missing = [carried.trials[id] for id in carried.open_trials()] + carried.open_study_trials()
    if not missing:
        return
    if not (places and places[0]):  # a cluster's own machines have the data
        require_data(carried.plan)
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
            say(out, f"report: {report_of(store, name)}")
    bad = {state: n for state, n in tally.items() if n and state != "complete"}
    if bad:
        counts = ", ".join(f"{n} {state}" for state, n in bad.items())
        again = "" if "failed" not in bad else " (failed trials run again with --retry-failed)"
        say(out, f"{counts} of {len(carried.trials)} trials{again}; why: layerwise status {sweep}")
        raise typer.Exit(1)
