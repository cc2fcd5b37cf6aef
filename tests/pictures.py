"""Folders of small image files for the tests of data: `train/<class>/<file>` and so on."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from trainers.datasets.images import Pixels

SETS = {"train": {"cat": 6, "dog": 5}, "val": {"cat": 2, "dog": 3}}


def picture(number: int, mode: str = "RGB", size: tuple[int, int] = (12, 8)) -> Image.Image:
    """Noise of its own for each number; (width, height)."""
    random = np.random.RandomState(number)
    pixels = random.randint(0, 256, size=(size[1], size[0], 3)).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def write_folder(
    folder: Path, sets: Mapping[str, Mapping[str, int]] = SETS, old: bool = True
) -> Path:
    """JPEGs `<class>_<number>.JPEG`, all different; `old` folders were not changed just now."""
    number = 0
    for name, classes in sets.items():
        for label, count in classes.items():
            (folder / name / label).mkdir(parents=True)
            for index in range(count):
                picture(number).save(folder / name / label / f"{label}_{index}.JPEG")
                number += 1
    if old:
        settle(folder)
    return folder


def settle(folder: Path, age: float = 60) -> None:
    """Date every folder back by so many seconds."""
    then = time.time() - age
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            os.utime(path, (then, then))


def pixels_of(images: Pixels | np.ndarray) -> np.ndarray:
    """All images, gathered."""
    if isinstance(images, np.ndarray):
        return images
    out = np.empty(images.shape, np.uint8)
    images.gather(np.arange(len(out)), out)
    return out
