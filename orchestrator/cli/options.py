"""Arguments and options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

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
