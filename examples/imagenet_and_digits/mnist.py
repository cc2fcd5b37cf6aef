"""A part of MNIST, from its four files in the folder that `IDX_FILES` names."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np

VALIDATION = 100


def digits(folder: str = "$IDX_FILES", train: int = 5000, test: int = 1000) -> dict[str, Any]:
    """Return the first `train` and `test` images (N, 28, 28), uint8, with their labels.

    The files are shuffled already. Their last training images are for validation.
    """
    place = Path(os.path.expandvars(folder))
    images, labels, test_images, test_labels = (
        _read(place / f"{name}.gz")
        for name in (
            "train-images-idx3-ubyte",
            "train-labels-idx1-ubyte",
            "t10k-images-idx3-ubyte",
            "t10k-labels-idx1-ubyte",
        )
    )
    train = min(train, len(images) - VALIDATION)
    return {
        "train": (images[:train], labels[:train].astype(np.int64)),
        "validation": (images[-VALIDATION:], labels[-VALIDATION:].astype(np.int64)),
        "test": (test_images[:test], test_labels[:test].astype(np.int64)),
    }


def _read(path: Path) -> np.ndarray:
    """Return an array in IDX format: two zeros, type, dimensions, sizes (big-endian), values."""
    with gzip.open(path) as file:
        content = file.read()
    sizes = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(sizes).copy()
