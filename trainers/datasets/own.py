"""Datasets from a user's own function, which returns `{"train": (images, labels), …}`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainers.datasets.images import HASH_BYTES, DataError, content_hash, open_rgb
from trainers.datasets.sets import SUBSETS, Dataset, Subset

CHANNELS = (1, 3, 4)  # of images in the form (N, H, W, C)
MOST_RATIO = 30  # between mean absolute values of two sets of one range


def from_mapping(name: str, mapping: Mapping[str, Any]) -> Dataset:
    """Return the `Dataset` of a user's mapping; its images become float32.

    `train`, `validation` and `test` of the mapping are pairs (images, labels). Images are an array
    (N, C, H, W), (N, H, W), or (N, H, W, C) with one, three or four channels and larger sides, or a
    list of N image files, which become RGB. Values of uint8 are scaled to 0..1; other numbers stay
    as they are. The three sets have one size, type and range. Labels are N integers from 0.
    `classes`, the names of the classes by index, may be left out; it is a list, or a mapping from
    name to index or from index to name. Raises `DataError`, which begins with
    `name`.
    """
    if not isinstance(mapping, Mapping) or any(
        not isinstance(mapping.get(s), tuple | list) or len(mapping[s]) != 2 for s in SUBSETS
    ):
        raise DataError(
            f"dataset {name}: expected a mapping with 'train', 'validation' and 'test', "
            "each a pair (images, labels)"
        )
    labels = {s: _labels(f"dataset {name}, {s}", *mapping[s]) for s in SUBSETS}
    images = {s: _array(f"dataset {name}, {s}", mapping[s][0]) for s in SUBSETS}
    scaled = {s: _scaled(images[s]) for s in SUBSETS}
    for s, array in scaled.items():
        _check_finite(f"dataset {name}, {s}", array)
    _check_alike(name, images)
    subsets = {s: Subset(scaled[s], labels[s], _image_hashes(scaled[s])) for s in SUBSETS}
    count = 1 + max(int(subset.labels.max()) for subset in subsets.values())
    classes = _names(name, mapping.get("classes", range(count)))
    if len(classes) < count:
        raise DataError(
            f"dataset {name}: label {count - 1} found, but only {len(classes)} classes named"
        )
    if len(set(classes)) < len(classes):
        raise DataError(f"dataset {name}: two classes have the same name")
    return Dataset(classes, *(subsets[s] for s in SUBSETS))


def _names(name: str, classes: Any) -> tuple[str, ...]:
    """Return the names of the classes in the order of their indices."""
    if not isinstance(classes, Mapping):
        return tuple(map(str, classes))
    pairs = [(index, label) for label, index in classes.items()]
    if any(isinstance(index, str) for index, _ in pairs):
        pairs = [(label, index) for index, label in pairs]
    indices = [index for index, _ in pairs]
    numbers = [index for index in indices if isinstance(index, int | np.integer)]
    if sorted(numbers) != list(range(len(indices))):
        raise DataError(
            f"dataset {name}: expected classes as a list of names, or as a mapping from each name "
            f"to its index 0..{len(indices) - 1}; found {classes}"
        )
    return tuple(str(label) for _, label in sorted(pairs))


def _labels(where: str, images: Any, labels: Any) -> np.ndarray:
    """Return the labels (N,), int64, of N images."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or (len(labels) and labels.min() < 0):
        raise DataError(f"{where}: expected labels as a list of class indices from 0")
    if len(images) != len(labels) or not len(labels):
        raise DataError(f"{where}: {len(images)} images and {len(labels)} labels")
    indices: np.ndarray = labels.astype(np.int64)
    return indices


def _array(where: str, images: Any) -> np.ndarray:
    """Return images (N, C, H, W) of an array or of image files, in their own type and range.

    (N, H, W, C) is recognised where the last axis alone can be that of the channels.
    """
    if isinstance(images, list | tuple) and all(isinstance(path, str | Path) for path in images):
        images = np.stack(_decode(where, [Path(path) for path in images]))
    array: np.ndarray = np.asarray(images)
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4 or array.dtype.kind not in "uif":
        raise DataError(
            f"{where}: expected images (N, C, H, W) or (N, H, W), uint8 or float, or image files; "
            f"found {array.dtype} {array.shape}"
        )
    if array.shape[3] in CHANNELS and min(array.shape[1:3]) > max(CHANNELS):
        array = array.transpose(0, 3, 1, 2)
    return array


def _check_alike(name: str, images: Mapping[str, np.ndarray]) -> None:
    """Raise `DataError` if the sets differ in size, type or range.

    Bytes are scaled and other numbers are not, so the same values in two types would differ.
    """
    sizes = {s: array.shape[1:] for s, array in images.items()}
    if len(set(sizes.values())) > 1:
        raise DataError(f"dataset {name}: expected images of one size (C, H, W), found {sizes}")
    types = {s: str(array.dtype) for s, array in images.items()}
    if len({_kind(array.dtype) for array in images.values()}) > 1:
        raise DataError(f"dataset {name}: expected images of one type, found {types}")
    amplitudes = {s: float(np.abs(a).mean(dtype=np.float64)) for s, a in images.items()}
    if max(amplitudes.values()) > MOST_RATIO * min(amplitudes.values()) > 0:
        ranges = {s: f"{array.min():g} to {array.max():g}" for s, array in images.items()}
        raise DataError(f"dataset {name}: expected images of one range, found {ranges}")


def _kind(dtype: np.dtype[Any]) -> str:
    """Return bytes, integers or floats."""
    return "bytes" if dtype == np.uint8 else "floats" if dtype.kind == "f" else "integers"


def _scaled(images: np.ndarray) -> np.ndarray:
    """Return images as float32, bytes scaled to 0..1."""
    scale = 255 if images.dtype == np.uint8 else 1
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        return np.ascontiguousarray(images, dtype=np.float32) / np.float32(scale)


def _check_finite(where: str, images: np.ndarray) -> None:
    """Raise `DataError` if a pixel of images (N, C, H, W) is not finite."""
    finite = np.array([bool(np.isfinite(image).all()) for image in images])
    if not finite.all():
        wrong = np.flatnonzero(~finite)
        raise DataError(
            f"{where}: image {wrong[0]} has pixels that are not finite numbers"
            + (f", and so have {len(wrong) - 1} others" if len(wrong) > 1 else "")
        )


def _image_hashes(images: np.ndarray) -> np.ndarray:
    """Return a hash of the pixels of each image (N, 16), uint8."""
    contents = b"".join(content_hash(image.tobytes()) for image in images)
    return np.frombuffer(contents, np.uint8).reshape(-1, HASH_BYTES)


def _decode(where: str, paths: Sequence[Path]) -> list[np.ndarray]:
    """Decode image files of one size to (3, H, W), uint8, each."""
    images: list[np.ndarray] = []
    for path in paths:
        try:
            image = np.asarray(open_rgb(path.read_bytes())).transpose(2, 0, 1)
        except (OSError, DataError) as error:
            raise DataError(f"{where}: cannot read image {path}: {error}") from error
        if images and image.shape != images[0].shape:
            raise DataError(
                f"{where}: {path} is {image.shape[2]}×{image.shape[1]}, but the images before it "
                f"are {images[0].shape[2]}×{images[0].shape[1]}; give images of one size"
            )
        images.append(image)
    return images


def hash_arrays(*arrays: np.ndarray) -> str:
    """Return 16 hex digits of the SHA-256 of the arrays' shapes, types and values."""
    hasher = hashlib.sha256()
    for array in arrays:
        hasher.update(f"{array.shape}{array.dtype}".encode())
        hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()[:16]
