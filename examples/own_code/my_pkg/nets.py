"""A network of four numbered layers."""

from __future__ import annotations

from torch import nn


def build(*, classes: int, shape: tuple[int, int, int], width: int = 16) -> list[nn.Module]:
    """Return one module per numbered layer; images have the `shape` (C, H, W)."""
    return [
        nn.Sequential(nn.Conv2d(shape[0], width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * width, 32), nn.ReLU()),
        nn.Linear(32, classes),
    ]
