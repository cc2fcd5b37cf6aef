"""Files of weights as parents without training. Reads them, and so is not pure."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from orchestrator.errors import StoreError, SweepError
from orchestrator.store.locations import open_files
from orchestrator.sweep.schema import Sweep
from orchestrator.sweep.source import Source
from orchestrator.sweep.tasks import Weights
from orchestrator.sweep.transfers import pairs
from trainers.canonical import ConfigError
from trainers.checkpoint import checksum
from trainers.config import ID_LENGTH, NetworkRef, TaskForm
from trainers.datasets.places import expand

if TYPE_CHECKING:
    from trainers.torchvision_weights import Published

PUBLISHED = "torchvision"


@dataclass(frozen=True)
class WeightsParent:
    """The weights of a file, under the names of our layers, as a parent of trials."""

    name: str
    """Name of the source in the sweep."""
    data: bytes = field(repr=False)
    """Checkpoint without the last layer."""
    network: NetworkRef
    """Network that the weights fit."""

    @property
    def sha256(self) -> str:
        return checksum(self.data)

    @property
    def id(self) -> str:
        """Id of the parent: a hash of its tensors, whatever file they came in."""
        return self.sha256[:ID_LENGTH]


def used(sweep: Sweep) -> list[str]:
    """Return the names of the files of weights that a grid copies from."""
    grids = [grid for grid in sweep.parts.values() if sweep.has_directions(grid)]
    names = dict.fromkeys(source for grid in grids for source, _ in pairs(sweep, grid))
    return [name for name in names if name in sweep.weights]


def normalisation(sweep: Sweep, name: str, source: Source) -> TaskForm:
    """Return the normalisation of the images that some weights were trained on, as a form.

    Raises `SweepError`.
    """
    weights = sweep.weights[name]
    mean, deviation = weights.mean, weights.deviation
    if not mean and (entry := _published(sweep, name, source)) is not None:
        mean, deviation = entry.mean, entry.deviation
    try:
        return TaskForm(mean=mean, deviation=deviation, range=weights.range)
    except ConfigError as error:
        path = source.nearest(("weights", name, error.field))
        raise SweepError([source.mistake(path, str(error))]) from error


def form_of(form: TaskForm, weights: TaskForm | None) -> TaskForm:
    """Return the form of a direction: that of the grid, with the normalisation of the weights.

    A normalisation that the grid declares comes first.
    """
    if weights is None or not weights.mean or form.mean:
        return form
    return dataclasses.replace(
        form, mean=weights.mean, deviation=weights.deviation, range=weights.range
    )


def read_weights(
    sweep: Sweep, network: NetworkRef, classes: int, shape: tuple[int, int, int], source: Source
) -> Mapping[str, WeightsParent]:
    """Return the files of weights that a sweep copies from, checked against its network, by name.

    Raises `SweepError`, which names the file and its tensors.
    """
    parents = {}
    for name in used(sweep):
        from trainers import weights

        declared = sweep.weights[name]
        try:
            data, label = _bytes(sweep, name, declared, source)
            tensors = weights.read(data, label)
            fitted = weights.fitted(tensors, network, classes, shape, declared.head, label)
        except weights.WeightsError as error:
            path = source.nearest(("weights", name, "file"))
            raise SweepError([source.mistake(path, str(error))]) from error
        parents[name] = WeightsParent(name, weights.packed(fitted), network)
    return parents


def _published(sweep: Sweep, name: str, source: Source) -> Published | None:
    """Return the entry of torchvision's enum that a declaration names, if it names one."""
    kind, _, choice = sweep.weights[name].file.partition(":")
    if kind != PUBLISHED:
        return None
    from trainers.torchvision_weights import published
    from trainers.weights import WeightsError

    try:
        return published(sweep.network.name, choice or None)
    except WeightsError as error:
        path = source.nearest(("weights", name, "file"))
        raise SweepError([source.mistake(path, str(error))]) from error


def _bytes(sweep: Sweep, name: str, weights: Weights, source: Source) -> tuple[bytes, str]:
    """Return the content of a file of weights and its name for messages."""
    from trainers.datasets import DataError
    from trainers.weights import WeightsError

    if (entry := _published(sweep, name, source)) is not None:
        return entry.obtain(), f"{entry.path}"
    try:
        if "://" in weights.file:
            parts = urlsplit(weights.file)
            folder, _, last = parts.path.rpartition("/")
            files = open_files(urlunsplit(parts._replace(path=folder)))
            return files.get(f"{files.base}/{last}"), weights.file
        path = expand(weights.file, "weights")
        return path.read_bytes(), str(path)
    except DataError as error:
        raise WeightsError(str(error)) from error
    except (OSError, StoreError) as error:
        place = os.path.expandvars(weights.file)
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"cannot read the weights {place}: {reason}") from error
