"""The images of a task: normalised, and whole on the device or streamed from where they are stored.

Images that fit are copied to the device whole. Others are streamed. Both give the same batches, bit
for bit.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from trainers import datasets, forms, means
from trainers.canonical import digest
from trainers.config import DatasetRef, Task, TaskForm, Training
from trainers.datasets import SUBSETS, DataError, Dataset, Pixels, load, task_arrays
from trainers.datasets.own import hash_arrays
from trainers.datasets.places import cache
from trainers.datasets.sets import Objects
from trainers.recipe import Recipe
from trainers.streams import InMemory, in_chunks
from trainers.tasks import members
from trainers.views import View

CHUNK = 1024  # images per forward pass without gradients, at most
CHUNK_VALUES = 2**26  # pixel values per such pass, at most
READERS = 4  # threads that read images, at least
CPU_BYTES = 2**30  # of images that are copied to memory whole, at most


class Whole(NamedTuple):
    """One set of a task that is on the device as a whole."""

    images: torch.Tensor
    """(N, C, H, W): uint8, normalised floats, or features of the images."""

    labels: torch.Tensor
    """(N,), int64: indices into the classes of the task."""

    view: View

    chunk: int = CHUNK
    """Images per forward pass of an evaluation."""

    objects: Sequence[Objects] | None = None
    """Objects of each of N images, whose labels are then their numbers; None without boxes."""

    def chunks(self) -> Iterator[torch.Tensor]:
        """Yield the images as evaluations see them, in order and in new memory."""
        return map(self.view.centre, torch.split(self.images, self.chunk))


class Streamed(NamedTuple):
    """One set of a task whose images are read from where they are stored."""

    pixels: Pixels

    members: np.ndarray
    """Indices (N,) into `pixels`."""

    labels: torch.Tensor
    """(N,), int64, on the device: indices into the classes of the task."""

    view: View

    chunk: int = CHUNK
    """Images per forward pass of an evaluation."""

    objects: Sequence[Objects] | None = None
    """Objects of each of N images, whose labels are then their numbers; None without boxes."""


@dataclass(frozen=True)
class TaskData:
    """The three sets of a task: all `Whole` or all `Streamed`."""

    train: Whole | Streamed
    validation: Whole | Streamed
    test: Whole | Streamed

    @property
    def parts(self) -> tuple[Whole | Streamed, ...]:
        """The training, validation and test set."""
        return self.train, self.validation, self.test

    @property
    def view(self) -> View:
        return self.train.view


def task_data(
    training: Training,
    device: torch.device,
    *,
    whole_bytes: int | None = None,
    readers: int = READERS,
    data_root: str | None = None,
    source_root: str | None = None,
) -> TaskData:
    """Return the images of the target task, normalised by the statistics that the recipe names.

    The data of the last four tasks is kept in memory for their other trials. Byte images are copied
    to the device if the three sets together have at most `whole_bytes`, by default
    `default_whole_bytes`; others are streamed by `readers` threads. Float images are always
    copied. `source_root` is the folder of the source's dataset, if it is another one. Raises
    `DataError`, also for a crop that is larger than the images.
    """
    statistics = _statistics(training)
    is_other = statistics is not None and statistics.dataset != training.target.dataset
    reading = _Reading(device, whole_bytes, readers, data_root, source_root if is_other else None)
    return _task_data(training.target, statistics, _PixelRule.of(training.recipe), reading)


def as_seen(
    training: Training,
    images: np.ndarray,
    *,
    data_root: str | None = None,
    source_root: str | None = None,
) -> torch.Tensor:
    """Return images (N, C, H, W) as the trained network sees those of its task, on the CPU.

    They are like those that the dataset stores: bytes, or floats on the same scale. The dataset
    must be on this machine, for its mean and deviation. Raises `DataError`.
    """
    device, rule = torch.device("cpu"), _PixelRule.of(training.recipe)
    target = training.target
    stored = load(target.dataset, data_root).train.images
    kind = stored.dtype.kind if isinstance(stored, np.ndarray) else "u"
    if images.ndim != 4 or images.dtype.kind != kind:
        expected = "floats" if kind == "f" else "bytes (uint8)"
        raise DataError(
            f"the images of {target.dataset.name} are {expected}: expected an array (N, C, H, W) "
            f"of such, found {images.dtype} of shape {images.shape}"
        )
    data = task_data(training, device, data_root=data_root, source_root=source_root)
    values = forms.formed(target.form, images)
    if kind == "f":
        reading = _Reading(device, None, READERS, data_root, source_root)
        mean, deviation = _float_moments(target, _statistics(training), rule, reading)
        values = (values - mean) / np.maximum(deviation, 1e-8)
    if tuple(values.shape[1:]) != tuple(data.view.shape):
        raise DataError(f"expected images {data.view.shape}, found {values.shape[1:]}")
    return data.view.centre(torch.from_numpy(np.ascontiguousarray(values))).to(rule.dtype)


def _statistics(training: Training) -> Task | None:
    """Return the task whose images normalise; None for the whole dataset."""
    choices = {"target": training.target, "source": training.source, "whole": None}
    statistics = choices[training.recipe.normalise]
    if training.recipe.normalise == "source" and statistics is None:
        return training.target  # a base is its own source
    return statistics


def forget() -> None:
    """Drop all images and means that this process keeps in memory; the disk stays as it is."""
    _task_data.cache_clear()
    _moments.cache_clear()
    datasets.forget()


def default_whole_bytes(device: torch.device) -> int:
    """Return the bytes of images that are copied to `device` by default.

    In main memory this is a GiB. On a GPU it is an eighth of the memory, since several tasks are
    kept, and at most half of the free memory.
    """
    if device.type != "cuda":
        return CPU_BYTES
    free, total = torch.cuda.mem_get_info(device)
    return min(total // 8, free // 2)


class _PixelRule(NamedTuple):
    """The part of a recipe that the images depend on."""

    pixels: str
    crop: int | None
    dtype: torch.dtype

    @classmethod
    def of(cls, recipe: Recipe) -> _PixelRule:
        dtype = torch.float64 if recipe.precision == "float64" else torch.float32
        return cls(recipe.pixels, recipe.crop, dtype)


class _Reading(NamedTuple):
    """The place of the images and the way to read them; part of no id."""

    device: torch.device
    whole_bytes: int | None
    readers: int
    data_root: str | None
    source_root: str | None = None
    """Folder of the dataset whose statistics normalise, if that is another dataset."""

    def of_statistics(self, target: Task, statistics: Task | None) -> _Reading:
        """Return the way to read the images whose statistics normalise."""
        if statistics is None or statistics.dataset == target.dataset:
            return self
        return self._replace(data_root=self.source_root)


@functools.lru_cache(maxsize=4)
def _task_data(
    target: Task, statistics: Task | None, rule: _PixelRule, reading: _Reading
) -> TaskData:
    """Return the data of `target`, normalised by `statistics`; None is the whole dataset."""
    dataset = load(target.dataset, reading.data_root)
    h, w = forms.shape_of(target.form, dataset.train.images.shape[1:])[1:]
    if rule.crop is not None and rule.crop > min(h, w):
        raise DataError(f"recipe.crop is {rule.crop}, but the images are {w}×{h}")
    images = dataset.train.images
    if isinstance(images, np.ndarray) and images.dtype.kind == "f":
        return _float_data(target, statistics, rule, reading)
    return _byte_data(dataset, target, statistics, rule, reading)


def _float_data(
    target: Task, statistics: Task | None, rule: _PixelRule, reading: _Reading
) -> TaskData:
    """Return float images, normalised once and whole on the device."""
    mean, deviation = _float_moments(target, statistics, rule, reading)
    return _normalised(target, rule, reading, mean, deviation)


def _float_moments(
    target: Task, statistics: Task | None, rule: _PixelRule, reading: _Reading
) -> tuple[np.ndarray, np.ndarray]:
    """Return what is subtracted from float images, and their divisor."""
    form = target.form
    mean: np.ndarray
    deviation: np.ndarray
    if form.mean:
        _check_scale(target, reading)
        mean, deviation = (np.reshape(x, (1, -1, 1, 1)) for x in (form.mean, form.deviation))
        return mean, deviation
    if statistics is None:
        reference = np.asarray(load(target.dataset, reading.data_root).train.images)
    else:
        root = reading.of_statistics(target, statistics).data_root
        reference = task_arrays(statistics, "train", root)[0]
    reference = forms.formed(form, reference)
    if rule.pixels == "mean_image":
        mean = reference.mean(axis=0, keepdims=True, dtype=np.float64)
        deviation = np.ones(1)
    else:
        mean = reference.mean(axis=(0, 2, 3), keepdims=True, dtype=np.float64)
        deviation = reference.std(axis=(0, 2, 3), keepdims=True, dtype=np.float64)
    return mean, deviation


def _check_scale(target: Task, reading: _Reading) -> None:
    """Raise `DataError` if a range is declared, which holds for bytes only."""
    low, high = target.form.range
    if (low, high) == (0.0, 1.0):
        return
    images = np.asarray(load(target.dataset, reading.data_root).train.images)
    raise DataError(
        f"a range of {low:g} to {high:g} is declared, but the images of {target.dataset.name} are "
        f"floats from {images.min():g} to {images.max():g}: declare mean and deviation on this "
        "scale, without range"
    )


def _normalised(
    target: Task, rule: _PixelRule, reading: _Reading, mean: np.ndarray, deviation: np.ndarray
) -> TaskData:
    """Return float images less the mean, divided by the deviation."""

    def part(subset: str) -> Whole:
        images, labels = task_arrays(target, subset, reading.data_root)
        images = forms.formed(target.form, images)
        values = torch.from_numpy((images - mean) / np.maximum(deviation, 1e-8)).to(rule.dtype)
        values = values.to(reading.device).contiguous(memory_format=torch.channels_last)
        view = View(tuple(values.shape[1:]), rule.dtype, rule.crop)
        return Whole(values, torch.from_numpy(labels).to(reading.device), view, _chunk(view.seen))

    return TaskData(part("train"), part("validation"), part("test"))


def _byte_data(
    dataset: Dataset, target: Task, statistics: Task | None, rule: _PixelRule, reading: _Reading
) -> TaskData:
    """Return byte images, whole on the device or streamed; batches are normalised on the device."""
    stored = {s: forms.Formed.of(target.form, _pixels(dataset.subset(s).images)) for s in SUBSETS}
    chosen = {s: members(target, s, dataset.subset(s).labels) for s in SUBSETS}
    shape = stored["train"].shape[1:]
    size = math.prod(shape) * sum(len(indices) for indices, _ in chosen.values())
    device, limit = reading.device, reading.whole_bytes
    is_whole = size <= (default_whole_bytes(device) if limit is None else limit)
    view = _view(target, statistics, rule, reading)
    if view.shape != shape:
        raise DataError(f"the mean image has size {view.shape}, but the images have {shape}")
    chunk = _chunk(view.seen)

    def part(subset: str) -> Whole | Streamed:
        indices, numbers = chosen[subset]
        objects = dataset.subset(subset).objects
        if objects is not None:
            objects, numbers = [objects[i] for i in indices], np.arange(len(indices))
        labels = torch.from_numpy(numbers).to(device)
        if not is_whole:
            return Streamed(stored[subset], indices, labels, view, chunk, objects)
        images = torch.empty((len(indices), *shape), dtype=torch.uint8, device=device)
        chunks = in_chunks(stored[subset], indices, chunk, device, reading.readers)
        for part_of_images, values in zip(torch.split(images, chunk), chunks, strict=True):
            part_of_images.copy_(values)
        return Whole(images, labels, view, chunk, objects)

    return TaskData(part("train"), part("validation"), part("test"))


def _pixels(images: np.ndarray | Pixels) -> Pixels:
    return InMemory(images) if isinstance(images, np.ndarray) else images


def _chunk(shape: tuple[int, ...]) -> int:
    """Return the images per forward pass of an evaluation, for images of `shape` (C, H, W)."""
    return max(1, min(CHUNK, CHUNK_VALUES // math.prod(shape)))


def _view(target: Task, statistics: Task | None, rule: _PixelRule, reading: _Reading) -> View:
    """Return the view of byte images with the mean of the training images of `statistics`."""
    form, device = target.form, reading.device
    if form.mean:
        stored = load(target.dataset, reading.data_root).train.images.shape[1:]
        declared = forms.moments_of(form)
        mean, deviation = (x.to(rule.dtype).to(device) for x in declared)
        return View(forms.shape_of(form, stored), rule.dtype, rule.crop, mean, deviation)
    ref = target.dataset if statistics is None else statistics.dataset
    moments = _moments(ref, statistics, form, reading.of_statistics(target, statistics))
    shape = tuple(moments.total.shape)
    if rule.pixels == "mean_image":
        mean = moments.mean.to(rule.dtype).to(device)
        return View(shape, rule.dtype, rule.crop, mean)
    mean, deviation = moments.of_channels()
    deviation = deviation.clamp(min=1e-8)
    mean, deviation = (x.to(rule.dtype).to(device) for x in (mean, deviation))
    return View(shape, rule.dtype, rule.crop, mean, deviation)


def _content(dataset: Dataset) -> str:
    """Return a hash of the images that a mean is taken over; known fingerprints do not hold it.

    A pack has its own, because it may leave out corrupt images.
    """
    if dataset.stored:
        return dataset.stored.pack or dataset.stored.files
    images = dataset.train.images
    return hash_arrays(images) if isinstance(images, np.ndarray) else ""


@functools.lru_cache(maxsize=16)
def _moments(
    ref: DatasetRef, task: Task | None, form: TaskForm, reading: _Reading
) -> means.Moments:
    """Return the moments of a task's training images; without a task, of all training images.

    The images are brought to `form` first.

    They are read from the disk if they are there, and otherwise computed and written.
    """
    dataset = load(ref, reading.data_root)
    train = dataset.train
    pixels = forms.Formed.of(form, _pixels(train.images))
    shape = pixels.shape[1:]
    parts = [*shape, _content(dataset), digest(task or ref)]
    name = digest(parts if form == TaskForm() else [*parts, digest(form)], 16)
    path = cache() / "means" / f"{name}.safetensors"
    moments = means.read(path, shape)
    if moments is None:
        if task is None:
            chosen = np.arange(len(train.labels))
        else:
            chosen, _ = members(task, "train", train.labels)
        chunks = in_chunks(pixels, chosen, _chunk(shape), reading.device, reading.readers)
        moments = means.add_up(shape, chunks)
        means.write(path, moments)
    return moments
