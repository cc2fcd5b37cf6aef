"""Images of one dataset in the form in which networks see them: size, channels, scale.

The two tasks of a transfer may come from datasets of other sizes and channels. A `TaskForm` brings
both to one form. Byte images stay bytes, so that they can be streamed as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from trainers.canonical import ConfigError
from trainers.config import TaskForm
from trainers.datasets import Pixels

Shape = tuple[int, ...]
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
WHITE = 255


def shape_of(form: TaskForm, stored: Shape) -> Shape:
    """Return the shape (C, H, W) of stored images in a form.

    Raises `ConfigError` with the wrong field if the form needs a rule, or does not fit the images.
    """
    channels, height, width = stored
    wanted, size = form.channels or channels, form.size
    if wanted != channels:
        rules = {(1, 3): "grey_to_colour", (3, 1): "colour_to_grey"}
        rule = rules.get((channels, wanted))
        if rule is None:
            message = f"no rule makes {wanted} channels of {channels}: expected images with 1 or 3"
            raise ConfigError("channels", message)
        if getattr(form, rule) is None:
            kinds = {1: "grey", 3: "colour"}
            choices = {"grey_to_colour": "repeat", "colour_to_grey": "luma or mean"}[rule]
            message = (
                f"the images are {kinds[channels]} and the networks see {kinds[wanted]}: "
                f"give the rule {rule}: {choices}"
            )
            raise ConfigError("channels", message)
    if size is None:
        size_of = height, width
    else:
        size_of = size, size
        if form.fit == "crop" and size > min(height, width):
            message = f"crop cuts {size}×{size} out of images of {width}×{height}: use cover or pad"
            raise ConfigError("size", message)
        if form.fit == "pad" and size < max(height, width):
            message = f"pad puts images of {width}×{height} into {size}×{size}: use cover or crop"
            raise ConfigError("size", message)
    if form.mean and len(form.mean) != wanted:
        raise ConfigError("mean", f"expected {wanted}, one per channel, found {len(form.mean)}")
    return (wanted, *size_of)


def moments_of(form: TaskForm) -> tuple[torch.Tensor, torch.Tensor]:
    """Return declared mean and deviation of byte images, (C, 1, 1) each, on the scale 0..255."""
    low, high = form.range
    unit = (high - low) / WHITE
    mean = [(value - low) / unit for value in form.mean]
    deviation = [value / unit for value in form.deviation]
    first, second = (torch.tensor(x, dtype=torch.float64).view(-1, 1, 1) for x in (mean, deviation))
    return first, second


def formed(form: TaskForm, images: np.ndarray) -> np.ndarray:
    """Return images (N, C, H, W) in a form, of the same type; bytes are rounded."""
    shape = shape_of(form, images.shape[1:])
    if shape == images.shape[1:]:
        return images
    values = torch.from_numpy(np.ascontiguousarray(images))
    values = values.to(torch.float64 if images.dtype == np.float64 else torch.float32)
    values = _resized(form, _channels(form, values))
    if images.dtype == np.uint8:
        values = values.round_().clamp_(0, WHITE).to(torch.uint8)
    array: np.ndarray = values.numpy().astype(images.dtype, copy=False)
    return array


class Formed:
    """Byte images (`Pixels`) in a form: each is brought to it as it is read."""

    def __init__(self, form: TaskForm, pixels: Pixels):
        self.form, self.pixels = form, pixels
        c, h, w = shape_of(form, pixels.shape[1:])
        self.shape = (pixels.shape[0], c, h, w)

    @classmethod
    def of(cls, form: TaskForm, pixels: Pixels) -> Pixels:
        """Return the images in a form; `pixels` themselves if they have it."""
        if shape_of(form, pixels.shape[1:]) == pixels.shape[1:]:
            return pixels
        return cls(form, pixels)

    def gather(self, indices: np.ndarray, out: np.ndarray) -> None:
        stored = np.empty((len(indices), *self.pixels.shape[1:]), np.uint8)
        self.pixels.gather(indices, stored)
        out[:] = formed(self.form, stored)


def _channels(form: TaskForm, images: torch.Tensor) -> torch.Tensor:
    """Return images (N, C, H, W) with the channels of a form."""
    channels = images.shape[1]
    if form.channels in (None, channels):
        return images
    if channels == 1:
        return images.repeat(1, 3, 1, 1)
    weights: Any = LUMA if form.colour_to_grey == "luma" else (1 / 3, 1 / 3, 1 / 3)
    factors = torch.tensor(weights, dtype=images.dtype).view(1, 3, 1, 1)
    return (images * factors).sum(1, keepdim=True)


def _resized(form: TaskForm, images: torch.Tensor) -> torch.Tensor:
    """Return images (N, C, H, W) in the size of a form."""
    size, (height, width) = form.size, images.shape[2:]
    if size is None:
        return images
    if form.fit == "pad":
        top, left = (size - height) // 2, (size - width) // 2
        return F.pad(images, (left, size - width - left, top, size - height - top))
    if form.fit in ("squash", "cover"):
        goal = (size, size)
        if form.fit == "cover":
            scale = size / min(height, width)
            goal = (max(size, round(height * scale)), max(size, round(width * scale)))
        if goal != (height, width):
            images = F.interpolate(
                images, goal, mode="bilinear", align_corners=False, antialias=True
            )
        height, width = goal
    top, left = (height - size) // 2, (width - size) // 2
    return images[:, :, top : top + size, left : left + size]
