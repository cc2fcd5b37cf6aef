"""Trained networks built again from their trainings and their checkpoints, on any machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from trainers import checkpoint, datasets, forms, stitching
from trainers.canonical import ConfigError
from trainers.classifier import Pool
from trainers.config import Training
from trainers.datasets import DataError
from trainers.detection.heads import with_detector
from trainers.feature_classifier import pool, with_linear
from trainers.networks import Network, NetworkError, Shape, build, load_tensors
from trainers.task_data import Whole, as_seen, task_data

SIDES = (224, 32, 28, 64, 96, 128, 227, 256, *range(1, 513))  # likely sides of images first
AT_ONCE = 256  # images per forward pass


def trained_network(training: Training, weights: bytes, shape: Shape | None = None) -> Network:
    """Return the network of a training with its final weights, on the CPU, for evaluation.

    `shape` (C, H, W) is that of the images that it sees; by default it is taken from the task, or
    else from the weights. A detector's last layer is a `DetectorHead`, whose `detections` are
    boxes; a linear classifier on features is the last layer of its network. Raises `NetworkError`
    if there is no such network, and `CheckpointError` for a damaged checkpoint.
    """
    tensors = checkpoint.unpack(weights)[0]
    tried = None
    for candidate in [shape] if shape else _shapes(training, tensors):
        try:
            network = _built(training, candidate, tensors)
            load_tensors(network, tensors)
        except (ConfigError, NetworkError, RuntimeError, ValueError) as error:
            tried = tried or error
            continue
        first = next((t.dtype for t in tensors.values() if t.is_floating_point()), None)
        return network.double().eval() if first == torch.float64 else network.eval()
    raise NetworkError(
        f"the weights do not fit network {training.network.name} for images of "
        f"{shape or 'any size that was tried'}: give the shape (C, H, W) of its images; {tried}"
    )


def input_of(training: Training, images: Any, *, normalised: bool = False) -> torch.Tensor:
    """Return images (N, C, H, W) as the network of a training sees them; None: its test images.

    With `normalised`, `images` are that already. Raises `DataError`.
    """
    if images is None:
        data = task_data(training, torch.device("cpu"), whole_bytes=2**62)
        test = data.parts[datasets.SUBSETS.index("test")]
        assert isinstance(test, Whole)
        return torch.cat(list(test.chunks()))
    if normalised:
        return torch.as_tensor(images)
    return as_seen(training, np.asarray(images))


def layer_outputs(network: Network, layer: int, images: torch.Tensor, rule: Pool) -> np.ndarray:
    """Return the outputs (N, F) of a layer, float32, for images as the network sees them.

    Raises `DataError` for a layer that the network lacks.
    """
    names = [name for name, _ in network.named_children()]
    if f"layer{layer}" not in names:
        last = sum(name.startswith("layer") for name in names)
        raise DataError(f"there is no layer {layer}: expected 1..{last}")
    part = network[: names.index(f"layer{layer}") + 1]
    images = images.to(next(network.parameters()).dtype)
    with torch.no_grad():
        outputs = [pool(part(x.clone()), rule).float() for x in torch.split(images, AT_ONCE)]
    array: np.ndarray = torch.cat(outputs).numpy()
    return array


def _built(training: Training, shape: Shape, tensors: Mapping[str, torch.Tensor]) -> Network:
    classes, n, recipe = len(training.target.labels), training.treatment.n, training.recipe
    network = build(training.network, classes, shape)
    if recipe.detector:
        return with_detector(network, recipe.detector, classes, shape)
    if recipe.classifier:
        values = len(tensors[f"layer{n + 1}.0.mean"])
        return with_linear(list(network)[:n], recipe.classifier.pool, values, classes)
    if not training.treatment.is_stitched:
        return network
    below = build(training.source_network or training.network, classes, shape)
    return stitching.joined(below[:n], stitching.stitch(below, network, n, shape), network[n:])


def _shapes(training: Training, tensors: Mapping[str, torch.Tensor]) -> Iterator[Shape]:
    """Yield the shapes that images may have, the likeliest first."""
    form, crop, ref = training.target.form, training.recipe.crop, training.target.dataset
    with contextlib.suppress(Exception):  # the dataset may be of code or files that are not here
        c, h, w = forms.shape_of(form, datasets.describe(ref.name, ref.options).shape)
        yield (c, crop, crop) if crop else (c, h, w)
    inputs = [t.shape[1] for name, t in tensors.items() if t.dim() == 4 and name[:7] == "layer1."]
    for channels in [form.channels] if form.channels else dict.fromkeys([*inputs[:1], 1, 3]):
        for side in [x for x in (crop, form.size) if x][:1] or dict.fromkeys(SIDES):
            yield channels, side, side
