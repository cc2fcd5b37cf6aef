"""Outputs of the layers of a trained network, as vectors, for the images of a task."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from trainers import checkpoint, streams
from trainers.batches import chunks_at
from trainers.config import NetworkRef, Training
from trainers.datasets import SUBSETS, DataError, load
from trainers.feature_classifier import pool
from trainers.feature_form import FeatureForm, images_of_a_part
from trainers.networks import build, load_tensors, tensors_of
from trainers.recipe import layer_number
from trainers.results import Runtime
from trainers.task_data import READERS, TaskData, task_data
from trainers.tasks import members
from trainers.transfer import stages_of, starting_network, wholly_frozen_layers


class Trained(NamedTuple):
    """A network and its weights."""

    network: NetworkRef
    classes: int
    """Outputs of the network."""
    weights: bytes
    """Checkpoint; that of a file of weights lacks the last layer."""


class Part(NamedTuple):
    """Features of images of one set."""

    subset: str
    first: int
    """Number of the first image among those of the task in this set."""
    images: np.ndarray
    """(B,): indices into the dataset's set."""
    labels: np.ndarray
    """(B,): indices into the classes of the task; of objects in boxes, that of the largest."""
    features: dict[int, np.ndarray]
    """(B, F), float32, by the number of the layer."""


def unchanged_weights(
    training: Training, parent: bytes | None, layers: int, on: Runtime
) -> bytes | None:
    """Return the weights of layers 1..n as a checkpoint, if the training never changes them.

    They are its first weights, so nothing has to be trained for them. `parent` is the checkpoint of
    its base. Raises `DataError`, `NetworkError`, `CheckpointError`.
    """
    view = _data(training, dataclasses.replace(on, device="cpu")).view
    c, h, w = view.seen
    network = starting_network(training, (c, h, w), view.dtype, parent)
    frozen = frozenset.intersection(*(stage.frozen for stage in stages_of(network, training)))
    if layers > wholly_frozen_layers(network, frozen):
        return None
    return checkpoint.pack(tensors_of(network[:layers]), {})


class Extractor:
    """A trained network, and the images of the target of a training as this training sees them.

    Memory does not grow with the images: a part has about `PART_BYTES` of features. Raises
    `DataError` for a layer that the network lacks, `ConfigError`, `NetworkError`,
    `CheckpointError`.
    """

    def __init__(self, trained: Trained, training: Training, form: FeatureForm, on: Runtime):
        torch.set_num_threads(on.threads)
        device, data = torch.device(on.device), _data(training, on)
        self.sets = dict(zip(SUBSETS, data.parts, strict=True))
        stored = load(training.target.dataset, on.data_root)
        chosen = {
            name: members(training.target, name, stored.subset(name).labels) for name in SUBSETS
        }
        self.images = {name: images for name, (images, _) in chosen.items()}
        self.labels = {name: labels for name, (_, labels) in chosen.items()}
        c, h, w = data.view.seen
        self.form, last = form, form.layers[-1]
        whole = build(trained.network, trained.classes, (c, h, w))
        tensors = checkpoint.unpack(trained.weights)[0]
        known = min(len(whole), max(map(layer_number, tensors)))
        if beyond := [n for n in form.layers if not 1 <= n <= known]:
            raise DataError(f"there are no weights of layer {beyond[0]}: expected 1..{known}")
        network = whole[:last].to(data.view.dtype)
        load_tensors(network, {k: t for k, t in tensors.items() if layer_number(k) <= last})
        self.network = network.to(device).to(memory_format=torch.channels_last).eval()
        blank = torch.zeros((1, c, h, w), dtype=data.view.dtype, device=device)
        self.sizes = {n: vectors.shape[1] for n, vectors in self._outputs(blank).items()}
        """Numbers per image, by layer."""
        self.at_once = images_of_a_part(sum(self.sizes.values()))
        """Images of a part."""

    def places(self) -> list[tuple[str, int]]:
        """Return set and first image of every part."""
        return [
            (name, first)
            for name, images in self.images.items()
            for first in range(0, len(images), self.at_once)
        ]

    def part(self, subset: str, first: int) -> Part:
        """Compute the part that begins with an image. Raises `DataError`."""
        stop = min(first + self.at_once, len(self.images[subset]))
        return self.at(subset, torch.arange(first, stop))

    def at(self, subset: str, rows: torch.Tensor) -> Part:
        """Compute the features of the images of a set at `rows` (B,). Raises `DataError`."""
        of_set = self.sets[subset]
        with ThreadPoolExecutor(READERS, streams.READERS) as readers:
            outputs = list(map(self._outputs, chunks_at(of_set, rows, readers)))
        return Part(
            subset,
            int(rows[0]),
            self.images[subset][rows.numpy()],
            self.labels[subset][rows.numpy()],
            {n: np.concatenate([one[n].numpy() for one in outputs]) for n in self.form.layers},
        )

    @torch.no_grad()
    def _outputs(self, images: torch.Tensor) -> dict[int, torch.Tensor]:
        outputs = {}
        for number, layer in enumerate(self.network[: self.form.layers[-1]], start=1):
            images = layer(images)
            if number in self.form.layers:
                # the next layer may work in place
                outputs[number] = vectors(images, self.form).float().cpu().clone()
        return outputs


def vectors(outputs: torch.Tensor, form: FeatureForm) -> torch.Tensor:
    """Return vectors (B, F) of outputs (B, C, H, W), (B, T, C) or (B, F). Raises `ConfigError`."""
    grid = form.grid(tuple(outputs.shape[1:]))
    if grid and len(grid) == 2:
        outputs = F.adaptive_avg_pool2d(outputs, grid)
    elif grid:
        outputs = F.adaptive_avg_pool1d(outputs.mT, grid[0]).mT
    return pool(outputs, form.pool)


def _data(training: Training, on: Runtime) -> TaskData:
    return task_data(
        training,
        torch.device(on.device),
        whole_bytes=on.whole_bytes,
        data_root=on.data_root,
        source_root=on.source_root,
    )
