"""Mean images and the deviation of each channel: one pass over the images, kept on the disk.

Sums are integers, so a mean does not depend on the division of the images into chunks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from trainers import checkpoint, whole_file
from trainers.datasets import DataError


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the pixels of a number of images."""

    images: int
    """The number of images."""

    total: torch.Tensor
    """The sum of the images (C, H, W), int64."""

    squares: torch.Tensor
    """The sum of squares of each channel (C,), int64."""

    @property
    def mean(self) -> torch.Tensor:
        """Mean image (C, H, W), float64, 0..255."""
        return self.total.double() / self.images

    def of_channels(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation of each channel, (C, 1, 1), float64, 0..255."""
        channels, height, width = self.total.shape
        values = self.images * height * width
        sums, squares = self.total.sum((1, 2)).tolist(), self.squares.tolist()
        variances = [(q * values - s * s) / values**2 for s, q in zip(sums, squares, strict=True)]
        mean = torch.tensor([s / values for s in sums], dtype=torch.float64)
        deviation = torch.tensor(variances, dtype=torch.float64).sqrt()
        return mean.view(channels, 1, 1), deviation.view(channels, 1, 1)


def add_up(shape: tuple[int, ...], chunks: Iterable[torch.Tensor]) -> Moments:
    """Return the moments of chunks (B, C, H, W), uint8; `shape` is (C, H, W).

    The sums are made on the device of the chunks; the result is on the CPU.
    """
    images = 0
    total, squares = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape[0], dtype=torch.int64)
    for chunk in chunks:
        images += len(chunk)
        total = total.to(chunk.device) + chunk.sum(0, dtype=torch.int64)
        square = chunk.to(torch.int32).square_()
        squares = squares.to(chunk.device) + square.sum((0, 2, 3), dtype=torch.int64)
    return Moments(images, total.cpu(), squares.cpu())


def read(path: Path, shape: tuple[int, ...]) -> Moments | None:
    """Return the moments in a file that `write` wrote; None if there is no such file.

    Raises `DataError` for a damaged file and for images of another shape than `shape`, (C, H, W).
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"cannot read mean image {path}: {error}") from error

    def unusable(reason: str) -> DataError:
        return DataError(
            f"mean image {path}: {reason}; delete the file, and it is computed again from the "
            "images"
        )

    try:
        tensors, meta = checkpoint.unpack(data)
        moments = Moments(int(meta["images"]), tensors["total"], tensors["squares"])
        if meta["hash"] != _hash(tensors):
            raise unusable("its hash has changed")
    except (checkpoint.CheckpointError, KeyError, TypeError, ValueError) as error:
        raise unusable(f"it is damaged ({error})") from error
    if tuple(moments.total.shape) != tuple(shape):
        raise unusable(f"expected size {tuple(shape)}, found {tuple(moments.total.shape)}")
    return moments


def write(path: Path, moments: Moments) -> None:
    """Write moments to a file, unless its folder is read-only. Raises `OSError`.

    Without the file each process computes the moments once.
    """
    if not os.access(next(p for p in path.parents if p.exists()), os.W_OK):
        return
    tensors = {"total": moments.total, "squares": moments.squares}
    data = checkpoint.pack(tensors, {"images": moments.images, "hash": _hash(tensors)})
    whole_file.write(path, data)


def _hash(tensors: dict[str, torch.Tensor]) -> str:
    return checkpoint.checksum(checkpoint.pack(tensors, {}))
