"""Images that are left where they are until they are asked for, and how files are decoded."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from trainers.config import require

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
            raise DataError(
                f"image {path} is damaged or no image: {error}; "
                "`layerwise pack --allow-corrupt` makes a pack without such images"
            ) from error


class Picked:
    """Some of the images of other `Pixels`, in a given order."""

    def __init__(self, images: Pixels, positions: np.ndarray):
        self.images, self.positions = images, positions

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.positions), *self.images.shape[1:])

    def gather(self, indices: np.ndarray, out: np.ndarray) -> None:
        self.images.gather(self.positions[indices], out)


def some(items: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 7 more`."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
