"""Datasets by name, each with disjoint training, validation and test images.

A dataset of one's own is a function `package.module:function` that returns
`{"train": (images, labels), "validation": …, "test": …}`, and optionally `"classes"`, their names.
Images are an array (N, C, H, W) or (N, H, W), uint8 or float, or a list of image files of one size.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from trainers.config import ConfigError, DatasetInfo, DatasetRef, Options, Task, digest
from trainers.own_code import fit_options, resolve
from trainers.tasks import members

SUBSETS = ("train", "validation", "test")

# SHA-256 over the pixels and labels of scikit-learn's copy of the UCI optical digits.
DIGITS_HASH = "192c099834f8e7cd"
DIGITS_IMAGES = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)


class DataError(Exception):
    """The data is missing, damaged or not what the plan was made with."""


class Pixels(Protocol):
    """Images (N, C, H, W), uint8, that stay where they are stored until they are asked for."""

    shape: tuple[int, int, int, int]

    def gather(self, indices: np.ndarray, out: np.ndarray) -> None:
        """Write the images at `indices` (M,) into `out` (M, C, H, W). Threads may do so at once."""


@dataclass(frozen=True)
class Subset:
    """Images (N, C, H, W), float32 or uint8, and class indices (N,), int64."""

    images: np.ndarray | Pixels
    labels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """Three disjoint sets of images and the names of the classes."""

    classes: tuple[str, ...]
    train: Subset
    validation: Subset
    test: Subset

    def subset(self, name: str) -> Subset:
        subset: Subset = getattr(self, name)
        return subset


class DatasetKind(NamedTuple):
    """How a dataset is loaded, and what is known of it without loading it."""

    load: Callable[..., Dataset]
    info: Callable[..., DatasetInfo]


def digits(
    *,
    canvas: int = 12,
    noise: float = 0.15,
    renderings: int = 4,
    train: int = 40,
    validation: int = 40,
    test: int = 94,
    seed: int = 0,
) -> Dataset:
    """scikit-learn's handwritten digits: 8×8 images placed at random on a larger canvas.

    The originals are divided before any rendering. `train`, `validation` and `test` count originals
    a class; each training original is rendered `renderings` times, each time at its own place and
    with its own noise (standard deviation, of a full scale of 1), the others once.
    """
    counts = {"train": train, "validation": validation, "test": test}
    originals, labels = _digits_file()
    found = _hash_arrays(originals.astype(np.uint8), labels.astype(np.int64))
    if found != DIGITS_HASH:
        raise DataError(
            f"scikit-learn's digits have changed: expected hash {DIGITS_HASH}, found {found}; "
            "install a scikit-learn that ships the UCI test set of 1,797 images"
        )
    pixels = originals.reshape(-1, 8, 8).astype(np.float32) / 16
    order = np.random.RandomState([seed, 0]).permutation(len(labels))
    subsets, start = {}, dict.fromkeys(range(10), 0)
    for number, (name, count) in enumerate(counts.items(), start=1):
        chosen = []
        for label in range(10):
            members = order[labels[order] == label]
            chosen.append(members[start[label] : start[label] + count])
            start[label] += count
        copies = renderings if name == "train" else 1
        picked = np.repeat(np.concatenate(chosen), copies)
        random = np.random.RandomState([seed, number])
        corners = random.randint(0, canvas - 8 + 1, size=(len(picked), 2))
        images = (noise * random.standard_normal((len(picked), 1, canvas, canvas))).astype(
            np.float32
        )
        for image, (top, left), original in zip(images, corners, picked, strict=True):
            image[0, top : top + 8, left : left + 8] += pixels[original]
        subsets[name] = Subset(images, labels[picked].astype(np.int64))
    return Dataset(classes=tuple("0123456789"), **subsets)


def _digits_file() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (1797, 64), 0..16, and labels, from scikit-learn's file.

    `sklearn.datasets.load_digits` reads the same, after a second of imports in every worker.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("the digits come with scikit-learn: pip install scikit-learn")
    path = Path(package.origin).with_name("datasets") / "data" / "digits.csv.gz"
    try:
        with gzip.open(path, "rt") as file:
            table = np.loadtxt(file, delimiter=",")
    except OSError as error:
        raise DataError(f"cannot read scikit-learn's digits at {path}: {error}") from error
    return table[:, :-1], table[:, -1]


def digits_info(
    *,
    canvas: int = 12,
    noise: float = 0.15,
    renderings: int = 4,
    train: int = 40,
    validation: int = 40,
    test: int = 94,
    seed: int = 0,
) -> DatasetInfo:
    """What planning must know of `digits`, without scikit-learn."""
    for name, value, least, most in (
        ("canvas", canvas, 8, 256),
        ("noise", noise, 0, 100),
        ("renderings", renderings, 1, 1000),
        ("train", train, 1, min(DIGITS_IMAGES)),
        ("validation", validation, 1, min(DIGITS_IMAGES)),
        ("test", test, 1, min(DIGITS_IMAGES)),
        ("seed", seed, 0, 2**32 - 1),
    ):
        if not least <= value <= most:
            raise ConfigError(name, f"expected {least} ≤ x ≤ {most}")
    if train + validation + test > min(DIGITS_IMAGES):
        raise ConfigError(
            "train",
            f"train + validation + test is {train + validation + test} images a class; "
            f"expected at most {min(DIGITS_IMAGES)}, the images of the smallest class",
        )
    return DatasetInfo(
        classes=tuple("0123456789"),
        shape=(1, canvas, canvas),
        train=(train * renderings,) * 10,
        validation=(validation,) * 10,
        test=(test,) * 10,
        fingerprint=DIGITS_HASH,
    )


DATASETS: dict[str, DatasetKind] = {"digits": DatasetKind(digits, digits_info)}


def load(ref: DatasetRef) -> Dataset:
    """The dataset that `ref` names. Raises `DataError` if it is not the one planned with."""
    dataset, fingerprint = _load(ref.name, ref.options)
    if ref.fingerprint and fingerprint != ref.fingerprint:
        raise DataError(
            f"dataset {ref.name}: the data or its code differs from what the plan was made with "
            f"(now {fingerprint}, then {ref.fingerprint}); make them equal, or plan again"
        )
    return dataset


def describe(name: str, options: Options) -> DatasetInfo:
    """What planning must know of a dataset.

    Raises `ConfigError` naming `name` or the wrong option, and `DataError` for bad data.
    """
    if name in DATASETS:
        return DATASETS[name].info(**dict(fit_options(DATASETS[name].load, options)))
    dataset, fingerprint = _load(name, options)
    n = len(dataset.classes)
    counts = {s: np.bincount(dataset.subset(s).labels, minlength=n).tolist() for s in SUBSETS}
    _, c, h, w = dataset.train.images.shape
    return DatasetInfo(
        classes=dataset.classes,
        shape=(c, h, w),
        fingerprint=fingerprint,
        **{s: tuple(counts[s]) for s in SUBSETS},
    )


def options_of(name: str, options: Options) -> Options:
    """The options of a dataset, those at their default left out. Raises `ConfigError`."""
    return fit_options(DATASETS[name].load if name in DATASETS else resolve(name)[0], options)


@functools.lru_cache(maxsize=2)
def _load(name: str, options: Options) -> tuple[Dataset, str]:
    if name in DATASETS:
        kind = DATASETS[name]
        return kind.load(**dict(options)), kind.info(**dict(options)).fingerprint
    function, source = resolve(name)
    given = function(**dict(fit_options(function, options)))
    dataset = from_mapping(name, given)
    manifest = [
        _hash_arrays(np.asarray(dataset.subset(s).images), dataset.subset(s).labels)
        for s in SUBSETS
    ]
    return dataset, digest([source, dataset.classes, manifest], 16)


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
    return Dataset(classes=classes, **subsets)


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


def _hash_arrays(*arrays: np.ndarray) -> str:
    hasher = hashlib.sha256()
    for array in arrays:
        hasher.update(f"{array.shape}{array.dtype}".encode())
        hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()[:16]


def task_arrays(task: Task, subset: str) -> tuple[np.ndarray, np.ndarray]:
    """Images of a task and their labels, as `tasks.members` chooses them."""
    whole = load(task.dataset).subset(subset)
    indices, labels = members(task, subset, whole.labels)
    assert isinstance(whole.images, np.ndarray)
    return whole.images[indices], labels
