"""Second calls of a user's functions: with equal seeds, they must give the same again."""

from __future__ import annotations

import torch

from trainers.config import DatasetRef, NetworkRef
from trainers.datasets import DataError, load_again
from trainers.networks import Network, NetworkError, Shape, build, tensors_of

OWNED = (
    "draw from the global generators of random, numpy or torch, which layerwise seeds, "
    "or from a generator with a seed"
)


def check_dataset(ref: DatasetRef, fingerprint: str) -> None:
    """Raise `DataError` if a second call of a user's function gives other data."""
    if load_again(ref).fingerprint != fingerprint:
        raise DataError(
            f"dataset {ref.name}: two calls with equal seeds give different data; {OWNED}"
        )


def check_network(ref: NetworkRef, classes: int, shape: Shape) -> bool:
    """Return whether a user's function draws first weights, which then depend on the seed.

    Raises `NetworkError` if two calls with equal seeds give different weights, or if two calls with
    different seeds give different shapes.
    """
    first, again, other = (tensors_of(build(ref, classes, shape, seed)) for seed in (1, 1, 2))
    for tensors, problem in (
        (again, f"two calls with equal seeds give different weights or shapes: {OWNED}"),
        (other, "the seed changes the shapes of weights: give each layer one size"),
    ):
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        if shapes != {name: tensor.shape for name, tensor in first.items()}:
            raise NetworkError(f"network {ref.name}: {problem}")
    for name, tensor in first.items():
        if not torch.equal(tensor, again[name]):
            raise NetworkError(
                f"network {ref.name}: two calls with equal seeds give different {name}; {OWNED}"
            )
    return not all(torch.equal(tensor, other[name]) for name, tensor in first.items())


def filled_layers(ref: NetworkRef, classes: int, shape: Shape) -> list[int]:
    """Return the numbers of the layers that have a function `fill_parameters`."""
    network: Network = build(ref, classes, shape)
    return [i for i, layer in enumerate(network, 1) if hasattr(layer, "fill_parameters")]
