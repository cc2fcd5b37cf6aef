"""What a dataset consists of: three sets of labelled images, in memory or left where they are."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from trainers.config import ConfigError, require

SUBSETS = ("train", "validation", "test")
LARGEST = 4096  # pixels of a side that images may be resized to


class DataError(Exception):
    """The data is missing, damaged or not what the plan was made with."""


class Pixels(Protocol):
    """Images that stay where they are, in a pack or in a folder of files; always uint8.

    `gather` may be called by several threads at once.
    """

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        ...

    def gather(self, indices: np.ndarray, out: np.ndarray) -> None:
        """Copy the images at `indices` into `out` (len(indices), C, H, W), uint8.

        Raises `DataError` naming the file that cannot be read.
        """
        ...


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


@dataclass(frozen=True, kw_only=True)
class Form:
    """The one size that images are brought to, and how.

    `squash` gives up the aspect ratio, as the paper's `convert -resize 256x256\\!` did; `crop`
    brings the shorter side to `size` and keeps the centre.
    """

    size: int = 256
    resize: str = "squash"

    def __post_init__(self) -> None:
        require(1 <= self.size <= LARGEST, "size", f"expected pixels, 1 ≤ x ≤ {LARGEST}")
        require(self.resize in ("squash", "crop"), "resize", "expected squash or crop")

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, self.size, self.size)

    @property
    def bytes(self) -> int:
        """Of one image's pixels."""
        return 3 * self.size * self.size


def decode(data: bytes, form: Form) -> np.ndarray:
    """The pixels (3, size, size), uint8 RGB, of an image file's bytes.

    Packing and reading from files both come here, so that their pixels are equal. Raises
    `DataError` for what is not a whole image.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as file:
            image = file.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(str(error) or type(error).__name__) from error
    width, height = image.size
    left = top = 0
    if form.resize == "crop":
        short = min(width, height)
        width, height = (form.size * side // short for side in (width, height))
        left, top = (width - form.size) // 2, (height - form.size) // 2
    else:
        width = height = form.size
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)[top : top + form.size, left : left + form.size]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


class Files:
    """Image files (`Pixels`), decoded each time that they are asked for.

    `sizes` are the bytes that each file had when the folder was listed: one that was overwritten
    since then is an error and not another image.
    """

    def __init__(self, folder: Path, names: Sequence[str], sizes: np.ndarray, form: Form):
        self.folder, self.names, self.sizes, self.form = folder, names, sizes, form

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.names), *self.form.shape)

    def gather(self, indices: np.ndarray, out: np.ndarray) -> None:
        for row, index in enumerate(indices):
            out[row] = self.pixels(int(index))

    def pixels(self, index: int) -> np.ndarray:
        """One image (3, H, W). Raises `DataError`."""
        path = self.folder / self.names[index]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot read image {path}: {error.strerror}") from error
        if len(data) != self.sizes[index]:
            raise DataError(
                f"image {path} has {len(data)} bytes, and had {self.sizes[index]} when its folder "
                "was listed: the data has changed; touch its folder and plan again"
            )
        try:
            return decode(data, self.form)
        except DataError as error:
            raise DataError(f"image {path} is damaged or no image: {error}") from error


class Picked:
    """Some of the images of other `Pixels`, in a given order."""

    def __init__(self, images: Pixels, positions: np.ndarray):
        self.images, self.positions = images, positions

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.positions), *self.images.shape[1:])

    def gather(self, indices: np.ndarray, out: np.ndarray) -> None:
        self.images.gather(self.positions[indices], out)


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

    `pack` is the hash of the pack that they are read from, empty where there is none.
    """

    folder: Path
    form: Form
    classes: tuple[str, ...]
    sets: Mapping[str, Labelled]
    fingerprint: str
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


def some(items: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 7 more`."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
