"""Multiply-adds of layers that run on the meta device, and of layers that do not."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models.swin_transformer import SwinTransformerBlockV2

from trainers import multiply_adds as module
from trainers.multiply_adds import multiply_adds


class Scaled(nn.Module):
    """Attention over the pixels of images; pixels up to 255 are divided by 255."""

    def __init__(self, width: int):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.max().item() > 1:
            images = images / 255
        tokens = images.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens)[0]  # type: ignore[no-any-return]


def test_code_that_reads_values_is_counted_on_the_cpu() -> None:
    """The count has four maps of tokens, the products of queries and keys, the sums of values."""
    tokens, width = 9, 4
    layers = nn.Sequential(Scaled(width), nn.Linear(width, 3)).eval()
    attention = 4 * tokens * width**2 + 2 * tokens**2 * width
    assert multiply_adds(layers, (width, 3, 3)) == (attention, tokens * width * 3)


def test_a_product_that_does_not_depend_on_the_images_is_counted_once() -> None:
    """Swin's second version makes the biases of its windows of 2×2 from a table of 3×3 offsets."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = SwinTransformerBlockV2(8, 2, [2, 2], [0, 0])

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.block(images.permute(0, 2, 3, 1))  # type: ignore[no-any-return]

    tokens, width = 16, 8
    windows = 4 * tokens * width**2 + 2 * 4 * tokens * width
    mlp = 2 * 4 * tokens * width**2
    table = 9 * (2 * 512 + 512 * 2)
    assert multiply_adds(nn.Sequential(Block()), (8, 4, 4)) == (windows + mlp + table,)


def test_a_copy_without_values_leaves_the_layers_as_they_are() -> None:
    layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    before = {name: tensor.clone() for name, tensor in layers.state_dict().items()}
    copied = module._without_values(layers)
    assert {tensor.device.type for tensor in copied.state_dict().values()} == {"meta"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in layers.state_dict().items())
    assert [p.shape for p in copied.parameters()] == [p.shape for p in layers.parameters()]
