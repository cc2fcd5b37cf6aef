"""The weights that a network starts from, each layer from a seed of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from trainers.config import Recipe, key
from trainers.networks import Network, NetworkError


def initialise(network: Network, recipe: Recipe, seeds: Sequence[int], random: int = 0) -> None:
    """Set every weight: layer i from a generator of its own, seeded with `seeds[i]`.

    `he` (He et al. 2015): normal with variance 2 / fan-in, 1 / fan-in in the last layer, which no
    ReLU follows; biases 0, normalisation layers as torch starts them. `torch`: each module's own
    `reset_parameters`. `network`: then each numbered layer's own `fill_parameters`.

    The first `random` layers, which stay random, start as `init_random` says, where it says so.
    What a layer with `fill_parameters` cannot start again starts as the network's own in any case.
    Raises `NetworkError` for weights that cannot be set so.
    """
    for number, (layer, seed) in enumerate(zip(network, seeds, strict=True), start=1):
        init = recipe.init_random or recipe.init if number <= random else recipe.init
        fill = getattr(layer, "fill_parameters", None)
        if init == "network" and not callable(fill):
            raise NetworkError(
                f"layer {number} has no fill_parameters(), which init: network asks for; "
                "this network has no first weights of its own: use he or torch"
            )
        fixed = [module for module in layer.modules() if _has_weights_only(module)]
        if fixed and not callable(fill):
            raise NetworkError(
                f"layer {number}: {type(fixed[0]).__name__} has weights and no "
                "reset_parameters(), so it cannot be initialised again"
            )
        gain = 1.0 if number == len(network) else 2.0
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed walks the stack too
            if fixed and callable(fill):
                fill()
            for module in layer.modules():
                if callable(reset := _reset_of(module)):
                    reset()
                if init == "he" and isinstance(module, nn.Conv2d | nn.Linear):
                    fan_in = module.weight[0].numel()
                    nn.init.normal_(module.weight, std=math.sqrt(gain / fan_in))
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
            if init == "network" and callable(fill):
                fill()


def _reset_of(module: nn.Module) -> Any:
    """What starts a module's own weights again; torch's attention keeps it private."""
    return getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))


def _has_weights_only(module: nn.Module) -> bool:
    """Whether a module has weights of its own and nothing that starts them again."""
    return bool(list(module.parameters(recurse=False))) and not callable(_reset_of(module))


def layer_seed(seed: int, role: str, task_digest: str, layer: int) -> int:
    """The seed of one layer's first weights.

    `role` is base, fresh or random. The task stands for the split: no two bases share weights, no
    fresh layer has a base's, and selffer and transfer of one target share the fresh ones.
    """
    return key("initialise", seed, role, task_digest, layer)
