"""Passes of a few images through a user's network, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainers.frames import message
from trainers.layer_rules import numbers_in
from trainers.seeds import seeded

PROBLEMS = (RuntimeError, ValueError, TypeError)  # of layers that do not fit
Shape = tuple[int, int, int]


class MisfitError(Exception):
    """A layer that cannot be trained or evaluated; the message goes on after the network's name."""


def output_shapes(layers: nn.Sequential, shape: Shape, name: str) -> list[tuple[int, ...]]:
    """Return the shape of each layer's output for an image (C, H, W) in evaluation.

    `name` is the network's. Raises `MisfitError` for a layer that does not take its input.
    """
    images = torch.zeros(2, *shape)  # two, so that a layer that takes one image only is noticed
    outputs = _outputs(layers.eval(), images, f"images {shape}", name)
    return [tuple(output.shape[1:]) for output in outputs]


def check_evaluation(layers: nn.Sequential, shape: Shape, name: str) -> None:
    """Raise `MisfitError` for a layer whose output for an image depends on the rest of a batch."""
    images = _images(2, shape)
    outputs = []
    for part in (images, images[:1]):
        with seeded(0):
            outputs.append(_outputs(layers.eval(), part, f"a batch of {len(part)}", name))
    for number, (both, alone) in enumerate(zip(*outputs, strict=True), start=1):
        if not torch.allclose(both[:1], alone, rtol=1e-3, atol=1e-4, equal_nan=True):
            raise MisfitError(
                f": layer {number} gives an image another output in evaluation when other images "
                "are with it; normalise by running statistics"
            )


def check_training(layers: nn.Sequential, shape: Shape, batch: int, name: str) -> None:
    """Raise `MisfitError` for a layer that takes no such batch, or keeps numbers in attributes.

    A number that differs after two equal passes is a state that is neither saved nor copied.
    """
    images, numbers = _images(min(batch, 2), shape), []
    for _ in range(2):
        with seeded(0):
            _outputs(layers.train(), images, f"a training batch of {len(images)}", name)
        numbers.append([numbers_in(layer) for layer in layers])
    for number, (first, second) in enumerate(zip(*numbers, strict=True), start=1):
        if changed := [name for name, value in second.items() if first.get(name) != value]:
            raise MisfitError(
                f": layer {number}: {changed[0]} changes in training, and is neither saved nor "
                "copied; make it a tensor with register_buffer()"
            )


def _images(count: int, shape: Shape) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


def _outputs(
    layers: nn.Sequential, images: torch.Tensor, what: str, name: str
) -> Sequence[torch.Tensor]:
    """Return the output of each layer. Raises `MisfitError`."""
    outputs = []
    for number, layer in enumerate(layers, start=1):
        try:
            with torch.set_grad_enabled(layers.training):
                images = layer(images.clone())  # a layer may change its input
            outputs.append(images.detach().clone())
        except (*PROBLEMS, IndexError, AttributeError) as error:
            text = message(error, [name])
            raise MisfitError(f" does not take {what}: layer {number}: {text}") from error
    return outputs
