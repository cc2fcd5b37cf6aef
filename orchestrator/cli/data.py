"""Commands on data: pack a dataset."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.surroundings import echo


def pack(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET|SWEEP", help="A dataset of image files, or a sweep that uses one."
        ),
    ],
    root: Annotated[str | None, typer.Option(help="Folder of the images.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Side of an image in pixels; 256 by default.")
    ] = None,
    resize: Annotated[
        str | None, typer.Option(help="squash (the default), or crop, which keeps the centre.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(help="Pack to this folder; nodes find packs in LAYERWISE_DATA."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one per core.")
    ] = None,
    allow_corrupt: Annotated[
        bool, typer.Option("--allow-corrupt", help="Leave out images that cannot be read.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare a pack with its checksums instead.")
    ] = False,
) -> None:
    """Decode a dataset's images once, so that training reads them from memory-mapped files.

    After a stop, the same command continues. Results and ids are equal with and without a pack.
    """
    from orchestrator.cli import pack as packing

    options = {k: v for k, v in (("size", size), ("resize", resize)) if v is not None}
    data = packing.packable(dataset, options, root)
    try:
        if verify:
            echo(f"{packing.verify(data, to)}: every checksum is right")
        else:
            echo(packing.write(data, workers=workers, to=to, allow_corrupt=allow_corrupt))
    except KeyboardInterrupt:
        echo("stopped; the same command continues after the finished shards", err=True)
        raise
