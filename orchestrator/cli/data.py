"""Commands on data: pack a dataset, write features, draw pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestrator.cli.arguments import (
    RESULTS,
    SetOption,
    StoreOption,
    SweepArgument,
    open_store,
    plan_of,
    report_folder,
)
from orchestrator.cli.surroundings import echo
from orchestrator.errors import LayerwiseError
from trainers.canonical import ConfigError


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
    """Decode the images of a dataset once, for faster training.

    Training then reads them from memory-mapped files. After a stop, the same command continues.
    Results and ids are equal with and without a pack.
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


def features(
    sweep: SweepArgument,
    source: Annotated[
        str,
        typer.Argument(
            help="A base such as 'A s2', another trial, the beginning of an id, or a name under "
            "weights."
        ),
    ],
    layer: Annotated[
        list[int], typer.Option(help="Number of a layer; may be given several times.")
    ],
    task: Annotated[
        str | None,
        typer.Option(help="Task of the images, such as 'B s2' or mnist. Default: the trial's."),
    ] = None,
    to: Annotated[Path, typer.Option(help="Folder of the Parquet files.")] = Path("features"),
    pool: Annotated[
        Literal["average", "maximum", "none"],
        typer.Option(help="Mean or maximum of each channel, or all values."),
    ] = "average",
    most: Annotated[
        int | None,
        typer.Option(min=1, help="Most values of a vector with --pool none; places are averaged."),
    ] = None,
    store: StoreOption = RESULTS,
    changes: SetOption = [],  # noqa: B006
) -> None:
    """Write outputs of layers for all images of a task, as Parquet.

    The network is one that was trained, or a file of weights. After a stop, the same command
    continues after the finished files.
    """
    from orchestrator.execution.features import extract
    from orchestrator.execution.origin import weights_of
    from orchestrator.plan.extraction import Extraction
    from orchestrator.plan.origin import origin
    from orchestrator.report.progress import pack_progress
    from orchestrator.report.wording import count
    from trainers.feature_form import FeatureForm

    opened = open_store(store)
    planned = plan_of(sweep, changes, opened)
    try:
        form = FeatureForm(layers=tuple(layer), pool=pool, most=most)
    except ConfigError as error:
        raise LayerwiseError(f"--{error.field}: {error}") from error
    of = origin(planned, source, task)
    weights = weights_of(planned, of, opened)
    with pack_progress("features", "images") as progress:
        images = extract(Extraction(origin=of, form=form), weights, to, progress, opened)
    echo(f"wrote the features of {count(images, 'image')} to {to}")


def pictures(
    sweep: SweepArgument,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE…",
            help="Bases such as 'A s2', other trials, beginnings of ids, or names under weights.",
        ),
    ],
    layer: Annotated[int, typer.Option(help="Number of the layer whose outputs are mapped.")],
    task: Annotated[
        str | None,
        typer.Option(help="Task of the images, such as 'B s2' or mnist. Default: each trial's."),
    ] = None,
    projection: Annotated[
        Literal["tsne", "pca"], typer.Option(help="t-SNE or principal components.")
    ] = "tsne",
    to: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the page and PNG files. Default: with the sweep's report, which then "
            "shows them."
        ),
    ] = None,
    store: StoreOption = RESULTS,
    changes: SetOption = [],  # noqa: B006
) -> None:
    """Draw filters and maps of images of networks, side by side.

    The filters are those of the first layer. A map shows images by the outputs of one layer.
    """
    from orchestrator.execution.origin import weights_of
    from orchestrator.execution.pictures import picture
    from orchestrator.plan.origin import origin
    from orchestrator.report.pictures import write_pictures
    from orchestrator.store.names import PICTURES

    opened = open_store(store)
    planned = plan_of(sweep, changes, opened)
    drawn = []
    for source in dict.fromkeys(sources):
        of = origin(planned, source, task)
        weights = weights_of(planned, of, opened, layers=layer)
        drawn.append(picture(of, weights, layer, projection))
    name = planned.sweep.name
    if to is None:
        to = report_folder(opened, name, PICTURES) if opened.exists() else Path(PICTURES)
    echo(write_pictures(drawn, name, layer, projection, to))
