"""Datasets: three sets of labelled images, and the choice of validation images."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainers.canonical import ConfigError, require
from trainers.datasets.decoded import DecodedOnce
from trainers.datasets.images import DataError, Files, Form, Picked, Pixels, first_few

SUBSETS = ("train", "validation", "test")
WHOLE_NUMBER = r"[0-9]{1,9}"  # as the name of a class


@dataclass(frozen=True)
class Objects:
    """Objects of one image, in their stored order."""

    boxes: np.ndarray
    """Left, top, right and bottom edge in pixels of the image as networks see it: (K, 4)."""

    labels: np.ndarray
    """Class indices (K,), int64."""

    difficult: np.ndarray
    """True for objects that neither training nor scores count: (K,), bool."""


@dataclass(frozen=True)
class Subset:
    """One set of labelled images."""

    images: np.ndarray | Pixels
    """(N, C, H, W): an array, float32 or uint8 (0 to 255), or `Pixels`."""

    labels: np.ndarray
    """Class indices (N,), int64."""

    hashes: np.ndarray | None = None
    """A hash of the content of each image (N, 16), uint8; None if contents are not compared."""

    objects: Sequence[Objects] | None = None
    """Objects of each of N images; None for images that have labels only."""


@dataclass(frozen=True)
class Dataset:
    """Three sets of labelled images.

    The sets are disjoint, except with `held_out: 0`: then the test set is also the validation set.
    Published datasets are taken as they are; in others `shared_images` finds equal images.
    """

    classes: tuple[str, ...]
    """The names of the classes; a label is an index into them."""

    train: Subset
    validation: Subset
    test: Subset

    fingerprint: str = field(default="", kw_only=True)
    """A hash of the data: of pixels, of file names and contents, or of published checksums."""

    notes: tuple[str, ...] = field(default=(), kw_only=True)
    """Sentences on the data that a user should read."""

    opened: tuple[str, ...] = field(default=(), kw_only=True)
    """Paths, as given, of the files that a user's function opened."""

    stored: Stored | None = field(default=None, kw_only=True)
    """The files or the pack that the sets were made from; None for data without image files."""

    def subset(self, name: str) -> Subset:
        """Return the set `train`, `validation` or `test`."""
        subset: Subset = getattr(self, name)
        return subset


def check_classes(name: str, dataset: Dataset) -> None:
    """Raise `DataError` if one of the sets has no image of a class."""
    for subset in SUBSETS:
        labels = dataset.subset(subset).labels
        counts = np.bincount(labels, minlength=len(dataset.classes))
        if absent := [dataset.classes[index] for index in np.flatnonzero(counts == 0)]:
            hint = "; labels count from 0" if counts[0] == 0 else ""
            raise DataError(
                f"dataset {name}: no {subset} images of {len(absent)} of its {len(counts)} classes "
                f"({first_few(absent)}): every class needs images in all three sets{hint}"
            )


@dataclass(frozen=True)
class Shared:
    """Images of equal content in two sets."""

    sets: tuple[str, str]

    images: int
    """The number of different contents that both sets have."""

    example: tuple[int, int]
    """The index of one such image in each set."""


def shared_images(dataset: Dataset) -> list[Shared]:
    """Return the pairs of different sets that have images of equal content."""
    shared = []
    subsets = {name: dataset.subset(name) for name in SUBSETS}
    if dataset.validation is dataset.test:
        del subsets["validation"]
    for (one, first), (other, second) in itertools.combinations(subsets.items(), 2):
        if first.hashes is None or second.hashes is None:
            continue
        keys = _keys(first.hashes), _keys(second.hashes)
        _, here, there = np.intersect1d(keys[0], keys[1], return_indices=True)
        if len(here):
            shared.append(Shared((one, other), len(here), (int(here[0]), int(there[0]))))
    return shared


def _keys(hashes: np.ndarray) -> np.ndarray:
    """Return hashes (N, 16), uint8, as N values that can be compared."""
    keys: np.ndarray = np.ascontiguousarray(hashes).view("V16")[:, 0]
    return keys


def refuse_shared(name: str, dataset: Dataset, allowed: bool) -> Dataset:
    """Return the dataset, with a note if its sets share images and that is `allowed`.

    Raises `DataError` if they do and it is not.
    """
    if not (shared := shared_images(dataset)):
        return dataset

    equal = "; ".join(
        f"{item.images:,} images of {' and '.join(item.sets)} are equal, such as "
        f"{' and '.join(_equal_images(dataset, item))}"
        for item in shared
    )
    if not allowed:
        raise DataError(
            f"dataset {name}: {equal}; remove them from one of the sets, or allow them with "
            "shared_images: true, and the report will say so"
        )
    note = f"dataset {name}: {equal}; shared_images allows it"
    return dataclasses.replace(dataset, notes=(*dataset.notes, note))


def _equal_images(dataset: Dataset, shared: Shared) -> tuple[str, str]:
    """Return two equal images: the names of their files, or their set and index."""
    contents = dataset.subset(shared.sets[0]).hashes
    assert contents is not None
    files = [
        f"{name}/{labelled.names[int(index)]}"
        for name, labelled in (dataset.stored.sets if dataset.stored else {}).items()
        if labelled.hashes is not None
        for index in np.flatnonzero((labelled.hashes == contents[shared.example[0]]).all(axis=1))
    ]
    if not files:
        files = [f"{s}[{i}]" for s, i in zip(shared.sets, shared.example, strict=True)]
    return files[0], files[-1]


