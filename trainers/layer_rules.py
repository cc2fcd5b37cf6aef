"""Rules for the layers of a user's network, so that they can be copied and frozen one by one.

Each function returns one line that names the layer, or "" if the rule is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy


def broken_rule(layers: Sequence[nn.Module]) -> str:
    """Return the first rule that layers 1..N break."""
    for rule in (_weightless, _lazy, _outside, _shared):
        if line := rule(layers):
            return line
    return ""


def _weightless(layers: Sequence[nn.Module]) -> str:
    empty = [i for i, layer in enumerate(layers, 1) if not list(layer.parameters())]
    if not empty:
        return ""
    return (
        f"layers {empty} have no weights; "
        "put them into the same nn.Sequential as the layer that they follow"
    )


def _lazy(layers: Sequence[nn.Module]) -> str:
    """Return the message for a lazy module, which has no weights before its first input."""
    for number, layer in enumerate(layers, 1):
        for path, module in layer.named_modules():
            tensors = (*module.parameters(recurse=False), *module.buffers(recurse=False))
            if any(map(is_lazy, tensors)):
                kind = type(module).__name__
                return (
                    f"layer {number}: {_place(path, module)} is lazy, and has no weights yet; "
                    f"use {kind.removeprefix('Lazy')} with its number of inputs"
                )
    return ""


def _shared(layers: Sequence[nn.Module]) -> str:
    """Return the message for a tensor that two layers share: neither is copied or frozen alone."""
    owners: dict[int, tuple[int, str]] = {}
    for number, layer in enumerate(layers, 1):
        parameters = layer.named_parameters(remove_duplicate=False)
        for name, tensor in (*parameters, *layer.named_buffers(remove_duplicate=False)):
            if not tensor.numel():
                continue
            full = f"layer{number}.{name}"
            owner, other = owners.setdefault(tensor.untyped_storage().data_ptr(), (number, full))
            if owner != number:
                return (
                    f"layers {owner} and {number} share a tensor, {other} and {full}, so that "
                    "neither can be copied or frozen without the other; give each layer its own, "
                    "or make one layer of the two"
                )
    return ""


def _outside(layers: Sequence[nn.Module]) -> str:
    """Return the message for a tensor or module unknown to torch, which is not saved or copied."""
    for number, layer in enumerate(layers, 1):
        known = {*map(id, layer.modules()), *map(id, layer.parameters())}
        for path, module in layer.named_modules():
            for name, value in _hidden(vars(module)):
                if id(value) in known:
                    continue
                where = f"layer {number}: {name} of {_place(path, module)}"
                if isinstance(value, nn.Module | nn.Parameter):
                    way_out = "use nn.ModuleList, nn.ModuleDict or nn.ParameterList"
                    return f"{where} holds weights that torch does not know; {way_out}"
                if value.grad_fn is None:  # else it is computed from weights
                    way_out = "use register_buffer()"
                    return f"{where} is a tensor that is neither saved nor copied; {way_out}"
    return ""


def _hidden(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the tensors and modules in plain attributes, and in lists or mappings of these."""
    for name, value in attributes.items():
        if name in ("_parameters", "_buffers", "_modules"):
            continue
        values = value.values() if isinstance(value, dict) else value
        for item in values if isinstance(value, list | tuple | dict) else [value]:
            if isinstance(item, torch.Tensor | nn.Module):
                yield name, item


def _place(path: str, module: nn.Module) -> str:
    kind = type(module).__name__
    return f"{kind} ({path})" if path else kind


def numbers_in(layer: nn.Module) -> dict[str, float]:
    """Return the numbers in the plain attributes of a layer's modules, by name."""
    return {
        f"{name} of {_place(path, module)}": value
        for path, module in layer.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, float)
    }
