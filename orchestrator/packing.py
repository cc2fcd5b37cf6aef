"""`layerwise pack`: a dataset decoded once, with progress on standard error; and its checksums."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orchestrator import sweep_file
from orchestrator.errors import LayerwiseError
from orchestrator.progress import LINE_SECONDS
from orchestrator.spec import Data
from orchestrator.yaml_source import hint
from trainers import datasets, packing, packs
from trainers.config import ConfigError, freeze_options
from trainers.datasets.images import DataError
from trainers.datasets.listings import forget
from trainers.datasets.places import expand, place
from trainers.datasets.sets import Stored

Told = Callable[[int, int], None]


def component(argument: str, options: Mapping[str, object], root: str | None) -> Data:
    """The dataset that an argument names, or that a sweep uses, with some of its options changed.

    Raises `LayerwiseError` for one that is not made of image files.
    """
    if argument in datasets.DATASETS:
        data = Data(name=argument)
    elif near := hint(argument, datasets.DATASETS):
        raise LayerwiseError(f"no dataset {argument!r}{near}")
    else:
        data = sweep_file.load(argument)[0].dataset
    if data.is_own or not datasets.DATASETS[data.name].packable:
        could = ", ".join(n for n, kind in datasets.DATASETS.items() if kind.packable)
        raise LayerwiseError(f"{data.name} needs no pack; datasets of image files: {could}")
    return data.model_copy(
        update={"options": {**data.options, **options}, "root": root or data.root}
    )


def write(data: Data, *, workers: int | None, to: str | None, allow_corrupt: bool) -> Path:
    """Pack a dataset, and return the pack's folder; it is made beside the images, or in `to`.

    Raises `LayerwiseError` for data that is missing or corrupt, a full disk, a pack that is there.
    """
    with _telling(data), _progress("packing", "images") as told:
        forget(place(data.name, data.root).folder)
        images = _stored(data, ())
        return packing.pack(
            images,
            (expand(to) if to else images.folder) / "packs",
            workers=workers or os.cpu_count() or 1,
            allow_corrupt=allow_corrupt,
            told=told,
        )


def verify(data: Data, to: str | None) -> Path:
    """Compare all bytes of a dataset's pack with its checksums. Raises `LayerwiseError`."""
    with _telling(data), _progress("verifying", "MB", 10**6) as told:
        beside, home = place(data.name, data.root).packs
        elsewhere = expand(to) / "packs" if to else home
        images = _stored(data, (beside, elsewhere))
        if not images.pack:
            raise DataError("it has no pack; make one with: layerwise pack")
        if damaged := packs.verify(images.folder, told):
            raise DataError(
                f"pack {images.folder} is damaged in {', '.join(damaged)}: remove it and make it "
                "again with: layerwise pack"
            )
        return images.folder


def _stored(data: Data, where: tuple[Path, ...]) -> Stored:
    """The images of a dataset, from a pack in one of the folders `where` or from their files."""
    fitting = datasets.options_of(data.name, freeze_options(data.options))
    at = dataclasses.replace(place(data.name, data.root), packs=where)
    stored = datasets.DATASETS[data.name].load(at, **dict(fitting)).stored
    assert isinstance(stored, Stored)
    return stored


@contextlib.contextmanager
def _telling(data: Data) -> Iterator[None]:
    """Turns what is wrong with the data into one line for the user."""
    try:
        yield
    except ConfigError as error:
        raise LayerwiseError(f"dataset {data.name}, {error.field}: {error}") from error
    except DataError as error:
        raise LayerwiseError(f"dataset {data.name}: {error}") from error


@contextlib.contextmanager
def _progress(doing: str, unit: str, scale: int = 1) -> Iterator[Told]:
    """Something to tell done and total to: a bar in a terminal, else a line now and then."""
    console = Console(stderr=True, highlight=False, markup=False)
    columns = (TextColumn(f"{doing} {unit}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(doing, total=None)
        due = time.monotonic()

        def told(done: int, total: int) -> None:
            nonlocal due
            bar.update(task, completed=done // scale, total=total // scale)
            if not console.is_terminal and (time.monotonic() >= due or done == total):
                due = time.monotonic() + LINE_SECONDS
                text = f"{doing}: {done // scale:,} of {total // scale:,} {unit}"
                console.print(text, soft_wrap=True)

        yield told
