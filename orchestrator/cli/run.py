"""Commands that train: a sweep, only its searches, or one trial."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.api.run import DERIVED
from orchestrator.cli.arguments import (
    RESULTS,
    AddressOption,
    CpusOption,
    DashboardOption,
    GpusOption,
    InlineOption,
    MetricOption,
    OnlyOption,
    ReplaceOption,
    SetOption,
    StoreOption,
    SweepArgument,
    open_store,
    plan_of,
    report_of,
    selected,
    statistics_of,
)
from orchestrator.cli.surroundings import echo
from orchestrator.errors import LayerwiseError, StoreError
from orchestrator.report.console import say, terminal
from orchestrator.signals import DRAINED, SIGNALS, Lost
from orchestrator.states import State

if TYPE_CHECKING:
    from orchestrator.cluster import Cluster
    from orchestrator.execution.run import Run
    from orchestrator.report.console import Console
    from orchestrator.report.progress import RunProgress
    from orchestrator.store.store import Store


def run(
    sweep: SweepArgument,
    store: StoreOption = RESULTS,
    changes: SetOption = [],  # noqa: B006
    only: OnlyOption = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Train failed trials again.")
    ] = False,
    replace_sweep: ReplaceOption = False,
    address: AddressOption = None,
    cpus: CpusOption = None,
    gpus: GpusOption = None,
    dashboard: DashboardOption = False,
    inline: InlineOption = False,
    report: Annotated[bool, typer.Option(help="Write the report at the end.")] = True,
    metric: MetricOption = "top1",
) -> None:
    """Train what the store lacks, and show the answer. After a stop, the same command continues."""
    opened, out = open_store(store), terminal()
    planned = plan_of(sweep, changes, opened)
    from orchestrator.execution.run import Run
    from orchestrator.report.plan_status import design_notes
    from orchestrator.report.progress import RunProgress
    from orchestrator.report.wording import count
    from orchestrator.store.leases import in_use

    progress, chosen = RunProgress(out), selected(planned, only)
    with in_use(opened, planned.sweep.name, progress.activity):
        run = Run.open(
            planned,
            opened,
            progress,
            only=chosen,
            retry_failed=retry_failed,
            replace=replace_sweep,
        )
        _say_left(run, out)
        name = planned.sweep.name if changes else sweep
        say(out, f"{name}: {len(run.trials)} trials, {run.already} complete in {store}")
        for unit in DERIVED:
            if number := run.number_of(unit):
                say(out, f"{count(number, unit)}, {run.ended_items(unit)[State.COMPLETE]} complete")
        for note in design_notes(planned) if only is None else ():
            say(out, note)
        if any(study.id in run.items for study in planned.studies):
            from orchestrator.report.search_status import print_studies, studies_summary

            print_studies(studies_summary(planned, opened), out)
        _train(run, progress, out, _cluster(inline, address, cpus, gpus, dashboard))
        _conclude(run, opened, out, report, metric)


def search(
    sweep: SweepArgument,
    store: StoreOption = RESULTS,
    changes: SetOption = [],  # noqa: B006
    replace_sweep: ReplaceOption = False,
    address: AddressOption = None,
    cpus: CpusOption = None,
    gpus: GpusOption = None,
    dashboard: DashboardOption = False,
    inline: InlineOption = False,
    export: Annotated[
        Path | None, typer.Option(help="Write an Optuna storage for optuna-dashboard.")
    ] = None,
) -> None:
    """Search the schedule of fine-tuned trials.

    Nothing else is trained. `run` uses the result.
    """
    opened, out = open_store(store), terminal()
    planned = plan_of(sweep, changes, opened)
    if not planned.studies:
        raise LayerwiseError(f"sweep {sweep} declares no search; add fine_tune: {{search: {{}}}}")
    if export is not None and export.exists():
        raise LayerwiseError(f"{export} exists; give another name")
    from orchestrator.execution.run import Run
    from orchestrator.execution.suggestions import export as write_storage
    from orchestrator.plan.study import has_choice
    from orchestrator.report.progress import RunProgress
    from orchestrator.report.search_status import (
        print_studies,
        print_study,
        rows_of,
        studies_summary,
    )
    from orchestrator.store.leases import in_use

    progress = RunProgress(out)
    with in_use(opened, planned.sweep.name, progress.activity):
        run = Run.open(planned, opened, progress, only=(), search=True, replace=replace_sweep)
        _say_left(run, out)
        print_studies(studies_summary(planned, opened), out)
        _train(run, progress, out, _cluster(inline, address, cpus, gpus, dashboard))
    rows = {study.id: rows_of(study, opened) for study in planned.studies}
    for study in planned.studies:
        print_study(study, rows[study.id], out)
    if export is not None:
        names = {study.id: f"{study.sweep} {study.role} {study.id}" for study in planned.studies}
        write_storage(export, {names[id]: of_study for id, of_study in rows.items()})
        say(out, f"wrote {export}; look at it with: optuna-dashboard sqlite:///{export}")
    if not all(has_choice(study, rows[study.id]) for study in planned.studies):
        say(out, f"not every search has a choice; why: layerwise status {sweep}")
        raise typer.Exit(1)


def debug(
    sweep: SweepArgument,
    trial: Annotated[
        str, typer.Argument(help="A name, such as 'A3B+ s2', or the beginning of an id.")
    ],
    store: StoreOption = RESULTS,
    changes: SetOption = [],  # noqa: B006
    record: Annotated[
        bool, typer.Option("--record", help="Write the results to the store.")
    ] = False,
    pdb: Annotated[bool, typer.Option("--pdb", help="Open pdb where an error is raised.")] = False,
) -> None:
    """Train one trial in this process, without Ray.

    Its base is trained first, if the store lacks it.
    """
    from orchestrator.execution.debug import debug_trial, post_mortem
    from orchestrator.store.leases import in_use

    try:
        opened = open_store(store)
        planned = plan_of(sweep, changes, opened)
        with in_use(opened, planned.sweep.name) if record else contextlib.nullcontext():
            report = debug_trial(planned, trial, opened, record=record, echo=echo)
    except Exception as error:
        if pdb and post_mortem(error, functools.partial(echo, err=True)):
            raise typer.Exit(1) from None
        raise
    if report.message:
        echo(report.message, err=True)
        raise typer.Exit(1)


def _cluster(
    inline: bool, address: str | None, cpus: int | None, gpus: int | None, dashboard: bool
) -> Cluster | None:
    """The cluster that the options name; None to train in this process."""
    if inline:
        return None
    from orchestrator.cluster import Cluster

    return Cluster(address=address, cpus=cpus, gpus=gpus, dashboard=dashboard)


def _train(run: Run, progress: RunProgress, out: Console, cluster: Cluster | None) -> None:
    """Train what is open: on a cluster, or in this process without one."""
    from orchestrator.api.run import carry_out

    def say_lost() -> None:
        progress.close()
        _say_stopped(run, out, f"{SIGNALS.lost}; ")

    try:
        carry_out(run, progress, cluster, say_lost)
    except KeyboardInterrupt:
        _say_stopped(run, out)
        raise
    except Lost:
        say_lost()
        raise typer.Exit(1) from None
    if run.store_failure:
        _say_stopped(run, out, f"the store failed: {run.store_failure}; ")
        raise typer.Exit(1)
    if run.open_items():
        _say_stopped(run, out)
        raise typer.Exit(DRAINED)


def _say_left(run: Run, out: Console) -> None:
    if left := run.left:
        name = run.plan.sweep.name
        say(out, f"{left} trials of earlier code or data leave the sweep {name}")
    from orchestrator.report.wording import lacking_note

    for note in lacking_note(run.lacking):
        say(out, note)


def _say_stopped(run: Run, out: Console, reason: str = "") -> None:
    complete = run.tally()[State.COMPLETE]
    say(
        out,
        f"{reason}stopped with {complete} of {len(run.trials)} trials complete; "
        "the same command goes on from here",
    )


def _conclude(run: Run, store: Store, out: Console, report: bool, metric: str) -> None:
    """The table of results, the report, and an exit code that says whether all is complete."""
    from orchestrator.report.summary import known_summary
    from orchestrator.report.terminal import summary_table

    tally = run.tally()
    name, sweep = run.plan.sweep.name, run.plan.source.command
    if tally[State.COMPLETE]:
        try:
            statistics = functools.cache(lambda: statistics_of(store, name, metric))
            out.print(summary_table(known_summary(store, name, metric, statistics)))
            if report:
                say(out, f"report: {report_of(store, name, statistics())}")
        except (StoreError, OSError) as error:
            _say_stopped(run, out, f"no summary or report: {error}; ")
            raise typer.Exit(1) from None
    ends: dict[str, Counter[str]] = {
        "trials": Counter(tally),
        **{
            f"{unit}s": Counter({x.value: n for x, n in run.ended_items(unit).items()})
            for unit in DERIVED
        },
    }
    for units, states in ends.items():
        bad = {state: n for state, n in states.items() if n and state != State.COMPLETE}
        if bad:
            counts = ", ".join(f"{n} {state}" for state, n in bad.items())
            again = f" (failed {units} run again with --retry-failed)" * (State.FAILED in bad)
            total = states.total()
            say(out, f"{counts} of {total} {units}{again}; why: layerwise status {sweep}")
    if any(states.total() > states[State.COMPLETE] for states in ends.values()):
        raise typer.Exit(1)
