"""EfficientNet-Lite0 in eight numbered layers: no squeeze-excitation, and ReLU6 throughout.

Tan and Le 2019, https://arxiv.org/abs/1905.11946; the Lite form is defined in
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import count

import torch
from torch import nn
from torch.nn import functional

# One stage a row: repeats, kernel, stride of the first block, expansion, channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
GROUPS = ((0, 1), (2,), (3,), (4,), (5, 6))  # stages of the layers 2 to 6
STEM, HEAD = 32, 1280


class Conv(nn.Conv2d):
    """Convolution without bias, padded as TensorFlow does: the odd pixel lies below and right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1):
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if stride > 1:
            height, width = (_gap(size, kernel, stride) for size in images.shape[2:])
            sides = (width // 2, width - width // 2, height // 2, height - height // 2)
            images = functional.pad(images, sides)
        return super().forward(images)


class Block(nn.Sequential):
    """Inverted bottleneck: expand, filter each channel, project; add the input if shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        middle = expansion * inputs
        parts = [
            ("depthwise", Conv(middle, middle, kernel, stride=stride, groups=middle)),
            ("depthwise_norm", norm(middle)),
            ("depthwise_relu", nn.ReLU6(inplace=True)),
            ("project", Conv(middle, outputs, 1)),
            ("project_norm", norm(outputs)),
        ]
        if expansion > 1:
            parts = [
                ("expand", Conv(inputs, middle, 1)),
                ("expand_norm", norm(middle)),
                ("expand_relu", nn.ReLU6(inplace=True)),
                *parts,
            ]
        super().__init__(OrderedDict(parts))
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs = images
        for part in self:
            outputs = part(outputs)
        return images + outputs if self.is_residual else outputs


def _gap(size: int, kernel: int, stride: int) -> int:
    """Return the pixels of padding that give ⌈size / stride⌉ outputs."""
    outputs = -(-size // stride)
    return max((outputs - 1) * stride + kernel - size, 0)


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def build(*, classes: int, shape: tuple[int, int, int]) -> list[nn.Module]:
    """Return stem, five groups of blocks, head and classifier. Blocks are numbered from 0."""
    stem = {"conv": Conv(shape[0], STEM, 3, stride=2), "norm": norm(STEM), "relu": nn.ReLU6()}
    layers: list[nn.Module] = [nn.Sequential(OrderedDict(stem))]
    channels, numbers = STEM, count()
    for group in GROUPS:
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for repeats, kernel, stride, expansion, outputs in (STAGES[stage] for stage in group):
            for repeat in range(repeats):
                block = Block(channels, outputs, kernel, 1 if repeat else stride, expansion)
                blocks[f"block{next(numbers)}"] = block
                channels = outputs
        layers.append(nn.Sequential(blocks))
    head = {
        "conv": Conv(channels, HEAD, 1),
        "norm": norm(HEAD),
        "relu": nn.ReLU6(),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
    }
    return [*layers, nn.Sequential(OrderedDict(head)), nn.Linear(HEAD, classes)]
