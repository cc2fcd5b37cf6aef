"""scikit-learn's handwritten digits, placed at random on a larger canvas with noise.

https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html, a copy of the
test set of https://archive.ics.uci.edu/dataset/80: 1,797 images of 8×8 pixels.
"""

from __future__ import annotations

import gzip
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainers.canonical import require, require_ranges
from trainers.config import DatasetInfo
from trainers.datasets.images import DataError
from trainers.datasets.own import hash_arrays
from trainers.datasets.sets import SUBSETS, Dataset, Subset

# `hash_arrays` of the pixels and labels in scikit-learn's file.
DIGITS_HASH = "192c099834f8e7cd"
# The images of each class.
DIGITS_IMAGES = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)


@dataclass(frozen=True, kw_only=True)
class DigitsOptions:
    """Options of `digits`. Raises `ConfigError` for one that is out of range."""

    canvas: int = 12
    """Height and width of the images in pixels, 8 to 256."""

    noise: float = 0.15
    """Standard deviation of the Gaussian noise; ink is 1, paper 0."""

    renderings: int = 4
    """Images per training original, 1 to 1000, each with its own place and noise. Originals of the
    other sets are rendered once."""

    train: int = 40
    """Originals per class for training. The three numbers together are at most 174, the originals
    of the smallest class."""

    validation: int = 40
    """Originals per class for validation."""

    test: int = 94
    """Originals per class for test."""

    seed: int = 0
    """Seed of the division, the places and the noise, 0 to 2^32 - 1."""

    def __post_init__(self) -> None:
        smallest = min(DIGITS_IMAGES)
        require_ranges(
            self,
            canvas=(8, 256),
            noise=(0, 100),
            renderings=(1, 1000),
            train=(1, smallest),
            validation=(1, smallest),
            test=(1, smallest),
            seed=(0, 2**32 - 1),
        )
        images = self.train + self.validation + self.test
        require(
            images <= smallest,
            "train",
            f"train + validation + test is {images} images per class; "
            f"expected at most {smallest}, the images of the smallest class",
        )


def digits(options: DigitsOptions) -> Dataset:
    """Return renderings of scikit-learn's digits: each original at a random place under noise.

    Images are (1, canvas, canvas), float32, 0..1 before the noise. The originals are divided into
    the three sets before any rendering, so that no original is in two sets. Raises `DataError` if
    scikit-learn or its digits are missing or have changed.
    """
    canvas, noise, seed = options.canvas, options.noise, options.seed
    originals, labels = _digits_file()
    actual = hash_arrays(originals.astype(np.uint8), labels.astype(np.int64))
    if actual != DIGITS_HASH:
        raise DataError(
            f"scikit-learn's digits have changed: expected hash {DIGITS_HASH}, found {actual}; "
            "install a scikit-learn that ships the UCI test set of 1,797 images"
        )
    pixels = originals.reshape(-1, 8, 8).astype(np.float32) / 16
    order = np.random.RandomState([seed, 0]).permutation(len(labels))
    subsets, start = {}, dict.fromkeys(range(10), 0)
    for number, name in enumerate(SUBSETS, start=1):
        count = getattr(options, name)
        chosen = []
        for label in range(10):
            members = order[labels[order] == label]
            chosen.append(members[start[label] : start[label] + count])
            start[label] += count
        copies = options.renderings if name == "train" else 1
        picked = np.repeat(np.concatenate(chosen), copies)
        random = np.random.RandomState([seed, number])
        corners = random.randint(0, canvas - 8 + 1, size=(len(picked), 2))
        images = (noise * random.standard_normal((len(picked), 1, canvas, canvas))).astype(
            np.float32
        )
        for image, (top, left), original in zip(images, corners, picked, strict=True):
            image[0, top : top + 8, left : left + 8] += pixels[original]
        subsets[name] = Subset(images, labels[picked].astype(np.int64))
    three = (subsets[name] for name in SUBSETS)
    return Dataset(tuple("0123456789"), *three, fingerprint=DIGITS_HASH)


def _digits_file() -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (1797, 64), 0..16, and labels (1797,) from scikit-learn's file.

    `sklearn.datasets.load_digits` reads the same file, but its import takes a second per worker.
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


def digits_info(options: DigitsOptions) -> DatasetInfo:
    """Return the facts that planning needs, without scikit-learn."""
    return DatasetInfo(
        classes=tuple("0123456789"),
        shape=(1, options.canvas, options.canvas),
        train=(options.train * options.renderings,) * 10,
        validation=(options.validation,) * 10,
        test=(options.test,) * 10,
        fingerprint=DIGITS_HASH,
    )
