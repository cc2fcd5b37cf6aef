"""Copy the first n layers, freeze them, and prove that the frozen part did not change."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from trainers import checkpoint
from trainers.config import Training, digest
from trainers.networks import (
    Network,
    NetworkError,
    Shape,
    build,
    initialise,
    layer_seed,
    set_dropout,
)


def starting_network(
    training: Training, shape: Shape, dtype: torch.dtype, parent: bytes | None
) -> Network:
    """The network before its first step, on the CPU; `parent` is its base's checkpoint.

    What is not copied starts from weights of its own: random filters and the fresh layers of a
    target and seed are the same in all treatments and for every n.
    """
    treatment, task = training.treatment, digest(training.target)
    network = build(training.network, len(training.target.labels), shape)
    seeds = []
    for number in range(1, len(network) + 1):
        if treatment.kind in ("base", "base_long"):
            role = "base"
        else:
            role = "random" if number <= treatment.n else "fresh"
        seeds.append(layer_seed(training.seed, role, task, number))
    random = treatment.n if treatment.kind == "random" else 0
    initialise(network, training.recipe, seeds, random)
    network.to(dtype)
    if training.recipe.dropout is not None:
        set_dropout(network, training.recipe.dropout)
    if treatment.has_parent:
        if parent is None:
            raise checkpoint.CheckpointError(f"a {treatment.kind} needs its base's checkpoint")
        copy_layers(network, checkpoint.unpack(parent)[0], treatment.n)
    return network


def copy_layers(network: Network, state: Mapping[str, torch.Tensor], n: int) -> None:
    """Set layers 1..n of `network` from a base's `state`. Every tensor must be there and fit.

    Raises `NetworkError` with the list of those that do not.
    """
    wanted = network[:n].state_dict()
    wrong = [
        f"{name}: base has {tuple(state[name].shape) if name in state else 'nothing'}, "
        f"target wants {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name not in state or state[name].shape != tensor.shape
    ]
    prefixes = tuple(f"layer{i}." for i in range(1, n + 1))
    wrong += [
        f"{name}: in the base only"
        for name in state
        if name.startswith(prefixes) and name not in wanted
    ]
    if wrong:
        raise NetworkError(f"layers 1..{n} cannot be copied; " + "; ".join(wrong))
    network[:n].load_state_dict({name: state[name] for name in wanted}, strict=True)


def freeze(network: Network, n: int) -> dict[str, nn.Parameter]:
    """Exclude layers 1..n from training; the parameters that are left, which all learn, by name.

    Without a gradient a parameter is given to no optimiser: no decay and no momentum touch it.
    """
    network.requires_grad_(True)
    network[:n].requires_grad_(False)
    learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert len(learning) == sum(1 for layer in network[n:] for _ in layer.parameters())
    return learning


def training_mode(network: Network, n: int) -> None:
    """Training mode, except that normalisation in layers 1..n keeps its statistics.

    Dropout stays on above and in frozen layers, as in the paper's networks.
    """
    network.train()
    for module in network[:n].modules():
        if isinstance(module, _NormBase):
            module.eval()


def fingerprint(network: Network, n: int) -> str:
    """SHA-256 of the parameters and buffers of layers 1..n; empty for n = 0."""
    if n == 0:
        return ""
    hasher = hashlib.sha256()
    for name, tensor in sorted(network[:n].state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        hasher.update(f"{name}{tuple(values.shape)}{values.dtype}".encode())
        hasher.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()
