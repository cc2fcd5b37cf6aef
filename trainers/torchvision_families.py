"""Forward passes and options of torchvision's families of networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Shape = tuple[int, int, int]


class Mean(nn.Module):
    """Mean over all positions of a map."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.mean([2, 3])


class Tokens(nn.Module):
    """First layer of a vision transformer: class token, patches, positions."""

    def __init__(self, network: Any):
        super().__init__()
        self.conv_proj = network.conv_proj
        self.class_token = network.class_token
        self.pos_embedding = network.encoder.pos_embedding
        self.dropout = network.encoder.dropout

    def reset_parameters(self) -> None:
        """Set the first weights as torchvision does: token 0, positions with deviation 0.02."""
        nn.init.zeros_(self.class_token)
        nn.init.normal_(self.pos_embedding, std=0.02)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches = self.conv_proj(images).flatten(2).permute(0, 2, 1)
        token = self.class_token.expand(len(images), -1, -1)
        return self.dropout(torch.cat([token, patches], dim=1) + self.pos_embedding)  # type: ignore[no-any-return]


class ClassToken(nn.Module):
    """First of a vision transformer's tokens; the classes are read from it."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens[:, 0]


# Parts of the forward pass, in order, of the families that `in_order` does not describe.
FORWARD: dict[str, Callable[[Any], list[nn.Module]]] = {
    "ResNet": lambda it: [
        *(it.conv1, it.bn1, it.relu, it.maxpool, it.layer1, it.layer2, it.layer3, it.layer4),
        *(it.avgpool, nn.Flatten(), it.fc),
    ],
    "ConvNeXt": lambda it: [*it.features, it.avgpool, *it.classifier],
    "DenseNet": lambda it: [
        *(*it.features, nn.ReLU(inplace=True)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), it.classifier),
    ],
    "MaxVit": lambda it: [it.stem, *it.blocks, *it.classifier],
    "MNASNet": lambda it: [*it.layers, Mean(), *it.classifier],
    "MobileNetV2": lambda it: [
        *(*it.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *it.classifier)
    ],
    "ShuffleNetV2": lambda it: [
        *(it.conv1, it.maxpool, it.stage2, it.stage3, it.stage4, it.conv5, Mean(), it.fc)
    ],
    "SqueezeNet": lambda it: [*it.features, *it.classifier, nn.Flatten()],
    "VisionTransformer": lambda it: [
        *(Tokens(it), *it.encoder.layers, it.encoder.ln, ClassToken(), *it.heads)
    ],
}

# Options that set a vision transformer's size. Sizes of other families are among their own options.
SIZES = ("patch_size", "num_layers", "num_heads", "hidden_dim", "mlp_dim")

# Arguments of a family beside the number of classes: size of the images, no auxiliary heads.
ARGUMENTS: dict[str, Callable[[Shape], dict[str, Any]]] = {
    "VisionTransformer": lambda shape: {"image_size": shape[1]},
    "MaxVit": lambda shape: {"input_size": shape[1:]},
    "GoogLeNet": lambda _: {"aux_logits": False, "init_weights": True},
    "Inception3": lambda _: {"aux_logits": False, "init_weights": True},
}
NO_OPTIONS = ("num_classes", "aux_logits", "dropout_aux", "transform_input")

# Options of a family that its constructor does not declare as arguments with plain defaults.
MORE_OPTIONS: dict[str, dict[str, type]] = {
    "EfficientNet": {"dropout": float},
    "MobileNetV3": {"width_mult": float, "reduced_tail": bool, "dilated": bool},
    "VisionTransformer": dict.fromkeys(SIZES, int),
}


def in_order(network: nn.Module) -> list[nn.Module]:
    """Return the children in order, those of `nn.Sequential`s too; the last sees flat vectors."""
    parts: list[nn.Module] = []
    *body, head = network.children()
    for child in (*body, nn.Flatten(), head):
        parts += child if type(child) is nn.Sequential else [child]
    return parts
