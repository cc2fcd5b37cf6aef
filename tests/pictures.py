"""Folders of small image files, and loading of the datasets in them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainers import datasets
from trainers.canonical import freeze_options
from trainers.config import DatasetRef
from trainers.datasets import Dataset
from trainers.datasets.images import HASH_BYTES, Files, Form, Pixels, content_hash

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


def files_in(folder: Path, count: int) -> Files:
    """Write `count` different PNG files of 4×4 pixels, unless they are there, and open them."""
    folder.mkdir(exist_ok=True)
    names = [f"{number:02d}.png" for number in range(count)]
    for number, name in enumerate(names):
        if not (folder / name).exists():
            picture(number, size=(4, 4)).save(folder / name)
    return Files(folder, names, hashes(folder, names), Form(size=4))


def hashes(folder: Path, names: Sequence[str]) -> np.ndarray:
    """Return the content hashes (N, 16), uint8, of files."""
    contents = [content_hash((folder / name).read_bytes()) for name in names]
    return np.frombuffer(b"".join(contents), np.uint8).reshape(-1, HASH_BYTES)


class Counted(Files):
    """Image files that count how many images were decoded, each of which takes a moment more."""

    pause = 0.002

    def __init__(self, files: Files):
        super().__init__(files.folder, files.names, files.hashes, files.form)
        self.decoded: list[int] = []

    def pixels(self, index: int) -> np.ndarray:
        self.decoded.append(index)
        time.sleep(self.pause)
        return super().pixels(index)


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
