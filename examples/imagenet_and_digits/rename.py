"""Write the published weights of EfficientNet-Lite0 under the names of `lite0.build`.

Run:  python rename.py efficientnet-lite0-57934424.pth lite0.safetensors

The first file is a torch `state_dict`; nothing in it is executed. Every tensor has to fit. The
script ends with the network's five classes for two photographs of scikit-learn.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import lite0
import torch
from safetensors.torch import save_file
from torch import nn

from trainers.networks import Network
from trainers.weights import Tensors, WeightsError, read

CLASSES, SIZE = 1000, 224
OUTER = {
    "_conv_stem": "layer1.conv",
    "_bn0": "layer1.norm",
    "_conv_head": "layer7.conv",
    "_bn1": "layer7.norm",
    "_fc": "layer8",
}
INNER = {
    "_expand_conv": "expand",
    "_bn0": "expand_norm",
    "_depthwise_conv": "depthwise",
    "_bn1": "depthwise_norm",
    "_project_conv": "project",
    "_bn2": "project_norm",
}


def whole() -> Network:
    """Return the network for ImageNet."""
    return Network.of(lite0.build(classes=CLASSES, shape=(3, SIZE, SIZE)))


def renamed(tensors: Mapping[str, torch.Tensor], label: str) -> Tensors:
    """Return the tensors under our names.

    `_blocks.3._bn1.bias` becomes `layer3.block3.depthwise_norm.bias`. `label` names the file in
    messages. Raises `WeightsError` if a tensor is missing, unexpected or of another shape.
    """
    wanted = whole().state_dict()
    layers = {name.split(".")[1]: name.split(".")[0] for name in wanted}  # of each block
    ours = {_our_name(name, layers): tensor.contiguous() for name, tensor in tensors.items()}
    shapes = {name: tensor.shape for name, tensor in ours.items()}
    differing = dict(shapes.items() ^ {name: t.shape for name, t in wanted.items()}.items())
    if differing:
        names = ", ".join(sorted(differing))
        raise WeightsError(
            f"{label} is not EfficientNet-Lite0: missing, unexpected or of another shape: {names}; "
            "give the file efficientnet-lite0-57934424.pth"
        )
    return ours


def _our_name(name: str, layers: Mapping[str, str]) -> str:
    """Return our name of a tensor, or its own name if we have none."""
    if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
        number, part, kind = match.groups()
        layer = layers.get(f"block{number}")
        return f"{layer}.block{number}.{INNER[part]}.{kind}" if layer and part in INNER else name
    part, _, kind = name.partition(".")
    return f"{OUTER[part]}.{kind}" if part in OUTER else name


def classified(network: nn.Module, photograph: str) -> list[str]:
    """Return the five likeliest ImageNet classes of the middle of a photograph of scikit-learn."""
    from sklearn.datasets import load_sample_image
    from torchvision.models import ResNet18_Weights

    pixels = torch.from_numpy(load_sample_image(photograph).copy()).permute(2, 0, 1).float()
    side, (height, width) = min(pixels.shape[1:]), pixels.shape[1:]
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[None, :, top : top + side, left : left + side]
    images = nn.functional.interpolate(square, (SIZE, SIZE), mode="bicubic", antialias=True)
    with torch.no_grad():
        shares = network.eval()((images - 127) / 128).softmax(1)[0]
    names = ResNet18_Weights.DEFAULT.meta["categories"]
    best = shares.topk(5)
    return [f"{names[i]} {p:.0%}" for p, i in zip(best.values, best.indices.tolist(), strict=True)]


def main(source: str, target: str) -> None:
    tensors = renamed(read(Path(source).read_bytes(), source), source)
    network = whole()
    network.load_state_dict(tensors, strict=True)
    save_file(tensors, target)
    print(f"{len(tensors)} tensors in {target}")
    for photograph in ("china.jpg", "flower.jpg"):
        print(f"{photograph}: {', '.join(classified(network, photograph))}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python rename.py STATE_DICT.pth TARGET.safetensors")
    try:
        main(*sys.argv[1:])
    except (OSError, WeightsError) as error:
        raise SystemExit(f"{error}") from error
