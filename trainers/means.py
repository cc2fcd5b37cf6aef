"""The mean image of a task and each channel's deviation: one pass over its images, kept on disk.

Sums are integers, so the pixels of a mean do not depend on how the images were divided.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainers import checkpoint
from trainers.datasets import DataError

FOLDER = "means"  # of what is kept since it can be made again


@dataclass(frozen=True, eq=False)
class Moments:
    """Of `images` byte images: sum (C, H, W) and each channel's sum of squares (C,), int64."""

    images: int
    total: torch.Tensor
    squares: torch.Tensor

    @property
    def mean(self) -> torch.Tensor:
        """The mean image (C, H, W), float64, 0..255."""
        return self.total.double() / self.images

    def of_channels(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of each channel (C, 1, 1), float64, 0..255."""
        channels, height, width = self.total.shape
        values = self.images * height * width
        sums, squares = self.total.sum((1, 2)).tolist(), self.squares.tolist()
        variances = [(q * values - s * s) / values**2 for s, q in zip(sums, squares, strict=True)]
        mean = torch.tensor([s / values for s in sums], dtype=torch.float64)
        deviation = torch.tensor(variances, dtype=torch.float64).sqrt()
        return mean.view(channels, 1, 1), deviation.view(channels, 1, 1)


def add_up(shape: tuple[int, ...], chunks: Iterable[torch.Tensor]) -> Moments:
    """The moments of chunks (B, C, H, W), uint8, added up where they are; the result on the CPU."""
    images = 0
    total, squares = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape[0], dtype=torch.int64)
    for chunk in chunks:
        images += len(chunk)
        total = total.to(chunk.device) + chunk.sum(0, dtype=torch.int64)
        square = chunk.to(torch.int32).square_()
        squares = squares.to(chunk.device) + square.sum((0, 2, 3), dtype=torch.int64)
    return Moments(images, total.cpu(), squares.cpu())


def kept(root: str | None, name: str, shape: tuple[int, ...]) -> Moments | None:
    """The moments that `keep` wrote under `name`, if it did. Raises `DataError` for a bad file."""
    if root is None:
        return None
    path = _path(root, name)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"cannot read mean image {path}: {error}") from error

    def wrong(found: Any) -> DataError:
        return DataError(
            f"mean image {path}: {found}; delete the file, and it is computed again from the images"
        )

    try:
        tensors, meta = checkpoint.unpack(data)
        moments = Moments(int(meta["images"]), tensors["total"], tensors["squares"])
        if meta["hash"] != _hash(tensors):
            raise wrong("its hash is not what was written")
    except (checkpoint.CheckpointError, KeyError, TypeError, ValueError) as error:
        raise wrong(f"it is damaged ({error})") from error
    if tuple(moments.total.shape) != tuple(shape):
        raise wrong(f"expected size {tuple(shape)}, found {tuple(moments.total.shape)}")
    return moments


def keep(root: str | None, name: str, moments: Moments) -> None:
    """Write moments for `kept` to find, beside first and then renamed.

    Data is often read-only: who may not write there computes the mean once for each process.
    """
    if root is None:
        return
    path = _path(root, name)
    tensors = {"total": moments.total, "squares": moments.squares}
    data = checkpoint.pack(tensors, {"images": moments.images, "hash": _hash(tensors)})
    if not os.access(next(p for p in path.parents if p.exists()), os.W_OK):
        return
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def _path(root: str, name: str) -> Path:
    return Path(root).expanduser() / FOLDER / f"{name}.safetensors"


def _hash(tensors: dict[str, torch.Tensor]) -> str:
    return checkpoint.checksum(checkpoint.pack(tensors, {}))
