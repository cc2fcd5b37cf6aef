"""A user's own data, `{"train": (images, labels), …}`, as a `Dataset`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainers.datasets.images import DataError
from trainers.datasets.sets import SUBSETS, Dataset, Subset


def from_mapping(name: str, given: Mapping[str, Any]) -> Dataset:
    """A user's `{"train": (images, labels), …}` as a `Dataset`. Raises `DataError` on a bad one."""
    if not isinstance(given, Mapping) or any(
        not isinstance(given.get(s), tuple | list) or len(given[s]) != 2 for s in SUBSETS
    ):
        raise DataError(
            f"dataset {name}: expected a mapping with 'train', 'validation' and 'test', "
            "each a pair (images, labels)"
        )
    subsets = {s: _subset(f"dataset {name}, {s}", *given[s]) for s in SUBSETS}
    sizes = {s: subset.images.shape[1:] for s, subset in subsets.items()}
    if len(set(sizes.values())) > 1:
        raise DataError(f"dataset {name}: expected images of one size (C, H, W), found {sizes}")
    count = 1 + max(int(subset.labels.max()) for subset in subsets.values())
    classes = tuple(map(str, given.get("classes", range(count))))
    if len(classes) < count:
        raise DataError(
            f"dataset {name}: label {count - 1} found, and {len(classes)} classes named"
        )
    if len(set(classes)) < len(classes):
        raise DataError(f"dataset {name}: two classes have one name")
    return Dataset(classes, *(subsets[s] for s in SUBSETS))


def _subset(where: str, images: Any, labels: Any) -> Subset:
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or (len(labels) and labels.min() < 0):
        raise DataError(f"{where}: expected labels as a list of class indices from 0")
    if len(images) != len(labels) or not len(labels):
        raise DataError(f"{where}: {len(images)} images and {len(labels)} labels")
    return Subset(_pixels(where, images), labels.astype(np.int64))


def _pixels(where: str, images: Any) -> np.ndarray:
    """Float images (N, C, H, W), from an array or from image files; uint8 is scaled to 0..1."""
    if isinstance(images, list | tuple) and all(isinstance(path, str | Path) for path in images):
        images = np.stack(_decode(where, [Path(path) for path in images]))
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or images.dtype.kind not in "uif":
        raise DataError(
            f"{where}: expected images (N, C, H, W) or (N, H, W), uint8 or float, or image files; "
            f"found {images.dtype} {images.shape}"
        )
    scale = 255 if images.dtype == np.uint8 else 1
    return np.ascontiguousarray(images, dtype=np.float32) / np.float32(scale)


def _decode(where: str, paths: Sequence[Path]) -> list[np.ndarray]:
    from PIL import Image

    images: list[np.ndarray] = []
    for path in paths:
        try:
            with Image.open(path) as file:
                image = np.asarray(file.convert("RGB")).transpose(2, 0, 1)
        except (OSError, Image.DecompressionBombError) as error:
            raise DataError(f"{where}: cannot read image {path}: {error}") from error
        if images and image.shape != images[0].shape:
            raise DataError(
                f"{where}: {path} is {image.shape[2]}×{image.shape[1]}, the images before it "
                f"{images[0].shape[2]}×{images[0].shape[1]}; give images of one size"
            )
        images.append(image)
    return images


def hash_arrays(*arrays: np.ndarray) -> str:
    hasher = hashlib.sha256()
    for array in arrays:
        hasher.update(f"{array.shape}{array.dtype}".encode())
        hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()[:16]
