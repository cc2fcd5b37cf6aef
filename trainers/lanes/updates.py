"""The updates of several optimisers by one call of torch's fused or `foreach` functions.

An update changes each tensor by itself, so that the bits are those of the optimisers one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from trainers.optim import CaffeSGD

Group = dict[str, Any]
Update = Callable[[list[Any], list[dict[str, torch.Tensor]], Group], None]


def update(optimisers: Sequence[torch.optim.Optimizer]) -> None:
    """Let each of these optimisers, all of one kind, take one step."""
    function, entries = UPDATES[type(optimisers[0])]
    groups: dict[tuple[Any, ...], tuple[Group, list[torch.Tensor], list[Any]]] = {}
    for optimiser in optimisers:
        parts = [
            (group, [p for p in group["params"] if p.grad is not None])
            for group in optimiser.param_groups
        ]
        state = optimiser.state
        if any(entries - state[p].keys() for _, parameters in parts for p in parameters):
            optimiser.step()  # the first one makes the momenta
            continue
        for group, parameters in parts:
            key = tuple(value for name, value in group.items() if name != "params")
            _, all_parameters, states = groups.setdefault(key, (group, [], []))
            all_parameters += parameters
            states += [state[p] for p in parameters]
    with torch.no_grad():
        for group, parameters, states in groups.values():
            if parameters:
                function(parameters, states, group)


def _sgd(parameters: list[Any], states: list[Any], group: Group) -> None:
    torch._fused_sgd_(
        parameters,
        [p.grad for p in parameters],
        [state["momentum_buffer"] for state in states] if group["momentum"] else [],
        weight_decay=group["weight_decay"],
        momentum=group["momentum"],
        lr=group["lr"],
        dampening=group["dampening"],
        nesterov=group["nesterov"],
        maximize=group["maximize"],
        is_first_step=False,
        grad_scale=None,
        found_inf=None,
    )


def _caffe_sgd(parameters: list[Any], states: list[Any], group: Group) -> None:
    CaffeSGD.update(parameters, [state["velocity"] for state in states], group)


def _adam(function: Any) -> Update:
    def run(parameters: list[Any], states: list[Any], group: Group) -> None:
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1)
        beta1, beta2 = group["betas"]
        function(
            parameters,
            [p.grad for p in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            amsgrad=False,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=group["maximize"],
            grad_scale=None,
            found_inf=None,
        )

    return run


UPDATES: dict[type[torch.optim.Optimizer], tuple[Update, set[str]]] = {
    torch.optim.SGD: (_sgd, {"momentum_buffer"}),
    CaffeSGD: (_caffe_sgd, {"velocity"}),
    torch.optim.Adam: (_adam(torch._fused_adam_), {"exp_avg"}),
    torch.optim.AdamW: (_adam(torch._fused_adamw_), {"exp_avg"}),
}
