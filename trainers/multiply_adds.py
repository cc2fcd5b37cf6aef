"""How many multiply-adds of one image each module makes, counted while images pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle


def count(layer: nn.Module, add: Callable[[int], None]) -> list[RemovableHandle]:
    """Call `add` with the multiply-adds of one image, for each weighted product in `layer`.

    Convolutions, linear maps and attention are counted; sums, scalings and normalisation are not.
    The hooks stay until they are removed.
    """

    def hook(module: nn.Module, args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        add(COUNTED[_kind(module)](module, _first(args, kwargs), output))

    return [
        module.register_forward_hook(hook, with_kwargs=True)
        for module in layer.modules()
        if _kind(module) in COUNTED
    ]


def _kind(module: nn.Module) -> str:
    """`Conv2d`, or a torchvision module's full name: torchvision is not imported for this."""
    for kind in (nn.Conv2d, nn.Linear, nn.MultiheadAttention):
        if isinstance(module, kind):
            return kind.__name__
    return f"{type(module).__module__}.{type(module).__name__}"


def _first(args: Any, kwargs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The inputs by the names that attention gives them."""
    return {**dict(zip(("query", "key", "value"), args, strict=False)), **kwargs}


def _weights(module: Any, _inputs: Mapping[str, torch.Tensor], output: torch.Tensor) -> int:
    """Every weight once at each position."""
    positions = output[0].numel() // module.weight.shape[0]
    return int(module.weight.numel() * positions)


def _attention(module: Any, inputs: Mapping[str, torch.Tensor], _output: Any) -> int:
    """Four maps of tokens, the queries' products with the keys, and the sums of the values."""
    dimension = 1 if module.batch_first else 0
    queries, keys = inputs["query"].shape[dimension], inputs["key"].shape[dimension]
    width = module.embed_dim
    maps = queries * 2 * width + keys * (module.kdim + module.vdim)
    return int(width * (maps + 2 * queries * keys))


def _windows(module: Any, _inputs: Any, output: torch.Tensor) -> int:
    """Attention in windows of a map (N, H, W, C), which is padded to a number of whole ones."""
    sides = zip(output.shape[1:3], module.window_size, strict=True)
    windows = math.prod(math.ceil(side / window) for side, window in sides)
    tokens, width = math.prod(module.window_size), output.shape[3]
    return int(windows * tokens * width * (4 * width + 2 * tokens))


def _partitions(_module: Any, _inputs: Any, output: torch.Tensor) -> int:
    """The products of attention in partitions (N, G, P, C); its maps are modules of their own."""
    _, partitions, tokens, width = output.shape
    return partitions * 2 * tokens * tokens * width


COUNTED: dict[str, Callable[[Any, Mapping[str, torch.Tensor], Any], int]] = {
    "Conv2d": _weights,
    "Linear": _weights,
    "MultiheadAttention": _attention,
    "torchvision.models.swin_transformer.ShiftedWindowAttention": _windows,
    "torchvision.models.swin_transformer.ShiftedWindowAttentionV2": _windows,
    "torchvision.models.maxvit.RelativePositionalMultiHeadAttention": _partitions,
}
