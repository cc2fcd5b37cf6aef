"""What a network sees of stored images: a crop, normalised, and in training perhaps mirrored.

Offsets and mirrors are a function of (seed, task, epoch, index): drawn on the CPU for all images of
an epoch at once, so equal on every device, and the same for a whole set there as for a stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from trainers.config import Training, digest, key


@dataclass(frozen=True, eq=False)
class View:
    """Images as stored, `shape` (C, H, W), turned into what the network sees, on their device.

    A `mean` (C, 1, 1) or (C, H, W) is subtracted, at the crop's own pixels; a `deviation` (C, 1, 1)
    divides. Without a mean the images are ready as they are stored.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    crop: int | None = None
    mean: torch.Tensor | None = None
    deviation: torch.Tensor | None = None

    @property
    def seen(self) -> tuple[int, ...]:
        """The shape of one image as the network sees it."""
        return self.shape if self.crop is None else (self.shape[0], self.crop, self.crop)

    def centre(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, C, H, W) at the crop in the middle, in memory of their own."""
        mean = self.mean
        if self.crop is not None:
            _, height, width = self.shape
            top, left = (height - self.crop) // 2, (width - self.crop) // 2
            rows, columns = slice(top, top + self.crop), slice(left, left + self.crop)
            images = images[:, :, rows, columns]
            if mean is not None and mean.shape[1:] == self.shape[1:]:
                mean = mean[:, rows, columns]
        return self._normalised(images, mean) if mean is not None else images.clone()

    def training(
        self, images: torch.Tensor, rows: torch.Tensor, places: Places | None
    ) -> torch.Tensor:
        """Those of `images` at `rows` (B,), in memory of their own; `places` are of these rows."""
        if places is None:
            pixels = images[rows]
            return pixels if self.mean is None else self._normalised(pixels, self.mean)
        mean = self.mean
        if self.crop is None:
            pixels = images[rows]
        else:
            pixels = _windows(images, self.crop)[rows, :, places.tops, places.lefts]
            if mean is not None and mean.shape[1:] == self.shape[1:]:
                only = torch.zeros_like(rows)
                mean = _windows(mean[None], self.crop)[only, :, places.tops, places.lefts]
        if mean is not None:
            pixels = self._normalised(pixels, mean)
        pixels = torch.where(places.mirrored[:, None, None, None], pixels.flip(3), pixels)
        return pixels.contiguous(memory_format=torch.channels_last)

    def _normalised(self, pixels: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        values = pixels.to(self.dtype, memory_format=torch.channels_last, copy=True).sub_(mean)
        return values if self.deviation is None else values.div_(self.deviation)


def _windows(images: torch.Tensor, side: int) -> torch.Tensor:
    """Every square of `side` of images (N, C, H, W), without copying: (N, C, tops, lefts, …)."""
    return images.unfold(2, side, 1).unfold(3, side, 1)


class Places(NamedTuple):
    """Where each of several images is cropped, and whether it is mirrored: (B,) each."""

    tops: torch.Tensor
    lefts: torch.Tensor
    mirrored: torch.Tensor

    def of(self, rows: torch.Tensor) -> Places:
        return Places(*(values[rows] for values in self))


class Augmentation:
    """The places of all training images in an epoch, or None where the recipe asks for none.

    Offsets are uniform over 0..side − crop − 1, as Caffe's are, whose `rand() % (256 - 227)` never
    gives 29 (data_layer.cpp); the last possible one is never drawn unless it is the only one.
    """

    def __init__(self, training: Training, view: View, images: int, device: torch.device):
        self.view, self.images, self.device = view, images, device
        self.mirror = training.recipe.mirror
        self._key = (training.seed, digest(training.target))
        self._epoch = -1
        self._places: Places | None = None

    def __call__(self, epoch: int) -> Places | None:
        crop = self.view.crop
        if crop is None and not self.mirror:
            return None
        if epoch != self._epoch:
            tops = lefts = torch.zeros(self.images, dtype=torch.int64)
            if crop is not None:
                crops = torch.Generator().manual_seed(key("crops", *self._key, epoch))
                tops, lefts = (
                    torch.randint(max(1, side - crop), (self.images,), generator=crops)
                    for side in self.view.shape[1:]
                )
            mirrored = torch.zeros(self.images, dtype=torch.bool)
            if self.mirror:
                mirrors = torch.Generator().manual_seed(key("mirrors", *self._key, epoch))
                mirrored = torch.randint(2, (self.images,), generator=mirrors) == 1
            self._places = Places(*(x.to(self.device) for x in (tops, lefts, mirrored)))
            self._epoch = epoch
        return self._places
