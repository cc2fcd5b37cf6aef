"""Distance of trained weights from where they started, and the losses on the line between them."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from trainers.networks import NetworkError

Tensors = Mapping[str, torch.Tensor]
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Change(NamedTuple):
    """Change of one layer's parameters, all of them as one vector, in float64."""

    distance: float
    """‖end − start‖₂."""
    norm: float
    """‖start‖₂."""
    cosine: float
    """Cosine of the angle between start and end; 0 where one of them is zero."""


def layer_changes(start: Tensors, end: Tensors) -> dict[int, Change]:
    """Return the change of each layer, by its number, between two networks' tensors by name.

    `layer3.weight` belongs to layer 3. Statistics of normalisation and tensors of integers are no
    parameters. A layer whose parameters have other names or shapes at the end, such as a head for
    other classes, is left out.
    """
    starts, ends = _by_layer(start), _by_layer(end)
    return {
        number: _change(parameters, ends[number])
        for number, parameters in sorted(starts.items())
        if _shapes(parameters) == _shapes(ends.get(number, {}))
    }


def interpolated(start: Tensors, end: Tensors, alpha: float) -> dict[str, torch.Tensor]:
    """Return (1 − alpha) start + alpha end, tensor by tensor; alpha is 0..1.

    Tensors of integers are those of the nearer end. Statistics of normalisation are interpolated
    as the weights are: they are not those of the network between, which are to be measured anew.
    Raises `NetworkError` for other names or shapes.
    """
    if _shapes(start) != _shapes(end):
        names = [n for n in {**start, **end} if _shapes(start).get(n) != _shapes(end).get(n)]
        raise NetworkError(f"no line between two networks that differ in the shape of {names[0]}")
    nearer = start if alpha < 0.5 else end
    return {
        name: torch.lerp(tensor, end[name], alpha) if tensor.is_floating_point() else nearer[name]
        for name, tensor in start.items()
    }


def barrier(losses: Sequence[float]) -> float:
    """Return the height of the losses at equally spaced alpha above the line between their ends.

    max over alpha of L(alpha) − ((1 − alpha) L(0) + alpha L(1)), which is at least 0 (Entezari et
    al. 2022, equation 1). Where both ends have the same loss it is the instability of Frankle et
    al. 2020, section 2. A loss between the ends that is not finite is an infinite barrier. Raises
    `NetworkError` for an end whose loss is not finite.
    """
    if len(losses) < 2 or not (math.isfinite(losses[0]) and math.isfinite(losses[-1])):
        raise NetworkError(f"no barrier between networks with losses {list(losses)}")
    last = len(losses) - 1
    heights = [
        loss - ((last - i) * losses[0] + i * losses[-1]) / last if math.isfinite(loss) else math.inf
        for i, loss in enumerate(losses)
    ]
    return max(0.0, *heights)


def _by_layer(tensors: Tensors) -> dict[int, dict[str, torch.Tensor]]:
    layers: defaultdict[int, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        match = re.match(r"layer(\d+)\.", name)
        if match and tensor.is_floating_point() and name.rpartition(".")[2] not in STATISTICS:
            layers[int(match[1])][name] = tensor
    return layers


def _shapes(tensors: Tensors) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _change(start: Tensors, end: Tensors) -> Change:
    before, after = (torch.cat([one[n].double().flatten() for n in start]) for one in (start, end))
    norm, product = float(before.norm()), float(before.norm() * after.norm())
    cosine = float(before @ after) / product if product else 0.0
    return Change(float(torch.dist(before, after)), norm, cosine)
