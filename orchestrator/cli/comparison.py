"""Commands that set results beside each other: two sweeps, or a trial and the store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.arguments import (
    RESULTS,
    JsonOption,
    MetricOption,
    SetOption,
    StoreOption,
    open_store,
    plan_of,
)
from orchestrator.errors import LayerwiseError
from orchestrator.report.console import terminal

if TYPE_CHECKING:
    from orchestrator.store.store import Store


def compare(
    first: Annotated[str, typer.Argument(help="Name of a sweep in the store.")],
    second: Annotated[
        str, typer.Argument(help="Another sweep, or paper for the published results.")
    ],
    store: StoreOption = RESULTS,
    other: Annotated[
        str | None, typer.Option(help="Store of the second sweep, if it is another one.")
    ] = None,
    relative: Annotated[
        bool, typer.Option("--relative", help="Compare differences to the own base.")
    ] = False,
    metric: MetricOption = "top1",
    as_json: JsonOption = False,
) -> None:
    """Show which treatments and layers differ between two sweeps.

    Networks of the same split, target and seed are compared in pairs. Cells are marked at a
    false-discovery rate of 5 %. The settings in which the sweeps differ stand below.
    """
    from orchestrator.report.compare import Side, comparison, print_comparison

    opened = open_store(store, must_exist=True)
    beside = open_store(other, must_exist=True) if other is not None else opened
    chosen = None if metric == "top1" else metric
    is_paper = second == "paper" and second not in beside.sweep_names()
    sides = Side.of(opened, first, chosen), Side.of(None if is_paper else beside, second, chosen)
    result = comparison(*sides, relative=relative)
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        print_comparison(result, terminal())


def explain(
    trial: Annotated[
        str, typer.Argument(help="A name, such as 'A3B+ s2', or the beginning of an id.")
    ],
    sweep: Annotated[
        str | None,
        typer.Option(help="Sweep of the trial, as for `run`; by default the one in the store."),
    ] = None,
    store: StoreOption = RESULTS,
    changes: SetOption = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Explain why a trial was trained or reused, and what it cost.

    A trial's id hashes all that defines it. The nearest trial of the store is shown with the fields
    in which the two differ, and so are the trials that this one waits for.
    """
    from orchestrator.plan.filter import find
    from orchestrator.report.explain import explanation, print_explanation

    opened = open_store(store)
    sweep = _sweep_of(opened, trial) if sweep is None else sweep
    planned = plan_of(sweep, changes, opened)
    result = explanation(planned, find(planned, trial), opened)
    if as_json:
        typer.echo(json.dumps(result, indent=2, default=str))
    else:
        print_explanation(result, terminal())


def _sweep_of(store: Store, trial: str) -> str:
    """Return the only sweep of a store with a trial of this name or beginning of an id.

    Raises `LayerwiseError` for none, or for several.
    """
    rows = store.table("sweeps", ["sweep", "id", "name"]).to_pylist()
    known = [row for row in rows if row["name"] == trial] or [
        row for row in rows if row["id"].startswith(trial)
    ]
    names = list(dict.fromkeys(row["sweep"] for row in known))
    if len(names) == 1:
        return str(names[0])
    if names:
        problem = f"several sweeps have {trial!r}: {', '.join(names)}"
    else:
        problem = f"no sweep in {store.root} has a trial {trial!r}"
    raise LayerwiseError(f"{problem}; name one with --sweep")
