"""Commands on sweep files: write one, check it, plan it, list its splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.arguments import (
    RESULTS,
    JsonOption,
    OnlyOption,
    SetOption,
    StoreOption,
    SweepArgument,
    open_store,
    plan_of,
    resolved_sweep,
    selected,
)
from orchestrator.cli.surroundings import echo
from orchestrator.errors import LayerwiseError
from orchestrator.report.console import say, terminal
from trainers import whole_file


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("sweep.yaml"),
) -> None:
    """Write a sweep file with a comment for every key, to start from."""
    from importlib import resources

    template = resources.files("sweeps") / "template.yaml"
    try:
        whole_file.create(path, template.read_bytes())
    except FileExistsError as error:
        raise LayerwiseError(f"{path} exists; give another name") from error
    except OSError as error:
        raise LayerwiseError(f"cannot write {path}: {error.strerror}") from error
    echo(f"wrote {path}; try: layerwise check {path}")


def check(
    sweep: SweepArgument,
    store: StoreOption = RESULTS,
    changes: SetOption = [],  # noqa: B006 - typer copies it
) -> None:
    """Train every treatment for two steps, to find mistakes.

    Before that, the datasets of the sweep, its layers and the cuts after them are shown.
    """
    from orchestrator.cluster import shipment_of
    from orchestrator.execution.check import (
        STEPS,
        check_features,
        check_own_code,
        lane_by_lane,
        try_treatments,
    )
    from orchestrator.plan.plan import make_plan
    from orchestrator.plan.resolve import find_data
    from orchestrator.report.plan_status import design_notes
    from orchestrator.report.terminal import dataset_line, layers_table

    opened, out = open_store(store), terminal()
    resolved = resolved_sweep(sweep, changes, opened)
    find_data(resolved.sweep, resolved.source)
    for ref, data in resolved.datasets.items():
        say(out, dataset_line(ref.name, data))
    out.print(layers_table(resolved))
    for line in check_own_code(resolved):
        say(out, line)
    if code := shipment_of(resolved.sweep):
        say(out, code.line())
        if problem := code.problem():
            say(out, f"on a cluster: {problem}")
    for line in lane_by_lane(resolved):
        say(out, line)
    planned = make_plan(resolved)
    check_features(planned, opened)
    trained = try_treatments(resolved)
    names = ", ".join(sorted({trial.treatment_name for trial in trained}))
    out.print(f"{len(trained)} trainings of {STEPS} steps went well: {names}")
    for note in design_notes(planned):
        say(out, note)


def plan(
    sweep: SweepArgument,
    store: StoreOption = RESULTS,
    changes: SetOption = [],  # noqa: B006
    only: OnlyOption = None,
    device: Annotated[
        str | None,
        typer.Option(help="Estimate GPU-hours: k20, or a JSON file of images per second."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a sweep would train, and what that costs.

    Complete trials are counted too. The cost is that of the others.
    """
    from orchestrator.plan.cost import device_of
    from orchestrator.report.plan_status import plan_summary, print_plan

    measured = device_of(device) if device else None
    opened = open_store(store)
    planned = plan_of(sweep, changes, opened)
    summary = plan_summary(planned, opened, selected(planned, only), measured)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        print_plan(summary, terminal())


def splits(
    sweep: SweepArgument,
    store: StoreOption = RESULTS,
    changes: SetOption = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """List the classes in both halves of every split, with hashes."""
    from orchestrator.plan.splits import summary as splits_summary

    resolved = resolved_sweep(sweep, changes, open_store(store))
    if not resolved.splits:
        raise LayerwiseError(f"sweep {resolved.sweep.name} has named tasks and no splits")
    summary = splits_summary(resolved.splits, resolved.data.classes)
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        from orchestrator.report.terminal import splits_table

        terminal().print(splits_table(summary))
