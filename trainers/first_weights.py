"""First weights of a network, each layer with a seed of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from trainers.canonical import key
from trainers.networks import Network, NetworkError
from trainers.recipe import Recipe


def initialise(
    network: Network, recipe: Recipe, seeds: Sequence[int], random: int = 0, *, is_own: bool = False
) -> None:
    """Set every weight as `recipe.init` says, layer i from a generator seeded with `seeds[i]`.

    The first `random` layers stay random, and start as `recipe.init_random` says if it is given.

    - `he` (He et al. 2015): normal with variance 2 / fan-in, in the last layer 1 / fan-in, since no
      ReLU follows; biases 0; all other modules by their own `reset_parameters`.
    - `torch`: each module's own `reset_parameters`.
    - `network`: the same, and then each numbered layer's own `fill_parameters`. A layer without
      this function keeps its weights if the network `is_own`, a user's.

    If a module has weights and no `reset_parameters`, its layer's `fill_parameters` sets them in
    any case, and so does that of a layer that is `always_filled`. Raises `NetworkError` if a layer
    lacks the function that it needs.
    """
    for number, (layer, seed) in enumerate(zip(network, seeds, strict=True), start=1):
        init = recipe.init_random or recipe.init if number <= random else recipe.init
        fill = getattr(layer, "fill_parameters", None)
        if getattr(layer, "always_filled", False):
            init = "network"
        if init == "network" and not callable(fill):
            if is_own:
                continue
            raise NetworkError(
                f"layer {number} has no fill_parameters(), which init: network asks for; "
                "this network has no first weights of its own: use he or torch"
            )
        without_reset = [module for module in layer.modules() if _lacks_reset(module)]
        if without_reset and not callable(fill):
            raise NetworkError(
                f"layer {number}: {type(without_reset[0]).__name__} has weights and no "
                "reset_parameters(), so it cannot be initialised again"
            )
        gain = 1.0 if number == len(network) else 2.0
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed walks the stack too
            if without_reset and callable(fill):
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
    """Return the function that sets a module's own weights, if any; torch's attention hides it."""
    return getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))


def _lacks_reset(module: nn.Module) -> bool:
    """Return whether a module has weights of its own and no function that sets them."""
    return bool(list(module.parameters(recurse=False))) and not callable(_reset_of(module))


def layer_seed(seed: int, role: str, task_digest: str, layer: int) -> int:
    """Return the seed of one layer's first weights; `role` is base, fresh, random or stitch.

    The task stands for the split. Two bases share no weights, and no fresh layer has a base's. The
    selffer and the transfer of one target share the fresh layers.
    """
    return key("initialise", seed, role, task_digest, layer)


def build_seed(seed: int, role: str, task_digest: str) -> int:
    """Return the seed of a user's function that builds a network; see `layer_seed`."""
    return key("build", seed, role, task_digest)
