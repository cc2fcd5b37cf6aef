"""A task's images on the device, and the order of batches as a function of (seed, task, epoch)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from trainers.config import Recipe, Task, Training, digest, key
from trainers.datasets import load, task_arrays

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class TaskData:
    """Normalised images (N, C, H, W), channels last, and labels (N,), whole on the device."""

    train: Batch
    validation: Batch
    test: Batch


class BatchOrder:
    """The images of each step: epochs are permutations, in whole batches, the rest dropped."""

    def __init__(self, training: Training, images: int, device: torch.device):
        self.batch = min(training.recipe.batch, images)
        self.per_epoch = images // self.batch
        self.images = images
        self.device = device
        self._key = (training.seed, digest(training.target))
        self._epoch = -1
        self._order = torch.empty(0)

    def __call__(self, step: int) -> torch.Tensor:
        """Indices (batch,) into the training images, for a 0-based step."""
        epoch, position = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(key("batches", *self._key, epoch))
            self._order = torch.randperm(self.images, generator=generator).to(self.device)
            self._epoch = epoch
        return self._order[position * self.batch : (position + 1) * self.batch]


def task_data(training: Training, device: torch.device) -> TaskData:
    """The target's images, normalised as the recipe says; kept for the next trial of the task."""
    recipe = training.recipe
    statistics = {"target": training.target, "source": training.source, "whole": None}
    task = statistics[recipe.normalise]
    if recipe.normalise == "source" and task is None:
        task = training.target  # a base is its own source
    return _task_data(training.target, task, _dtype(recipe), device)


def _dtype(recipe: Recipe) -> torch.dtype:
    return torch.float64 if recipe.precision == "float64" else torch.float32


@functools.lru_cache(maxsize=4)
def _task_data(
    target: Task, statistics: Task | None, dtype: torch.dtype, device: torch.device
) -> TaskData:
    if statistics is None:
        reference = load(target.dataset).train.images
    else:
        reference = task_arrays(statistics, "train")[0]
    mean = reference.mean(axis=(0, 2, 3), keepdims=True, dtype=np.float64)
    deviation = reference.std(axis=(0, 2, 3), keepdims=True, dtype=np.float64)

    def ready(subset: str) -> Batch:
        images, labels = task_arrays(target, subset)
        pixels = torch.from_numpy((images - mean) / np.maximum(deviation, 1e-8)).to(dtype)
        pixels = pixels.to(device).contiguous(memory_format=torch.channels_last)
        return pixels, torch.from_numpy(labels).to(device)

    return TaskData(ready("train"), ready("validation"), ready("test"))
