"""What a dataset consists of: three sets of labelled images, and what is held out of training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainers.config import ConfigError, require
from trainers.datasets.images import Form, Picked, Pixels

SUBSETS = ("train", "validation", "test")


@dataclass(frozen=True)
class Subset:
    """Images (N, C, H, W), float32, uint8 or `Pixels`; and class indices (N,), int64."""

    images: np.ndarray | Pixels
    labels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """Three sets of images, the names of the classes, and a hash of what is in it.

    The sets are disjoint, unless a dataset was told to hold nothing out of training for validation.
    `stored` is what they were divided from, where they are read from files or from a pack.
    """

    classes: tuple[str, ...]
    train: Subset
    validation: Subset
    test: Subset
    fingerprint: str = field(default="", kw_only=True)
    stored: Stored | None = field(default=None, kw_only=True)

    def subset(self, name: str) -> Subset:
        subset: Subset = getattr(self, name)
        return subset


@dataclass(frozen=True)
class Labelled:
    """All images of one set as they are stored, with their names and class indices, in order."""

    images: np.ndarray | Pixels
    names: Sequence[str]
    labels: np.ndarray

    def whole(self) -> Subset:
        return Subset(self.images, self.labels)

    def at(self, positions: np.ndarray) -> Subset:
        """A part of the images as a `Subset`."""
        if isinstance(self.images, np.ndarray):
            return Subset(self.images[positions], self.labels[positions])
        return Subset(Picked(self.images, positions), self.labels[positions])


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The images of a dataset as they are on disk: `train`, and `val` or `test` or both.

    `fingerprint` is the dataset's, `files` a hash of the files' names and sizes, `pack` the hash of
    the pack that the images are read from, empty where there is none.
    """

    folder: Path
    form: Form
    classes: tuple[str, ...]
    sets: Mapping[str, Labelled]
    fingerprint: str
    files: str
    pack: str = ""


def divide(
    classes: tuple[str, ...], sets: Mapping[str, Labelled], held_out: int | None
) -> tuple[Subset, Subset, Subset]:
    """Training, validation and test images from what is on disk: `train`, and `val` or `test`.

    Where both are there, they are the validation and the test set. Where one is, it is the test
    set, and the validation images are held out of training: `held_out` of each class, or a tenth.
    With 0 the test set is the validation set too, as in the paper.
    """
    require(held_out is None or held_out >= 0, "held_out", "expected x ≥ 0")
    train = sets["train"]
    if "val" in sets and "test" in sets:
        require(held_out is None, "held_out", "the data has validation and test images of its own")
        return train.whole(), sets["val"].whole(), sets["test"].whole()
    test = next(sets[name] for name in ("val", "test") if name in sets).whole()
    if held_out == 0:
        return train.whole(), test, test
    counts = np.bincount(train.labels, minlength=len(classes))
    each = np.maximum(1, counts // 10) if held_out is None else np.full(len(classes), held_out)
    few = np.flatnonzero(counts <= each)
    if len(few):
        name, count = classes[few[0]], int(counts[few[0]])
        raise ConfigError(
            "held_out",
            f"holding out {each[few[0]]} images a class for validation leaves {len(few)} classes "
            f"without training images: {name} has {count}; expected less",
        )
    held = chosen(train.names, train.labels, each)
    return train.at(np.flatnonzero(~held)), train.at(np.flatnonzero(held)), test


def chosen(names: Sequence[str], labels: np.ndarray, each: np.ndarray) -> np.ndarray:
    """Which images (N,) are held out: of each class the `each[class]` whose file names hash lowest.

    So neither order nor other classes matter, and one image more changes at most one choice.
    """
    files = (name.split("/", 1)[-1] for name in names)  # without the class's folder
    digests = b"".join(hashlib.sha256(file.encode()).digest()[:8] for file in files)
    order = np.lexsort((np.frombuffer(digests, ">u8"), labels))
    first = np.searchsorted(labels[order], np.arange(len(each)))
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - first[labels[order]]
    held: np.ndarray = rank < each[labels]
    return held