def whole_numbers(classes: Sequence[str]) -> tuple[int, ...] | None:
    """Return the different whole numbers that all names of classes are; None if one is not."""
    if not all(re.fullmatch(WHOLE_NUMBER, name) for name in classes):
        return None
    numbers = tuple(map(int, classes))
    return numbers if len(set(numbers)) == len(numbers) else None


@dataclass(frozen=True)
class Labelled:
    """All images of one stored set, in their stored order."""

    images: np.ndarray | Pixels
    """(N, C, H, W), uint8."""

    names: Sequence[str]
    """N file names, `class/file`, or N numbers where images have no names."""

    labels: np.ndarray
    """Class indices (N,), int64."""

    hashes: np.ndarray | None = None
    """A hash of the content of each image (N, 16), uint8; packs of old versions have none."""

    objects: Sequence[Objects] | None = None
    """Objects of each of N images; None for images that have labels only."""

    def all(self) -> Subset:
        """Return all images."""
        return Subset(self.images, self.labels, self.hashes, self.objects)

    def at(self, positions: np.ndarray) -> Subset:
        """Return the images at `positions` (M,)."""
        hashes = None if self.hashes is None else self.hashes[positions]
        objects = None if self.objects is None else [self.objects[i] for i in positions]
        if isinstance(self.images, np.ndarray):
            return Subset(self.images[positions], self.labels[positions], hashes, objects)
        return Subset(Picked(self.images, positions), self.labels[positions], hashes, objects)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The images of a dataset as they are on the disk."""

    folder: Path
    """The folder of the image files or of the pack."""

    form: Form
    classes: tuple[str, ...]

    sets: Mapping[str, Labelled]
    """`train`, and `val` or `test` or both."""

    fingerprint: str
    """The fingerprint of the dataset."""

    files: str
    """A hash of the names and contents of the image files."""

    notes: tuple[str, ...] = ()
    """Sentences on the files that a user should read."""

    pack: str = ""
    """The hash of the pack that the images are read from; empty if they are read from files."""


def divide(
    classes: tuple[str, ...], sets: Mapping[str, Labelled], held_out: int | None
) -> tuple[Subset, Subset, Subset]:
    """Return the training, validation and test set of the stored sets.

    `sets` has `train`, and `val` or `test` or both. With both, they are the validation and the test
    set. With one, it is the test set, and validation images are held out of the training images:
    `held_out` per class, by default a tenth of each class and at least one image. With
    `held_out` 0 the test set is also the validation set, as in the paper.

    Raises `ConfigError` for `held_out` if it is negative, leaves a class without training images,
    or is given although the data has a validation set.
    """
    require(held_out is None or held_out >= 0, "held_out", "expected x ≥ 0")
    sets = {name: _decoded_once(labelled) for name, labelled in sets.items()}
    train = sets["train"]
    if "val" in sets and "test" in sets:
        message = "the data has its own validation images; expected none"
        require(held_out is None, "held_out", message)
        return train.all(), sets["val"].all(), sets["test"].all()
    test = next(sets[name] for name in ("val", "test") if name in sets).all()
    if held_out == 0:
        return train.all(), test, test
    counts = np.bincount(train.labels, minlength=len(classes))
    per_class = np.maximum(1, counts // 10) if held_out is None else np.full(len(classes), held_out)
    too_small = np.flatnonzero(counts <= per_class)
    if len(too_small):
        first = too_small[0]
        raise ConfigError(
            "held_out",
            f"holding out {per_class[first]} images per class for validation leaves "
            f"{len(too_small)} classes without training images: {classes[first]} has "
            f"{counts[first]}; expected less",
        )
    mask = held_out_mask(train.names, train.labels, per_class)
    return train.at(np.flatnonzero(~mask)), train.at(np.flatnonzero(mask)), test


def _decoded_once(labelled: Labelled) -> Labelled:
    """Return a set whose image files the processes of this node decode once between them."""
    if not isinstance(labelled.images, Files):
        return labelled
    return dataclasses.replace(labelled, images=DecodedOnce(labelled.images))


def held_out_mask(names: Sequence[str], labels: np.ndarray, per_class: np.ndarray) -> np.ndarray:
    """Return the mask (N,), bool, of the images that are held out of training.

    Of each class these are the `per_class[class]` images whose file names have the lowest SHA-256.
    So the choice depends neither on the order of the images nor on other classes, and one image
    more changes at most one choice. `names` and `labels` (N,) describe the images; `per_class` has
    one number per class.
    """
    files = (name.split("/", 1)[-1] for name in names)  # without the folder of the class
    digests = b"".join(hashlib.sha256(file.encode()).digest()[:8] for file in files)
    order = np.lexsort((np.frombuffer(digests, ">u8"), labels))
    first = np.searchsorted(labels[order], np.arange(len(per_class)))
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - first[labels[order]]
    mask: np.ndarray = rank < per_class[labels]
    return mask
