"""Copy the first n layers, freeze them, and prove that the frozen part did not change.

The frozen part is a set of names of parameters and buffers (`frozen_names`). Freezing, the mode of
normalisation and the proof all use this set.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from trainers import checkpoint, stitching
from trainers.adaptation import misfits
from trainers.canonical import digest
from trainers.config import Adaptation, Training, is_own
from trainers.first_weights import build_seed, initialise, layer_seed
from trainers.networks import Network, NetworkError, Shape, build, set_dropout, tensors_of
from trainers.recipe import covered
from trainers.torchvision_networks import NORMALISATION


def starting_network(
    training: Training,
    shape: Shape,
    dtype: torch.dtype,
    parent: bytes | None,
    upper: bytes | None = None,
    replace: Callable[[Network], Network] = lambda network: network,
) -> Network:
    """Return the network before its first step, on the CPU; `parent` is its base's checkpoint.

    `upper` is the checkpoint that a stitched network has its upper layers from.

    Fresh layers of one target and seed start the same in all treatments and for every n, and so do
    random filters. A replaced or widened tensor starts as in a fresh layer. `replace` puts other
    layers in place of the upper ones, before first weights are drawn.
    Raises `NetworkError` if layers do not fit, `CheckpointError` if the checkpoint is missing or
    damaged.
    """
    treatment, task = training.treatment, digest(training.target)
    if treatment.is_stitched:
        return _stitched(training, shape, dtype, parent, upper)
    random = treatment.n if treatment.kind == "random" else 0
    role = "base" if treatment.kind in ("base", "base_long") else "fresh"

    def built(role: str) -> Network:
        seed = build_seed(training.seed, role, task)
        return build(training.network, len(training.target.labels), shape, seed)

    network = built(role)
    if random and is_own(training.network.name):
        network = Network.of([*built("random")[:random], *network[random:]])
    network = replace(network)
    roles = ["random"] * random + [role] * (len(network) - random)
    seeds = [layer_seed(training.seed, role, task, i) for i, role in enumerate(roles, start=1)]
    initialise(network, training.recipe, seeds, random, is_own=is_own(training.network.name))
    network.to(dtype)
    if training.recipe.dropout is not None:
        set_dropout(network, training.recipe.dropout)
    if treatment.has_parent:
        copy_layers(network, _state(training, parent), treatment.n, training.adapt)
    return network


def _stitched(
    training: Training,
    shape: Shape,
    dtype: torch.dtype,
    parent: bytes | None,
    upper: bytes | None,
) -> Network:
    """Return layers 1..n of `parent` and n+1.. of `upper` with a map between them.

    Both treatments of one target and seed start with the same map, if it has the same size.
    """
    n, task = training.treatment.n, digest(training.target)
    below, above = (
        build(network, len(training.target.labels), shape)
        for network in (training.source_network or training.network, training.network)
    )
    map_between = stitching.stitch(below, above, n, shape)
    init = "he" if training.recipe.init == "network" else training.recipe.init
    recipe = dataclasses.replace(training.recipe, init=init)
    initialise(Network.of([map_between]), recipe, [layer_seed(training.seed, "stitch", task, n)])
    copy_layers(below.to(dtype), _state(training, parent), n)
    copy_layers(above.to(dtype), _state(training, upper), len(above))
    return stitching.joined(below[:n], map_between.to(dtype), above[n:])


def upper_base(training: Training, shape: Shape, dtype: torch.dtype, upper: bytes) -> Network:
    """Return the base that a stitched network has its upper layers from, on the CPU."""
    network = build(training.network, len(training.target.labels), shape).to(dtype)
    copy_layers(network, _state(training, upper), len(network))
    return network


def _state(training: Training, parent: bytes | None) -> Mapping[str, torch.Tensor]:
    """Return the tensors of a base's checkpoint. Raises `CheckpointError`."""
    if parent is None:
        raise checkpoint.CheckpointError(f"a {training.treatment.kind} needs its base's checkpoint")
    return checkpoint.unpack(parent)[0]


def copy_layers(
    network: Network,
    state: Mapping[str, torch.Tensor],
    n: int,
    adapt: Adaptation = Adaptation(),
) -> None:
    """Copy layers 1..n of a base's `state` into `network`. Every tensor must exist and fit.

    `adapt` declares the exceptions: a replaced tensor keeps its first weights; a widened tensor
    keeps them beyond the base's size. Raises `NetworkError` with the list of all misfits.
    """
    adapt, fresh = adapt.within(n), tensors_of(network[:n])
    base, target = ({k: tuple(t.shape) for k, t in s.items()} for s in (state, fresh))
    if problems := misfits(base, target, n, adapt):
        listed = "; ".join(message for _, message in problems)
        raise NetworkError(f"layers 1..{n} cannot be copied; {listed}")
    with torch.no_grad():
        for name, tensor in fresh.items():
            if not adapt.replaces(name):
                common = tuple(slice(size) for size in base[name])
                tensor[common] = state[name].to(tensor.dtype)


