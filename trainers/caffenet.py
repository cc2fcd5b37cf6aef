"""CaffeNet, the paper's network: AlexNet with one column that pools before it normalises.

Layers, fillers and their order are those of the paper's prototxt files (yosinski/convnet_transfer,
results/half0A/imagenet_train.prototxt), which follow Caffe's examples/imagenet.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from trainers.canonical import ConfigError


class Convolution(NamedTuple):
    """Convolution, and what follows its ReLU; `bias` is the first value of its biases."""

    out: int
    kernel: int
    stride: int
    pad: int
    groups: int
    bias: float
    pooled: bool = False
    normalised: bool = False


CONVOLUTIONS = (
    Convolution(96, 11, 4, 0, 1, bias=0, pooled=True, normalised=True),
    Convolution(256, 5, 1, 2, 2, bias=1, pooled=True, normalised=True),
    Convolution(384, 3, 1, 1, 1, bias=0),
    Convolution(384, 3, 1, 1, 2, bias=1),
    Convolution(256, 3, 1, 1, 2, bias=1, pooled=True),
)
WIDTH = 4096  # of layers 6 and 7
SHRINKS = (1, 2, 4, 8, 16)  # divisors of all widths, those of both groups too
STD, STD_WIDE = 0.01, 0.005  # deviations of first weights; the latter in layers 6 and 7


class AcrossChannels(nn.LocalResponseNorm):
    """Local response normalisation whose gradient is the same every time, on a GPU too.

    torch's own uses AvgPool3d, whose backward pass on a GPU adds in no fixed order (see
    torch.use_deterministic_algorithms). This one adds shifted slices of the squares.
    """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        channels, before = images.shape[1], self.size // 2
        squares = F.pad(images * images, (0, 0, 0, 0, before, self.size - 1 - before))
        total = squares[:, :channels]
        for shift in range(1, self.size):
            total = total + squares[:, shift : shift + channels]
        return images / (total * (self.alpha / self.size) + self.k) ** self.beta


class FilledLayer(nn.Sequential):
    """Numbered layer with first weights of its own: normal with deviation `std`, biases `bias`."""

    def __init__(self, parts: OrderedDict[str, nn.Module], *, std: float, bias: float):
        super().__init__(parts)
        self.std, self.bias = std, bias

    def fill_parameters(self) -> None:
        """Fill the weights as Caffe's `gaussian` does, and the biases as `constant` does."""
        for name, parameter in self.named_parameters():
            if name.endswith(".bias"):
                nn.init.constant_(parameter, self.bias)
            else:
                nn.init.normal_(parameter, std=self.std)


def caffenet(
    *,
    classes: int,
    shape: tuple[int, int, int],
    outputs: int | None = None,
    shrink: int = 1,
) -> list[nn.Module]:
    """Return five convolutions and three fully connected layers.

    For 1000 classes there are 60,965,224 parameters. The paper's images are 3×227×227. `outputs` is
    the width of layer 8, by default the number of classes; the paper's networks have 1000 outputs
    for every task, and those beyond the classes are never a label. All other widths are divided by
    `shrink`: a network of the same form that is quick to try.
    Raises `ConfigError` for options out of range, `ValueError` for images that are too small.
    """
    if outputs is not None and outputs < classes:
        message = f"expected at least {classes}, the classes of a half, found {outputs}"
        raise ConfigError("outputs", message)
    if shrink not in SHRINKS:
        raise ConfigError("shrink", f"expected one of {', '.join(map(str, SHRINKS))}")
    channels, height, width = shape
    layers: list[nn.Module] = []
    for number, c in enumerate(CONVOLUTIONS, start=1):
        out = c.out // shrink
        convolution = nn.Conv2d(channels, out, c.kernel, c.stride, c.pad, groups=c.groups)
        parts: list[tuple[str, nn.Module]] = [
            ("conv", convolution),
            ("relu", nn.ReLU(inplace=True)),
        ]
        height, width = ((x + 2 * c.pad - c.kernel) // c.stride + 1 for x in (height, width))
        if c.pooled:
            if min(height, width) < 3:
                raise ValueError(
                    f"images {shape[1]}×{shape[2]} are too small to pool layer {number}"
                )
            # Caffe rounds sizes up. It makes no difference to 227×227 images.
            parts.append(("pool", nn.MaxPool2d(3, 2, ceil_mode=True)))
            height, width = height // 2, width // 2
        if c.normalised:
            parts.append(("norm", AcrossChannels(5, alpha=1e-4, beta=0.75, k=1.0)))
        if number == len(CONVOLUTIONS):
            parts.append(("flatten", nn.Flatten()))
        layers.append(FilledLayer(OrderedDict(parts), std=STD, bias=c.bias))
        channels = out
    features = channels * height * width
    hidden = WIDTH // shrink
    for _ in range(2):
        parts = [("fc", nn.Linear(features, hidden)), ("relu", nn.ReLU(inplace=True))]
        parts.append(("dropout", nn.Dropout(0.5)))
        layers.append(FilledLayer(OrderedDict(parts), std=STD_WIDE, bias=1))
        features = hidden
    head = OrderedDict[str, nn.Module](fc=nn.Linear(features, outputs or classes))
    return [*layers, FilledLayer(head, std=STD, bias=0)]
