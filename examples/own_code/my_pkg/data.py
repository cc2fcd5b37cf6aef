"""Six shapes, drawn at random places and sizes under noise."""

from __future__ import annotations

from typing import Any

import numpy as np

NAMES = ["disc", "ring", "square", "frame", "cross", "stripes"]


def shapes(*, size: int = 16, images: int = 60, noise: float = 0.8) -> dict[str, Any]:
    """Return three sets of grey images of `size`×`size` pixels, `images` per class and set."""
    sets: dict[str, Any] = {"classes": NAMES}
    for number, name in enumerate(("train", "validation", "test")):
        random = np.random.default_rng(number)
        labels = np.repeat(np.arange(len(NAMES)), images)
        drawn = np.stack([draw(NAMES[label], size, random) for label in labels])
        noisy = drawn + noise * random.standard_normal(drawn.shape)
        sets[name] = (noisy[:, None].astype(np.float32), labels)
    return sets


def draw(name: str, size: int, random: np.random.Generator) -> np.ndarray:
    """Return one shape as an array (size, size) of zeros and ones."""
    y, x = np.mgrid[:size, :size] - random.uniform(0.4, 0.6, (2, 1, 1)) * size
    radius = random.uniform(0.25, 0.4) * size
    round_, square = np.hypot(x, y), np.maximum(abs(x), abs(y))
    inside = {
        "disc": round_ < radius,
        "ring": abs(round_ - radius) < 1.2,
        "square": square < radius,
        "frame": abs(square - radius) < 1.2,
        "cross": (np.minimum(abs(x), abs(y)) < 1.2) & (square < radius),
        "stripes": (np.floor(x / 2) % 2 == 0) & (square < radius),
    }
    return inside[name].astype(float)
