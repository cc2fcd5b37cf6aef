"""A task's images on their way to the network, and their order, a function of (seed, task, epoch).

Images are whole on the device where they fit, and streamed from where they are stored where they do
not; both give the same batches, bit for bit.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from trainers import means, streams
from trainers.config import DatasetRef, Recipe, Task, Training, digest, key
from trainers.datasets import SUBSETS, DataError, Dataset, Pixels, load, task_arrays
from trainers.datasets.places import cache
from trainers.streams import InMemory, Stream, chunk_stream, in_chunks
from trainers.tasks import members
from trainers.views import Augmentation, View

Batch = tuple[torch.Tensor, torch.Tensor]

CHUNK = 1024  # images of one forward pass without gradients, at most
CHUNK_VALUES = 2**26  # and so many pixel values
READERS = 4  # threads that read images, at least
CPU_BYTES = 2**30  # of images that are copied to memory whole


class Whole(NamedTuple):
    """One set of a task on the device: images (N, C, H, W), or features of them, labels (N,)."""

    images: torch.Tensor
    labels: torch.Tensor
    view: View
    chunk: int = CHUNK

    def chunks(self) -> Iterator[torch.Tensor]:
        """The images as a network sees them in evaluations, in memory of their own."""
        return map(self.view.centre, torch.split(self.images, self.chunk))


class Streamed(NamedTuple):
    """One set of a task where it is stored: `members` (N,) of `pixels`; labels on the device."""

    pixels: Pixels
    members: np.ndarray
    labels: torch.Tensor
    view: View
    chunk: int = CHUNK


@dataclass(frozen=True)
class TaskData:
    """The three sets of a task, all of one kind."""

    train: Whole | Streamed
    validation: Whole | Streamed
    test: Whole | Streamed

    @property
    def parts(self) -> tuple[Whole | Streamed, ...]:
        return self.train, self.validation, self.test

    @property
    def view(self) -> View:
        return self.train.view


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


class Batches:
    """The batches of a training by step, and the chunks of its other images.

    Its threads, which only streamed images have, end with `close`.
    """

    def __init__(self, training: Training, data: TaskData, readers: int):
        images, device = len(data.train.labels), data.train.labels.device
        self.data = data
        self.order = BatchOrder(training, images, device)
        self._augmentation = Augmentation(training, data.view, images, device)
        self._all = torch.arange(self.order.batch, device=device)
        self._pool = ThreadPoolExecutor(readers, streams.READERS)
        self._streams: dict[str, Stream] = {}
        for subset in SUBSETS:
            match getattr(data, subset):
                case Streamed() as part if subset == "train":
                    self._streams[subset] = self._ahead(training, part, device)
                case Streamed(pixels, chosen, _, _, chunk):
                    self._streams[subset] = chunk_stream(pixels, chosen, chunk, device, self._pool)

    def _ahead(self, training: Training, part: Streamed, device: torch.device) -> Stream:
        """Training batches, whose order is drawn on the CPU a second time: it is asked earlier."""
        order = BatchOrder(training, len(part.members), torch.device("cpu"))
        assert training.recipe.steps is not None
        return Stream(
            part.pixels,
            lambda step: part.members[order(step).numpy()],
            stop=training.recipe.steps,
            size=order.batch,
            device=device,
            pool=self._pool,
        )

    def __call__(self, step: int) -> Batch:
        """Images and labels of a 0-based step, cropped, mirrored and normalised, on the device."""
        part = self.data.train
        rows = self.order(step)
        places = self._augmentation(step // self.order.per_epoch)
        here = None if places is None else places.of(rows)
        if isinstance(part, Whole):
            images = part.view.training(part.images, rows, here)
        else:
            images = self._streams["train"].take(
                step, lambda pixels: part.view.training(pixels, self._all, here)
            )
        return images, part.labels[rows]

    def chunks(self, subset: str) -> Iterator[torch.Tensor]:
        """The images of a set as the network sees them in evaluations, in their order."""
        part: Whole | Streamed = getattr(self.data, subset)
        if isinstance(part, Whole):
            return part.chunks()
        stream = self._streams[subset]
        return (stream.take(number, part.view.centre) for number in range(stream.stop))

    def waited(self) -> float:
        """Seconds that training steps waited for images since this was asked last."""
        return self._streams["train"].waited() if "train" in self._streams else 0.0

    def close(self) -> None:
        for stream in self._streams.values():
            stream.close()
        self._pool.shutdown(wait=True, cancel_futures=True)


def task_data(
    training: Training,
    device: torch.device,
    *,
    whole_bytes: int | None = None,
    readers: int = READERS,
    data_root: str | None = None,
) -> TaskData:
    """The target's images, normalised as the recipe says; kept for the next trial of the task.

    Byte images of up to `whole_bytes` go to the device whole, the sets together; the default is
    `default_whole_bytes`. Others are streamed. Float images are always whole. Raises `DataError`.
    """
    recipe = training.recipe
    statistics = {"target": training.target, "source": training.source, "whole": None}
    task = statistics[recipe.normalise]
    if recipe.normalise == "source" and task is None:
        task = training.target  # a base is its own source
    reading = _Reading(device, whole_bytes, readers, data_root)
    return _task_data(training.target, task, _Pixels.of(recipe), reading)


def default_whole_bytes(device: torch.device) -> int:
    """A GiB in memory; of a GPU an eighth, since a few tasks are kept, and half of what is free."""
    if device.type != "cuda":
        return CPU_BYTES
    free, total = torch.cuda.mem_get_info(device)
    return min(total // 8, free // 2)


class _Pixels(NamedTuple):
    """The part of a recipe that images depend on."""

    rule: str
    crop: int | None
    dtype: torch.dtype

    @classmethod
    def of(cls, recipe: Recipe) -> _Pixels:
        dtype = torch.float64 if recipe.precision == "float64" else torch.float32
        return cls(recipe.pixels, recipe.crop, dtype)


class _Reading(NamedTuple):
    """How images are read on this machine."""

    device: torch.device
    whole_bytes: int | None
    readers: int
    data_root: str | None


@functools.lru_cache(maxsize=4)
def _task_data(
    target: Task, statistics: Task | None, pixels: _Pixels, reading: _Reading
) -> TaskData:
    dataset = load(target.dataset, reading.data_root)
    h, w = dataset.train.images.shape[2:]
    if pixels.crop is not None and pixels.crop > min(h, w):
        raise DataError(f"recipe.crop is {pixels.crop}, and the images are {w}×{h}")
    images = dataset.train.images
    if isinstance(images, np.ndarray) and images.dtype.kind == "f":
        return _floats(target, statistics, pixels, reading)
    return _bytes(dataset, target, statistics, pixels, reading)


def _floats(target: Task, statistics: Task | None, pixels: _Pixels, reading: _Reading) -> TaskData:
    """Float images, normalised beforehand and whole on the device."""
    if statistics is None:
        reference = np.asarray(load(target.dataset, reading.data_root).train.images)
    else:
        reference = task_arrays(statistics, "train", reading.data_root)[0]
    if pixels.rule == "mean_image":
        mean = reference.mean(axis=0, keepdims=True, dtype=np.float64)
        deviation = np.ones(1)
    else:
        mean = reference.mean(axis=(0, 2, 3), keepdims=True, dtype=np.float64)
        deviation = reference.std(axis=(0, 2, 3), keepdims=True, dtype=np.float64)

    def ready(subset: str) -> Whole:
        images, labels = task_arrays(target, subset, reading.data_root)
        values = torch.from_numpy((images - mean) / np.maximum(deviation, 1e-8)).to(pixels.dtype)
        values = values.to(reading.device).contiguous(memory_format=torch.channels_last)
        view = View(tuple(values.shape[1:]), pixels.dtype, pixels.crop)
        return Whole(values, torch.from_numpy(labels).to(reading.device), view, _chunk(view))

    return TaskData(ready("train"), ready("validation"), ready("test"))


def _bytes(
    dataset: Dataset, target: Task, statistics: Task | None, pixels: _Pixels, reading: _Reading
) -> TaskData:
    """Byte images, normalised batch by batch on the device, whole there or streamed."""
    stored = {s: _stored(dataset.subset(s).images) for s in SUBSETS}
    chosen = {s: members(target, s, dataset.subset(s).labels) for s in SUBSETS}
    shape = stored["train"].shape[1:]
    size = math.prod(shape) * sum(len(indices) for indices, _ in chosen.values())
    device, limit = reading.device, reading.whole_bytes
    is_whole = size <= (default_whole_bytes(device) if limit is None else limit)
    view = _view(target, statistics, pixels, reading)
    if view.shape != shape:
        raise DataError(f"the mean image is of size {view.shape}, and the images are {shape}")
    chunk = _chunk(view)

    def ready(subset: str) -> Whole | Streamed:
        indices, numbers = chosen[subset]
        labels = torch.from_numpy(numbers).to(device)
        if not is_whole:
            return Streamed(stored[subset], indices, labels, view, chunk)
        whole = torch.empty((len(indices), *shape), dtype=torch.uint8, device=device)
        parts = in_chunks(stored[subset], indices, chunk, device, reading.readers)
        for part, images in zip(torch.split(whole, chunk), parts, strict=True):
            part.copy_(images)
        return Whole(whole, labels, view, chunk)

    return TaskData(ready("train"), ready("validation"), ready("test"))


def _stored(images: np.ndarray | Pixels) -> Pixels:
    return InMemory(images) if isinstance(images, np.ndarray) else images


def _chunk(view: View) -> int:
    return max(1, min(CHUNK, CHUNK_VALUES // math.prod(view.seen)))


def _view(target: Task, statistics: Task | None, pixels: _Pixels, reading: _Reading) -> View:
    """How byte images are seen: by the moments of the training images of `statistics`."""
    ref = target.dataset if statistics is None else statistics.dataset
    moments = _moments(ref, statistics, reading)
    device, shape = reading.device, tuple(moments.total.shape)
    if pixels.rule == "mean_image":
        mean = moments.mean.to(pixels.dtype).to(device)
        return View(shape, pixels.dtype, pixels.crop, mean)
    mean, deviation = moments.of_channels()
    deviation = deviation.clamp(min=1e-8)
    mean, deviation = (x.to(pixels.dtype).to(device) for x in (mean, deviation))
    return View(shape, pixels.dtype, pixels.crop, mean, deviation)


@functools.lru_cache(maxsize=16)
def _moments(ref: DatasetRef, task: Task | None, reading: _Reading) -> means.Moments:
    """Of a task's training images, or of all of the dataset's; from the disk if they are there."""
    dataset = load(ref, reading.data_root)
    train = dataset.train
    stored = _stored(train.images)
    shape = stored.shape[1:]
    pack = dataset.stored.pack if dataset.stored else ""  # which may leave corrupt images out
    name = digest([*shape, pack, digest(task or ref)], 16)
    moments = means.kept(str(cache()), name, shape)
    if moments is None:
        if task is None:
            chosen = np.arange(len(train.labels))
        else:
            chosen, _ = members(task, "train", train.labels)
        chunk = max(1, min(CHUNK, CHUNK_VALUES // math.prod(shape)))
        chunks = in_chunks(stored, chosen, chunk, reading.device, reading.readers)
        moments = means.add_up(shape, chunks)
        means.keep(str(cache()), name, moments)
    return moments
