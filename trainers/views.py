"""The view of a network on stored images: cropped, normalised, and in training perhaps mirrored.

Crops and mirrors are a function of (seed, task, epoch, index). They are drawn on the CPU for all
images of an epoch at once, so that they are equal on every device, for images on the device and for
streamed ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from trainers.canonical import digest, key
from trainers.config import Training


@dataclass(frozen=True, eq=False)
class View:
    """Turns stored images into the input of a network, on the device of the images."""

    shape: tuple[int, ...]
    """(C, H, W) of a stored image."""

    dtype: torch.dtype
    """The type of the input."""

    crop: int | None = None
    """Height and width of the input in pixels; None takes the whole image."""

    mean: torch.Tensor | None = None
    """(C, 1, 1) or (C, H, W); subtracted at the pixels of the crop. None: already normalised."""

    deviation: torch.Tensor | None = None
    """(C, 1, 1); a divisor. None: no division."""

    @property
    def seen(self) -> tuple[int, ...]:
        """(C, H, W) of one image of the input."""
        return self.shape if self.crop is None else (self.shape[0], self.crop, self.crop)

    def centre(self, images: torch.Tensor) -> torch.Tensor:
        """Return the centre crops of images (B, C, H, W), normalised, in new memory."""
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
        self, images: torch.Tensor, rows: torch.Tensor, crops: Crops | None
    ) -> torch.Tensor:
        """Return the `images` (N, C, H, W) at `rows` (B,) as training sees them, in new memory.

        `crops` has one crop per row; without crops the whole images are taken.
        """
        if crops is None:
            pixels = images[rows]
            return pixels if self.mean is None else self._normalised(pixels, self.mean)
        mean = self.mean
        if self.crop is None:
            pixels = images[rows]
        else:
            pixels = _windows(images, self.crop)[rows, :, crops.tops, crops.lefts]
            if mean is not None and mean.shape[1:] == self.shape[1:]:
                only = torch.zeros_like(rows)
                mean = _windows(mean[None], self.crop)[only, :, crops.tops, crops.lefts]
        if mean is not None:
            pixels = self._normalised(pixels, mean)
        pixels = torch.where(crops.mirrored[:, None, None, None], pixels.flip(3), pixels)
        return pixels.contiguous(memory_format=torch.channels_last)

    def _normalised(self, pixels: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
        values = pixels.to(self.dtype, memory_format=torch.channels_last, copy=True).sub_(mean)
        return values if self.deviation is None else values.div_(self.deviation)


def _windows(images: torch.Tensor, side: int) -> torch.Tensor:
    """Return every square of `side` of images (N, C, H, W): a view (N, C, tops, lefts, …)."""
    return images.unfold(2, side, 1).unfold(3, side, 1)


class Crops(NamedTuple):
    """The offsets of crops and the choice of mirrored images: (B,) each."""

    tops: torch.Tensor
    lefts: torch.Tensor
    mirrored: torch.Tensor

    def of(self, rows: torch.Tensor) -> Crops:
        """Return the crops of the images at `rows`."""
        return Crops(*(values[rows] for values in self))


class Augmentation:
    """The crops of all training images in an epoch; None if the recipe neither crops nor mirrors.

    Offsets are uniform over 0..side − crop − 1, as in Caffe, where `rand() % (256 - 227)` never
    gives 29 (data_layer.cpp). The largest possible offset is drawn only if it is the only one.
    """

    def __init__(self, training: Training, view: View, images: int, device: torch.device):
        self.view, self.images, self.device = view, images, device
        self.mirror = training.recipe.mirror
        self._key = (training.seed, digest(training.target))
        self._epoch = -1
        self._crops: Crops | None = None

    def __call__(self, epoch: int) -> Crops | None:
        """Return the crops (N,) of a 0-based epoch."""
        crop = self.view.crop
        if crop is None and not self.mirror:
            return None
        if epoch != self._epoch:
            tops = lefts = torch.zeros(self.images, dtype=torch.int64)
            if crop is not None:
                offsets = torch.Generator().manual_seed(key("crops", *self._key, epoch))
                tops, lefts = (
                    torch.randint(max(1, side - crop), (self.images,), generator=offsets)
                    for side in self.view.shape[1:]
                )
            mirrored = torch.zeros(self.images, dtype=torch.bool)
            if self.mirror:
                mirrors = torch.Generator().manual_seed(key("mirrors", *self._key, epoch))
                mirrored = torch.randint(2, (self.images,), generator=mirrors) == 1
            self._crops = Crops(*(x.to(self.device) for x in (tops, lefts, mirrored)))
            self._epoch = epoch
        return self._crops
