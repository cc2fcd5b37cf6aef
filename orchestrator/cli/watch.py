"""The command that shows a sweep on a page while it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.arguments import RESULTS, SetOption, StoreOption, open_store, sweep_name
from orchestrator.cli.surroundings import echo


def watch(
    sweep: Annotated[
        str | None,
        typer.Argument(
            metavar="SWEEP", help="Sweep, as for `run`; by default that of the latest run."
        ),
    ] = None,
    store: StoreOption = RESULTS,
    changes: SetOption = [],  # noqa: B006
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Port on 127.0.0.1; by default 8901, or a free one if it is not."
        ),
    ] = None,
    is_opened: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser.")
    ] = False,
) -> None:
    """Show a sweep in the browser while it runs. Only its store is read."""
    from orchestrator.store.ownership import refuse_newer_store
    from orchestrator.sweep.load import is_file_or_bundled
    from orchestrator.watch.server import serve

    opened = open_store(store)
    refuse_newer_store(opened.files)
    name = ""
    if sweep is not None:
        name = sweep_name(sweep, changes, opened)
        if name not in opened.sweep_names() and not (changes or is_file_or_bundled(sweep)):
            opened.members(name)  # says which sweeps are there
    serve(store, name, port, lambda address: echo(f"{address}\nCtrl-C ends it"), is_opened)