@dataclass(frozen=True)
class StageFreeze:
    """A part of a training in which the same names are frozen."""

    end: int
    """First step after the stage."""
    frozen: frozenset[str]
    """Names of the parameters and buffers that are frozen."""
    rate: float
    """Factor of the learning rate."""


def stages_of(network: Network, training: Training) -> list[StageFreeze]:
    """Return the stages of a training. All but fine-tuned ones have a single stage.

    In a stage, all copied layers are frozen but those that it lists.
    """
    recipe, n = training.recipe, training.treatment.n
    assert recipe.steps is not None
    stages, done = [], 0.0
    for stage in training.stages:
        done += stage.fraction
        frozen: frozenset[str] = frozenset()
        if training.treatment.is_stitched:
            frozen = frozenset(tensors_of(network)) - stitching.names(network)
        elif training.treatment.frozen:
            m = min(n, recipe.freeze or n)
            frozen = frozen_names(network, training, m, map(str, recipe.learn))
        elif stage.learn != "all":
            learn = () if stage.learn == "fresh" else map(str, stage.learn)
            frozen = frozen_names(network, training, n, learn)
        stages.append(StageFreeze(round(done * recipe.steps), frozen, stage.rate))
    return stages


def frozen_names(
    network: Network, training: Training, n: int, learn: Iterable[str] = ()
) -> frozenset[str]:
    """Return the names of all parameters and buffers that stay fixed when n layers are frozen.

    These are the names in layers 1..n, without replaced or widened tensors, without the layers and
    modules in `learn`, and without the parts of normalisation that the recipe lets learn
    (`frozen_affine`, `frozen_statistics`).
    """
    recipe, adapt, layers, listed = training.recipe, training.adapt, network[:n], tuple(learn)
    learning = {name for name in tensors_of(layers) if adapt.changes(name) or covered(name, listed)}
    for path, module in layers.named_modules():
        if isinstance(module, NORMALISATION):
            affine = {f"{path}.{name}" for name, _ in module.named_parameters(recurse=False)}
            statistics = {f"{path}.{name}" for name, _ in module.named_buffers(recurse=False)}
            if not recipe.frozen_affine:
                learning |= affine
            # A module measures all of its statistics or none: its mode decides.
            if not recipe.frozen_statistics or learning & statistics:
                learning |= statistics
    return frozenset(tensors_of(layers)) - learning


def copied_parameters(network: Network, training: Training) -> frozenset[str]:
    """Return the names of the parameters that are copied, and may learn, without new ones."""
    names = (name for name, _ in network[: training.learning_layers].named_parameters())
    return frozenset(name for name in names if not training.adapt.changes(name))


def wholly_frozen_layers(network: Network, frozen: Collection[str]) -> int:
    """Return how many layers, counted from the first, are frozen as a whole.

    No gradient has to pass through these layers.
    """
    learning = {name.partition(".")[0] for name in tensors_of(network) if name not in frozen}
    for number, (name, _) in enumerate(network.named_children()):
        if name in learning:
            return number
    return len(network)


def freeze(network: Network, frozen: Collection[str]) -> dict[str, nn.Parameter]:
    """Exclude the `frozen` parameters from training, and return all others by name.

    A frozen parameter has no gradient and belongs to no optimiser: neither decay nor momentum
    changes it.
    """
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)
    for name, parameter in network.named_parameters(remove_duplicate=False):
        assert parameter.requires_grad == (name not in frozen), f"{name} is shared by two layers"
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def training_mode(network: Network, frozen: Collection[str]) -> None:
    """Set training mode, except for normalisation whose statistics are frozen.

    A user's module with buffers, all of which are frozen, counts as normalisation. Dropout is on
    above and in frozen layers, as in the paper's networks.

    A stitched network stays in evaluation mode: both of its parts are functions whose training is
    over, and the map is to fit them as they are tested. Under dropout the right map would not be.
    """
    network.train(not stitching.names(network))
    if not network.training:
        return
    for path, module in network.named_modules():
        if isinstance(module, _NormBase) and f"{path}.running_mean" in frozen:
            module.eval()
        elif not type(module).__module__.startswith(("torch.", "torchvision.", "trainers.")):
            buffers = [f"{path}.{name}" for name, _ in module.named_buffers(recurse=False)]
            if buffers and all(name in frozen for name in buffers):
                module.training = False


def fingerprint(network: Network, frozen: Collection[str]) -> str:
    """Return the SHA-256 of the frozen parameters and buffers, or "" if nothing is frozen."""
    if not frozen:
        return ""
    state = tensors_of(network)
    hasher = hashlib.sha256()
    for name in sorted(frozen):
        values = state[name].detach().cpu().contiguous()
        hasher.update(f"{name}{tuple(values.shape)}{values.dtype}".encode())
        hasher.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()
