"""Copy the first n layers, freeze them, and prove that the frozen part did not change.

What is held fixed is a set of names of parameters and buffers, made once for a training (`held`);
freezing, the mode of normalisation and the proof all go by it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from trainers import checkpoint
from trainers.adaptation import misfits
from trainers.config import Adaptation, Training, digest
from trainers.first_weights import initialise, layer_seed
from trainers.networks import Network, NetworkError, Shape, build, set_dropout
from trainers.torchvision_networks import NORMALISATION


def starting_network(
    training: Training, shape: Shape, dtype: torch.dtype, parent: bytes | None
) -> Network:
    """The network before its first step, on the CPU; `parent` is its base's checkpoint.

    What is not copied starts from weights of its own: random filters and the fresh layers of a
    target and seed are the same in all treatments and for every n. What is replaced or widened in
    copied layers starts as in a fresh one.
    """
    treatment, task = training.treatment, digest(training.target)
    network = build(training.network, len(training.target.labels), shape)
    random = treatment.n if treatment.kind == "random" else 0
    seeds = []
    for number in range(1, len(network) + 1):
        if treatment.kind in ("base", "base_long"):
            role = "base"
        else:
            role = "random" if number <= random else "fresh"
        seeds.append(layer_seed(training.seed, role, task, number))
    initialise(network, training.recipe, seeds, random)
    network.to(dtype)
    if training.recipe.dropout is not None:
        set_dropout(network, training.recipe.dropout)
    if treatment.has_parent:
        if parent is None:
            raise checkpoint.CheckpointError(f"a {treatment.kind} needs its base's checkpoint")
        copy_layers(network, checkpoint.unpack(parent)[0], treatment.n, training.adapt)
    return network


def copy_layers(
    network: Network,
    state: Mapping[str, torch.Tensor],
    n: int,
    adapt: Adaptation = Adaptation(),
) -> None:
    """Set layers 1..n of `network` from a base's `state`. Every tensor must be there and fit.

    Except for those that `adapt` declares: replaced ones keep their first weights, and widened ones
    do so beyond the base's size. Raises `NetworkError` with the list of those that do not fit.
    """
    adapt, fresh = adapt.within(n), network[:n].state_dict()
    base, target = ({k: tuple(t.shape) for k, t in s.items()} for s in (state, fresh))
    if wrong := misfits(base, target, n, adapt):
        listed = "; ".join(message for _, message in wrong)
        raise NetworkError(f"layers 1..{n} cannot be copied; {listed}")
    with torch.no_grad():
        for name, tensor in fresh.items():
            if not adapt.replaces(name):
                common = tuple(slice(size) for size in base[name])
                tensor[common] = state[name].to(tensor.dtype)


def held(network: Network, training: Training, n: int) -> frozenset[str]:
    """The names of all parameters and buffers that a training that freezes n layers holds fixed.

    Those of layers 1..n, except for what is new in them, replaced or widened, and for what the
    recipe lets normalisation learn or measure.
    """
    recipe, new, frozen = training.recipe, training.adapt, network[:n]
    learns = {name for name in frozen.state_dict() if new.replaces(name) or new.widens(name)}
    for path, module in frozen.named_modules():
        if isinstance(module, NORMALISATION):
            affine = {f"{path}.{name}" for name, _ in module.named_parameters(recurse=False)}
            statistics = {f"{path}.{name}" for name, _ in module.named_buffers(recurse=False)}
            if not recipe.frozen_affine:
                learns |= affine
            if not recipe.frozen_statistics or learns & statistics:  # measured all or none
                learns |= statistics
    return frozenset(frozen.state_dict()) - learns


def copied_parameters(network: Network, training: Training) -> frozenset[str]:
    """The names of the parameters that are copied and learn: none of what is new beside them."""
    new, tuned = training.adapt, training.treatment.tuned_layers
    names = (name for name, _ in network[:tuned].named_parameters())
    return frozenset(name for name in names if not (new.replaces(name) or new.widens(name)))


def held_layers(network: Network, held: Collection[str]) -> int:
    """How many layers, from the first on, are held as a whole: through them no gradient passes."""
    for number, layer in enumerate(network):
        if not all(f"layer{number + 1}.{name}" in held for name in layer.state_dict()):
            return number
    return len(network)


def freeze(network: Network, held: Collection[str]) -> dict[str, nn.Parameter]:
    """Exclude what is held from training; the parameters that are left, which all learn, by name.

    Without a gradient a parameter is given to no optimiser: no decay and no momentum touch it.
    """
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in held)
    for name, parameter in network.named_parameters(remove_duplicate=False):
        assert parameter.requires_grad == (name not in held), f"{name} is shared by two layers"
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def training_mode(network: Network, held: Collection[str]) -> None:
    """Training mode, except that normalisation keeps the statistics that are held.

    Dropout stays on above and in frozen layers, as in the paper's networks.
    """
    network.train()
    for path, module in network.named_modules():
        if isinstance(module, _NormBase) and f"{path}.running_mean" in held:
            module.eval()


def fingerprint(network: Network, held: Collection[str]) -> str:
    """SHA-256 of the parameters and buffers that are held; empty if there are none."""
    if not held:
        return ""
    state = network.state_dict()
    hasher = hashlib.sha256()
    for name in sorted(held):
        values = state[name].detach().cpu().contiguous()
        hasher.update(f"{name}{tuple(values.shape)}{values.dtype}".encode())
        hasher.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()
