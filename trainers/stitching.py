"""Stitching: one linear map between the first layers of a network and the upper layers of another.

Both parts are trained and frozen, and only the map learns (Lenc & Vedaldi 2015, Bansal et al. 2021,
Csiszárik et al. 2021). It starts from random weights, like any new layer, or from the least-squares
map (Csiszárik et al. 2021). From random weights, a network that is stitched to itself shows whether
the map is found: the identity would restore the network.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import torch
from torch import nn

from trainers.networks import Network, NetworkError, Shape, tensors_of
from trainers.probes import output_shapes

STITCH = "stitch"
"""Name of the map among the layers. It has no number, so that every layer keeps its own."""


def stitch(below: Network, above: Network, n: int, shape: Shape) -> nn.Conv2d | nn.Linear:
    """Return the map from layer n of `below` to layer n+1 of `above`, for images (C, H, W).

    Outputs (C, H, W) have a 1×1 convolution, tokens (T, C) a linear map of each token, and flat
    outputs (F,) a linear map; all with a bias. Raises `NetworkError` if the outputs differ in more
    than their channels.
    """
    given, wanted = (
        output_shapes(network[:n], shape, "the network")[-1] for network in (below, above)
    )
    if problem := misfit(given, wanted, n):
        raise NetworkError(problem)
    if len(given) == 3:
        return nn.Conv2d(given[0], wanted[0], 1)
    return nn.Linear(given[-1], wanted[-1])


def misfit(given: tuple[int, ...], wanted: tuple[int, ...], n: int) -> str:
    """Return why outputs of layer n of two networks cannot be stitched, or "".

    `given` and `wanted` are shapes for one image, of the source's network and the target's. `given`
    is empty if layer n is the last one or beyond.
    """
    places = {1: slice(0, 0), 2: slice(0, 1), 3: slice(1, 3)}
    if len(given) == len(wanted) and len(given) in places:
        where = places[len(given)]
        if given[where] == wanted[where]:
            return ""
    if not given:
        return f"the source's network has no layer {n} below its last one: nothing to stitch"
    return (
        f"layer {n} gives {given} per image in the source's network and {wanted} in the target's: "
        "a stitch can change the number of channels only"
    )


def joined(lower: nn.Sequential, stitch: nn.Module, upper: nn.Sequential) -> Network:
    """Return the network of both parts with the map between them; layers keep their numbers."""
    parts = [*lower.named_children(), (STITCH, stitch), *upper.named_children()]
    return Network(OrderedDict(parts))


@torch.no_grad()
def fit(network: Network, base: Network, n: int, chunks: Iterable[torch.Tensor]) -> None:
    """Set the map to the one with least squared error from layer n of `network` to that of `base`.

    `chunks` are images (B, C, H, W). The errors are summed over images and places. Of several such
    maps it is the one of least norm: a channel that is always 0 has no weight.
    """
    squares: torch.Tensor | None = None
    for images in chunks:
        given, wanted = (_rows(part[:n](images.clone())) for part in (network, base))
        given = torch.cat([given, torch.ones_like(given[:, :1])], 1)
        pair = torch.cat([given, wanted], 1)
        squares = pair.T @ pair if squares is None else squares + pair.T @ pair
    assert squares is not None
    size = len(squares) - wanted.shape[1]
    solution = torch.linalg.lstsq(squares[:size, :size], squares[:size, size:], driver="gelsd")
    weight, bias = (
        network.get_parameter(f"{STITCH}.weight"),
        network.get_parameter(f"{STITCH}.bias"),
    )
    weight.copy_(solution.solution[:-1].T.reshape(weight.shape))
    bias.copy_(solution.solution[-1])


def _rows(outputs: torch.Tensor) -> torch.Tensor:
    """Return outputs as (N, channels) in float64 on the CPU, one row for each image and place."""
    if outputs.ndim == 4:
        outputs = outputs.movedim(1, -1)
    return outputs.reshape(-1, outputs.shape[-1]).double().cpu()


def names(network: Network) -> frozenset[str]:
    """Return the names of the map's parameters; none for a network that is not stitched."""
    return frozenset(name for name in tensors_of(network) if name.startswith(f"{STITCH}."))
