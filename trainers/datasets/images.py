"""Images that stay on the disk until they are needed, and the decoding of image files."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from trainers.canonical import require

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST = 4096  # pixels, the longest side that images may be resized to
LARGEST_SCALED = 2**28  # bytes of a scaled image whose middle is kept
# Pillow knows many more; their decoders are rarely used, and some raise what nobody expects.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
HASH_BYTES = 16  # of the SHA-256 of a file


class DataError(Exception):
    """Data that is missing, damaged, or different from the data of the plan."""


class DepthError(DataError):
    """An image whose pixels cannot be brought to 8 bits with certainty."""


class Pixels(Protocol):
    """Images, uint8, that stay where they are stored: in a pack, in files or in memory.

    Several threads may call `gather` at once.
    """

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        ...

    def gather(self, indices: np.ndarray, out: np.ndarray) -> None:
        """Copy the images at `indices` (B,) into `out` (B, C, H, W), uint8.

        Raises `DataError`, which names the file that cannot be read.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Form:
    """The size that all images of a dataset are brought to, and the way to it."""

    size: int = 256
    """Height and width in pixels, 1 to 4096."""

    resize: str = "squash"
    """`squash` changes the aspect ratio, as the paper's `convert -resize 256x256\\!` did.

    `crop` scales the shorter side to `size` and keeps the centre.
    """

    orientation: str = "stored"
    """`exif` turns images as cameras note it in EXIF; `stored` leaves the pixels as they lie."""

    def __post_init__(self) -> None:
        require(1 <= self.size <= LARGEST, "size", f"expected pixels, 1 ≤ x ≤ {LARGEST}")
        require(self.resize in ("squash", "crop"), "resize", "expected squash or crop")
        known = self.orientation in ("exif", "stored")
        require(known, "orientation", "expected exif or stored")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return (3, self.size, self.size)

    @property
    def bytes(self) -> int:
        """Bytes of one image's pixels."""
        return 3 * self.size * self.size


def decode(data: bytes, form: Form) -> np.ndarray:
    """Decode the bytes of an image file to pixels (3, size, size), uint8 RGB.

    Packing and reading from files both decode here, so that their pixels are equal. Raises as
    `open_rgb` does.
    """
    from PIL import Image

    image = open_rgb(data, upright=form.orientation == "exif")
    width, height = image.size
    left = top = 0
    if form.resize == "crop":
        image = _centre(image, form)
        width, height = image.size
        short = min(width, height)
        width, height = (form.size * side // short for side in (width, height))
        left, top = (width - form.size) // 2, (height - form.size) // 2
    else:
        width = height = form.size
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)[top : top + form.size, left : left + form.size]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _centre(image: Image, form: Form) -> Image:
    """Return the middle of an image that would be too large once its shorter side is scaled.

    The middle is wider than the crop, so that the resampling sees the pixels around it.
    """
    short, long = sorted(image.size)
    if form.bytes * long // short <= LARGEST_SCALED:
        return image
    length = 3 * short + 6
    length += (long - length) % 2  # or the middle would move by half a pixel
    start = (long - length) // 2
    along = (0, start, short, start + length)
    return image.crop(along if image.size == (short, long) else (start, 0, start + length, short))


def _turned(image: Image, orientation: int) -> Image:
    """Return an image as its EXIF orientation (1 to 8) wants it shown."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _orientation(image: Image) -> int:
    """Return the EXIF orientation of an opened file; 1, upright, where EXIF is damaged."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # a reader of EXIF raises what it likes; the pixels may be whole
        return 1


def open_rgb(data: bytes, *, upright: bool = False) -> Image:
    """Decode the bytes of an image file to 8 bits of red, green and blue.

    Grey becomes red = green = blue; transparency is dropped. 16 bits of a PNG or PGM, whose range
    their formats fix, are scaled to 8. Of several frames the first one counts. With `upright`, the
    image is turned as its EXIF orientation says. Raises `DataError`
    if the bytes are not a whole image of one of the `FORMATS`, and `DepthError` for other pixels of
    more than 8 bits.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            if file.mode.startswith("I") and file.format in ("PNG", "PPM"):
                values = np.asarray(file).astype(np.int64)
                grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
                return Image.fromarray(grey).convert("RGB")
            if file.mode.startswith(("I", "F")):
                raise DepthError(
                    f"its pixels have more than 8 bits ({file.format}, mode {file.mode}), and "
                    "their range is not known: save it with 8 bits per channel"
                )
            image = file.convert("RGB")
            return _turned(image, _orientation(file)) if upright else image
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"cannot identify image file: expected {', '.join(FORMATS)}") from error
    except Exception as error:  # a decoder raises what it likes at damaged bytes
        raise DataError(str(error) or type(error).__name__) from error


def content_hash(data: bytes) -> bytes:
    """Return the first 16 bytes of the SHA-256 of a file's content."""
    return hashlib.sha256(data).digest()[:HASH_BYTES]


PACK = "`layerwise pack --allow-corrupt` makes a pack without such images"


class Files:
    """Image files (`Pixels`), decoded at each reading.

    `names` are relative to `folder`. `hashes` (N, 16), uint8, are the `content_hash` that each file
    had when the folder was listed: a file that was overwritten since then is an error. `remedy`
    says in messages how to go on without a damaged image.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        hashes: np.ndarray,
        form: Form,
        remedy: str = PACK,
    ):
        self.folder, self.names, self.hashes, self.form = folder, names, hashes, form
        self.remedy = remedy

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.names), *self.form.shape)

    def gather(self, indices: np.ndarray, out: np.ndarray) -> None:
        for row, index in enumerate(indices):
            out[row] = self.pixels(int(index))

    def pixels(self, index: int) -> np.ndarray:
        """Return one image (3, H, W), uint8. Raises `DataError`."""
        path = self.folder / self.names[index]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot read image {path}: {error.strerror}") from error
        if content_hash(data) != self.hashes[index].tobytes():
            raise DataError(
                f"image {path} has changed since its folder was listed: run the command again, so "
                "that its trials get the ids of the new data"
            )
        try:
            return decode(data, self.form)
        except DepthError as error:
            raise DepthError(f"image {path}: {error}") from error
        except DataError as error:
            raise DataError(
                f"image {path} is damaged or not an image: {error}; {self.remedy}"
            ) from error


class Picked:
    """The images (`Pixels`) at `positions` (N,) of other `Pixels`, in that order."""

    def __init__(self, images: Pixels, positions: np.ndarray):
        self.images, self.positions = images, positions

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.positions), *self.images.shape[1:])

    def gather(self, indices: np.ndarray, out: np.ndarray) -> None:
        self.images.gather(self.positions[indices], out)


def first_few(items: Sequence[str], most: int = 3) -> str:
    """Join the first items for a message: `a, b, c and 7 more`."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
