"""Lower bounds of a CaffeNet training step: the device's peaks, and the needs of one image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.caffenet_engines import PRECISIONS, Case, Size, set_precision, training
from benchmarks.device import seconds_per_call
from trainers.config import training_macs
from trainers.networks import build, describe


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Measured peaks of the device, and the least that one training image needs.

    `flops` per second by precision, `bytes` per second; `needed_flops` per image by the number of
    frozen layers, `needed_bytes` also by precision.
    """

    flops: dict[str, float]
    bytes: float
    needed_flops: dict[int, float]
    needed_bytes: dict[int, dict[str, float]]

    def rate(self, precision: str, frozen: int) -> tuple[float, float]:
        """Return images per second by arithmetic alone, and by memory traffic alone."""
        moved = self.needed_bytes[frozen][precision]
        return self.flops[precision] / self.needed_flops[frozen], self.bytes / moved


def limits(
    size: Size, precisions: Sequence[str], device: torch.device, frozen: Sequence[int]
) -> Limits:
    """Measure the device, and count what one image needs with each number of frozen layers."""
    network = training(Case(engine="", precision="float32"), size).network
    macs = describe(network, size.classes, (3, size.crop, size.crop)).macs
    return Limits(
        flops={precision: peak_flops(precision, size, device) for precision in precisions},
        bytes=peak_bytes(size, device),
        needed_flops={n: 2 * training_macs(macs, n) for n in (0, *frozen)},
        needed_bytes={n: needed_bytes(size, n) for n in (0, *frozen)},
    )


def needed_bytes(size: Size, frozen: int) -> dict[str, float]:
    """Return bytes of memory traffic per training image, by precision, without fused modules.

    The forward pass writes and reads each output. The backward pass writes and reads its gradient,
    and reads the output again. Weights are float32, and the images of a batch share their traffic:
    both passes read them, their gradient is written and read, and the optimiser reads and writes
    weights and velocities.
    """
    network = training(Case(engine="", precision="float32"), size).network
    layers = build(network, size.classes, (3, size.crop, size.crop)).eval()
    values = [0] * len(layers)
    for number, layer in enumerate(layers):
        for module in layer.modules():
            if not list(module.children()) and not isinstance(module, nn.Flatten | nn.Dropout):
                module.register_forward_hook(_count_outputs(values, number))
    with torch.no_grad():
        layers(torch.zeros(1, 3, size.crop, size.crop))
    weights = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    of_outputs = 2 * sum(values) + 3 * sum(values[frozen:]) + 3 * size.crop**2
    of_weights = 4 * (sum(weights) + (1 + 2 + 4) * sum(weights[frozen:])) / size.batch
    return {p: of_outputs * (2 if p == "bfloat16" else 4) + of_weights for p in PRECISIONS}


def _count_outputs(values: list[int], number: int) -> Callable[..., None]:
    def count(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        values[number] += output.numel()

    return count


def peak_flops(precision: str, size: Size, device: torch.device) -> float:
    """Return FLOP per second of a large product of matrices."""
    set_precision(precision, deterministic=True)
    side = 8192 if device.type == "cuda" else 512
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds_per_call(lambda _: a @ b, size.steps, size.repeat, device)


def peak_bytes(size: Size, device: torch.device) -> float:
    """Return bytes per second of a copy, bytes read and bytes written."""
    values = 2**30 if device.type == "cuda" else 2**24
    a = torch.empty(values, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    seconds = seconds_per_call(lambda _: b.copy_(a), size.steps, size.repeat, device)
    return 2 * values / seconds
