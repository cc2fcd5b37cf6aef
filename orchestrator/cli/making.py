"""What is done before and after a run: write and check a sweep, pack its data, clean up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.opening import open_store, terminal
from orchestrator.cli.options import RESULTS, SetOption, StoreOption, SweepArgument
from orchestrator.cli.running import INTERRUPTED
from orchestrator.errors import LayerwiseError


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


def check(sweep: SweepArgument, changes: SetOption = []) -> None:  # noqa: B006 - typer copies it
    """Read a sweep, show its layers and cut points, and train every treatment for two steps."""
    from orchestrator.check import check_sweep

    check_sweep(sweep, changes, terminal())


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


def clean(
    store: StoreOption = RESULTS,
    failed: Annotated[bool, typer.Option("--failed", help="Trials not complete.")] = False,
    sweep: Annotated[str | None, typer.Option(help="A sweep and its own trials.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
) -> None:
    """List what may go, then remove it: orphans always, and what the options name."""
    from orchestrator import clean as cleaning

    opened = open_store(store, must_exist=True)
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
