"""Multiply-adds of one image in each layer, as torch's own counter finds them."""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def multiply_adds(layers: nn.Sequential, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the multiply-adds of each layer for one image (C, H, W), forward.

    Products are counted: convolutions, linear maps, attention. Sums, scalings and normalisation
    are not. The meta device computes shapes only. Code that reads values (`.item()`) or holds
    tensors that are no buffers cannot run there, and is counted on the CPU.
    """
    try:
        with _no_breakpoints():
            return _count(_without_values(layers), torch.zeros(1, *shape, device="meta"))
    except (RuntimeError, TypeError):
        return _count(layers, torch.zeros(1, *shape))


def _count(layers: nn.Sequential, images: torch.Tensor) -> tuple[int, ...]:
    # Gradients stay enabled: without them torch's attention takes a fused path on the CPU, whose
    # products its counter does not know.
    counts = []
    for layer in layers:
        with FlopCounterMode(display=False) as counter:
            images = layer(images)
        counts.append(counter.get_total_flops() // 2)  # an addition and a multiplication
    return tuple(counts)


def _without_values(layers: nn.Sequential) -> nn.Sequential:
    """Copy the layers to the meta device, and never their weights."""
    memo: dict[int, torch.Tensor] = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"))
        for parameter in layers.parameters()
    }
    memo |= {id(buffer): torch.empty_like(buffer, device="meta") for buffer in layers.buffers()}
    return copy.deepcopy(layers, memo)


@contextlib.contextmanager
def _no_breakpoints() -> Iterator[None]:
    """Pass over `breakpoint()`: tensors on the meta device have no values to look at."""
    before, sys.breakpointhook = sys.breakpointhook, lambda *_, **__: None
    try:
        yield
    finally:
        sys.breakpointhook = before
