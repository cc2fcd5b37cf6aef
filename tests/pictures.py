"""Folders of small image files, and loading of the datasets in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainers import datasets
from trainers.canonical import freeze_options
from trainers.config import DatasetRef
from trainers.datasets import Dataset
from trainers.datasets.images import Pixels

SETS = {"train": {"cat": 6, "dog": 5}, "val": {"cat": 2, "dog": 3}}


def picture(number: int, mode: str = "RGB", size: tuple[int, int] = (12, 8)) -> Image.Image:
    """Return an image of noise, different for each number; `size` is (width, height)."""
    random = np.random.RandomState(number)
    pixels = random.randint(0, 256, size=(size[1], size[0], 3)).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def write_folder(folder: Path, sets: Mapping[str, Mapping[str, int]] = SETS) -> Path:
    """Write different JPEGs `<set>/<class>/<class>_<index>.JPEG`."""
    number = 0
    for name, classes in sets.items():
        for label, count in classes.items():
            (folder / name / label).mkdir(parents=True)
            for index in range(count):
                picture(number).save(folder / name / label / f"{label}_{index}.JPEG")
                number += 1
    return folder


def read_again(name: str, root: Path, fingerprint: str = "", **options: Any) -> Dataset:
    """Load a dataset from its files, whatever this process has read before."""
    datasets.forget()
    ref = DatasetRef(name=name, options=freeze_options(options), fingerprint=fingerprint)
    return datasets.load(ref, str(root))


def pixels_of(images: Pixels | np.ndarray) -> np.ndarray:
    """Return all images (N, C, H, W) as an array."""
    if isinstance(images, np.ndarray):
        return images
    out = np.empty(images.shape, np.uint8)
    images.gather(np.arange(len(out)), out)
    return out
