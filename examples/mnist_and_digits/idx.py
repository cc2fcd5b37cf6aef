"""MNIST or a part of it, from its four files in the folder that `IDX_FILES` names."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np

HELD_OUT = 800  # training images that become validation images


def digits(folder: str = "$IDX_FILES") -> dict[str, Any]:
    """Return the images (N, 28, 28), uint8, and their labels. The files are shuffled already."""
    place = Path(os.path.expandvars(folder))
    train, test = (
        (
            _read(place / f"{name}-images-idx3-ubyte.gz"),
            _read(place / f"{name}-labels-idx1-ubyte.gz"),
        )
        for name in ("train", "t10k")
    )
    return {
        "train": (train[0][:-HELD_OUT], train[1][:-HELD_OUT].astype(np.int64)),
        "validation": (train[0][-HELD_OUT:], train[1][-HELD_OUT:].astype(np.int64)),
        "test": (test[0], test[1].astype(np.int64)),
    }


def _read(path: Path) -> np.ndarray:
    """Return an array in IDX format: two zeros, type, dimensions, sizes (big-endian), values."""
    with gzip.open(path) as file:
        content = file.read()
    sizes = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(sizes).copy()
