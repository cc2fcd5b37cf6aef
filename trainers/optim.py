"""Optimisers by name, over the parameters that learn."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from trainers.networks import Network
from trainers.recipe import Recipe, layer_number
from trainers.schedules import layer_factors

BIAS = {"rate_factor": 2.0, "decay_factor": 0.0}  # the paper's `blobs_lr` and `weight_decay`


class CaffeSGD(torch.optim.Optimizer):
    """v ← momentum v + rate (gradient + weight_decay w), w ← w − v (Caffe's solver.cpp).

    The rate is inside the velocity: after a drop, what was learned at the old rate coasts on.
    `torch.optim.SGD` scales it down at once. A group's `rate_factor` and `decay_factor` multiply
    its rate and its decay.
    """

    def __init__(self, groups: Any, *, lr: float, momentum: float, weight_decay: float):
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(groups, defaults | {"rate_factor": 1.0, "decay_factor": 1.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        assert closure is None
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight]["velocity"] = torch.zeros_like(weight)
            self.update(weights, [self.state[weight]["velocity"] for weight in weights], group)

    @staticmethod
    def update(
        weights: list[Any], velocities: list[torch.Tensor], group: Mapping[str, float]
    ) -> None:
        """Update weights that have a gradient, with the settings of their group."""
        rate = group["lr"] * group["rate_factor"]
        decay = group["weight_decay"] * group["decay_factor"]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, [weight.grad for weight in weights], alpha=rate)
        if decay:
            torch._foreach_add_(velocities, weights, alpha=rate * decay)
        torch._foreach_sub_(weights, velocities)


def optimiser(
    recipe: Recipe,
    named: Mapping[str, nn.Parameter],
    copied: Collection[str] = (),
    learns: Mapping[str, tuple[bool, ...]] = MappingProxyType({}),
) -> torch.optim.Optimizer:
    """Return the recipe's optimiser of the parameters `named`; `set_rate` sets each step's rate.

    Parameters in `copied` come from a base and have rates of their own. `learns` says in which
    stages a parameter learns; by default in all.
    """
    groups: list[dict[str, Any]] = []
    for factor, part, settings in _parts(recipe, named, copied, learns):
        groups += [{**group, "layer_factor": factor, **settings} for group in _groups(recipe, part)]
    groups = groups or [{"params": []}]
    rate, decay = recipe.rate, recipe.weight_decay
    match recipe.optimiser:
        case "caffe_sgd":
            return CaffeSGD(groups, lr=rate, momentum=recipe.momentum, weight_decay=decay)
        case "sgd":
            return torch.optim.SGD(
                groups, lr=rate, momentum=recipe.momentum, weight_decay=decay, fused=True
            )
        case "adam":
            return torch.optim.Adam(groups, lr=rate, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, weight_decay=decay, fused=True)


def _parts(
    recipe: Recipe,
    named: Mapping[str, nn.Parameter],
    copied: Collection[str],
    learns: Mapping[str, tuple[bool, ...]],
) -> list[tuple[float, dict[str, nn.Parameter], dict[str, float]]]:
    """Return the parameters in parts: the factor of their rate, they themselves, their settings.

    The parameters of a part learn in the same stages: torch's fused SGD requires that the momenta
    of a group begin together.
    """
    factors = layer_factors(recipe, max(map(layer_number, copied), default=0))
    parts: dict[tuple[Any, ...], dict[str, nn.Parameter]] = {}
    for name, parameter in named.items():
        factor = factors[layer_number(name) - 1] if name in copied else 1.0
        pulled = bool(recipe.l2_sp) and name in copied
        parts.setdefault((factor, pulled, learns.get(name)), {})[name] = parameter
    return [
        (factor, part, {"weight_decay": 0.0} if pulled else {})
        for (factor, pulled, _), part in parts.items()
    ]


def _groups(recipe: Recipe, named: Mapping[str, nn.Parameter]) -> list[dict[str, Any]]:
    """Return the optimiser's groups of parameters that share a rate; Caffe's biases are apart."""
    if recipe.optimiser != "caffe_sgd":
        return [{"params": list(named.values())}]
    biases = [p for name, p in named.items() if name.rpartition(".")[2] == "bias"]
    others = [p for name, p in named.items() if name.rpartition(".")[2] != "bias"]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": biases, **BIAS}]
    return [group for group in groups if group["params"]]


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of a step in every group, times the factor of its layers."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("layer_factor", 1.0)


def optimiser_state(optimiser: torch.optim.Optimizer, network: Network) -> dict[str, torch.Tensor]:
    """Return the optimiser's tensors by name, such as `layer1.conv.weight/momentum_buffer`."""
    return {
        f"{name}/{entry}": tensor
        for name, parameter in network.named_parameters()
        for entry, tensor in optimiser.state.get(parameter, {}).items()
        if tensor is not None
    }


def load_optimiser_state(
    optimiser: torch.optim.Optimizer, network: Network, state: Mapping[str, torch.Tensor]
) -> None:
    """Undo `optimiser_state`."""
    parameters = dict(network.named_parameters())
    for name, tensor in state.items():
        parameter_name, _, entry = name.partition("/")
        parameter = parameters[parameter_name]
        value = tensor.to(parameter.device)  # fused kernels want Adam's `step` there too
        if tensor.dim() == parameter.dim() == 4:
            value = value.contiguous(memory_format=torch.channels_last)
        optimiser.state[parameter][entry] = value
