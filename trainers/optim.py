"""Optimisers by name, over the parameters that learn."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from trainers.config import Recipe
from trainers.networks import Network


def optimiser(recipe: Recipe, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The recipe's optimiser; `set_rate` gives it each step's rate."""
    match recipe.optimiser:
        case "sgd":
            return torch.optim.SGD(
                parameters,
                lr=recipe.rate,
                momentum=recipe.momentum,
                weight_decay=recipe.weight_decay,
                fused=True,
            )
        case "adam":
            return torch.optim.Adam(
                parameters, lr=recipe.rate, weight_decay=recipe.weight_decay, fused=True
            )
        case "adamw":
            return torch.optim.AdamW(
                parameters, lr=recipe.rate, weight_decay=recipe.weight_decay, fused=True
            )


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def optimiser_state(optimiser: torch.optim.Optimizer, network: Network) -> dict[str, torch.Tensor]:
    """The optimiser's tensors by parameter name: `layer1.conv.weight/momentum_buffer`."""
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
        value = tensor.to(parameter.device)  # of Adam's `step` too: fused kernels want it there
        if tensor.dim() == parameter.dim() == 4:
            value = value.contiguous(memory_format=torch.channels_last)
        optimiser.state[parameter][entry] = value
