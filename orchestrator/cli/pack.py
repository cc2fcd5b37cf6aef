"""The work of `layerwise pack`: write or verify a pack, with progress on standard error."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestrator.errors import LayerwiseError
from orchestrator.report.progress import pack_progress
from orchestrator.sweep.components import Data
from orchestrator.sweep.load import load_sweep
from trainers import datasets
from trainers.canonical import ConfigError, freeze_options
from trainers.datasets import pack_writer, packs
from trainers.datasets.images import DataError
from trainers.datasets.places import expand, place
from trainers.datasets.sets import Stored
from trainers.spelling import hint


def packable(argument: str, options: Mapping[str, object], root: str | None) -> Data:
    """Return the dataset that `argument` names, or that a sweep uses, with these options and root.

    Raises `LayerwiseError` for a dataset that does not consist of image files.
    """
    if argument in datasets.DATASETS:
        data = Data(name=argument)
    elif near := hint(argument, datasets.DATASETS):
        raise LayerwiseError(f"no dataset {argument!r}{near}")
    else:
        of_sweep = [*load_sweep(argument)[0].datasets.values()]
        data = next(
            (x for x in of_sweep if not x.is_own and datasets.DATASETS[x.name].packable),
            of_sweep[0],
        )
    if data.is_own or not datasets.DATASETS[data.name].packable:
        names = ", ".join(n for n, kind in datasets.DATASETS.items() if kind.packable)
        raise LayerwiseError(f"{data.name} needs no pack; datasets of image files: {names}")
    return data.model_copy(
        update={"options": {**data.options, **options}, "root": root or data.root}
    )


def write(data: Data, *, workers: int | None, to: str | None, allow_corrupt: bool) -> Path:
    """Pack a dataset beside its images, or in `to`. Return the pack's folder.

    Raises `LayerwiseError` for missing or corrupt data, a full disk, or a pack that already exists.
    """
    with _one_line_errors(data), pack_progress("packing", "images") as progress:
        images = _stored(data, ())
        return pack_writer.pack(
            images,
            (expand(to) if to else images.folder) / "packs",
            workers=workers or os.cpu_count() or 1,
            allow_corrupt=allow_corrupt,
            progress=progress,
        )


def verify(data: Data, to: str | None) -> Path:
    """Compare a dataset's pack with its checksums. Return the pack's folder.

    Raises `LayerwiseError` for a pack that is missing or damaged.
    """
    with _one_line_errors(data), pack_progress("verifying", "MB", 10**6) as progress:
        beside, home = place(data.name, data.root).packs
        elsewhere = expand(to) / "packs" if to else home
        images = _stored(data, (beside, elsewhere))
        if not images.pack:
            raise DataError("it has no pack; make one with: layerwise pack")
        if damaged := packs.verify(images.folder, progress):
            raise DataError(
                f"pack {images.folder} is damaged in {', '.join(damaged)}: remove it and make it "
                "again with: layerwise pack"
            )
        return images.folder


def _stored(data: Data, where: tuple[Path, ...]) -> Stored:
    """Load the images of a dataset from a pack in one of the folders `where`, or from files."""
    options = datasets.options_of(data.name, freeze_options(data.options))
    at = dataclasses.replace(place(data.name, data.root), packs=where)
    stored = datasets.DATASETS[data.name].loaded(options, at).stored
    assert isinstance(stored, Stored)
    return stored


@contextlib.contextmanager
def _one_line_errors(data: Data) -> Iterator[None]:
    """Turn errors of the data into one line for the user."""
    try:
        yield
    except ConfigError as error:
        raise LayerwiseError(f"dataset {data.name}, {error.field}: {error}") from error
    except DataError as error:
        raise LayerwiseError(f"dataset {data.name}: {error}") from error
