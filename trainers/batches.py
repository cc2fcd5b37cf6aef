"""The batches of a training; their order is a function of (seed, task, epoch)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from trainers import streams
from trainers.canonical import digest, key
from trainers.config import Training
from trainers.datasets import SUBSETS
from trainers.streams import Stream, chunk_stream
from trainers.task_data import Streamed, TaskData, Whole
from trainers.views import Augmentation

Batch = tuple[torch.Tensor, torch.Tensor]

OF_STAGES = 10**10  # epochs of the first stage that sees some of the images count from here


class BatchOrder:
    """The training images of each step: each epoch is a permutation, cut into whole batches.

    The rest of an epoch, which does not fill a batch, is dropped. A stage that sees some of the
    images has epochs of its own, over these.
    """

    def __init__(self, training: Training, labels: torch.Tensor, device: torch.device):
        self.images = len(labels)
        self.batch = min(training.recipe.batch, self.images)
        self.device = device
        self._key = (training.seed, digest(training.target))
        self._epoch = -1
        self._order = torch.empty(0)
        # First step, end, and images of each stage that does not see all images.
        self._limited: list[tuple[int, int, torch.Tensor]] = []
        done = 0.0
        for stage in training.stages:
            first, done = _step(training, done), done + stage.fraction
            if stage.images_per_class is not None:
                rows = first_of_each(labels, stage.images_per_class)
                self._limited.append((first, _step(training, done), rows))

    @property
    def is_limited(self) -> bool:
        """True if a stage sees some of the images only."""
        return bool(self._limited)

    def __call__(self, step: int) -> torch.Tensor:
        """Return the indices (B,) into the training images of a 0-based step."""
        epoch, position, rows = self._place(step)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(key("batches", *self._key, epoch))
            if rows is None:
                order = torch.randperm(self.images, generator=generator)
            else:
                order = rows[torch.randperm(len(rows), generator=generator)]
            self._order, self._epoch = order.to(self.device), epoch
        return self._order[position * self.batch : (position + 1) * self.batch]

    def epoch(self, step: int) -> int:
        """Return the number of a step's epoch. Stages that see some of the images count apart."""
        return self._place(step)[0]

    def _place(self, step: int) -> tuple[int, int, torch.Tensor | None]:
        """Return a step's epoch, its place in the epoch, and the images, if they are not all."""
        for number, (first, end, rows) in enumerate(self._limited, start=1):
            if first <= step < end:
                epoch, position = divmod(step - first, len(rows) // self.batch)
                return number * OF_STAGES + epoch, position, rows
        return *divmod(step, self.images // self.batch), None


def _step(training: Training, fraction: float) -> int:
    assert training.recipe.steps is not None
    return round(fraction * training.recipe.steps)


def first_of_each(labels: torch.Tensor, limit: int) -> torch.Tensor:
    """Return the indices of the first `limit` images of each label, in order."""
    labels = labels.cpu()
    rows = [torch.nonzero(labels == label)[:limit, 0] for label in sorted(set(labels.tolist()))]
    return torch.cat(rows).sort().values


class Batches:
    """The training batches by step, and the chunks of the other sets.

    Streamed images are read by threads, which end with `close`.
    """

    def __init__(self, training: Training, data: TaskData, readers: int):
        images, device = len(data.train.labels), data.train.labels.device
        self.data = data
        self._task = digest(training.target)
        self.order = BatchOrder(training, data.train.labels, device)
        self._augmentation = Augmentation(training, data.view, images, device)
        self._all = torch.arange(self.order.batch, device=device)
        recipe, images_at = training.recipe, getattr(data.train, "images", data)
        stages = [(stage.fraction, stage.images_per_class) for stage in training.stages]
        self.key = (
            *(id(images_at), training.seed, self._task, recipe.batch, recipe.crop, recipe.mirror),
            *((recipe.steps, *stages) if self.order.is_limited else ()),
        )
        """Equal for batches that have the same images, in the same order and the same crops."""
        self._pool = ThreadPoolExecutor(readers, streams.READERS)
        self._streams: dict[str, Stream] = {}
        for subset in SUBSETS:
            match getattr(data, subset):
                case Streamed() as part if subset == "train":
                    self._streams[subset] = self._training_stream(training, part, device)
                case Streamed(pixels, chosen, _, _, chunk, _):
                    self._streams[subset] = chunk_stream(pixels, chosen, chunk, device, self._pool)

    def _training_stream(self, training: Training, part: Streamed, device: torch.device) -> Stream:
        """Return the stream of training batches.

        It reads ahead of the training, so that it has its own order, drawn on the CPU.
        """
        order = BatchOrder(training, part.labels, torch.device("cpu"))
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
        """Return the images (B, C, H, W) and labels (B,) of a 0-based step, on the device.

        The images are cropped, mirrored and normalised.
        """
        part = self.data.train
        rows = self.order(step)
        of_epoch = self._augmentation(self.order.epoch(step))
        crops = None if of_epoch is None else of_epoch.of(rows)
        if isinstance(part, Whole):
            images = part.view.training(part.images, rows, crops)
        else:
            images = self._streams["train"].take(
                step, lambda pixels: part.view.training(pixels, self._all, crops)
            )
        return images, part.labels[rows]

    def mirrored(self, step: int) -> torch.Tensor | None:
        """Return which images (B,) of a 0-based step are mirrored; None if none is ever."""
        of_epoch = self._augmentation(self.order.epoch(step))
        return None if of_epoch is None else of_epoch.of(self.order(step)).mirrored

    def chunks(self, subset: str) -> Iterator[torch.Tensor]:
        """Yield the images of a set as evaluations see them, in order."""
        part: Whole | Streamed = getattr(self.data, subset)
        if isinstance(part, Whole):
            return part.chunks()
        stream = self._streams[subset]
        return (stream.take(number, part.view.centre) for number in range(stream.stop))

    def training_sample(self, most: int) -> tuple[torch.Tensor, Iterator[torch.Tensor]]:
        """Return labels (N,) and chunks of at most `most` training images, as evaluations see them.

        If there are more, they are drawn by a key of the task, so that all its networks are scored
        on the same ones. Exhaust the chunks before the next step.
        """
        part = self.data.train
        images = len(part.labels)
        rows = torch.arange(images)
        if images > most:
            generator = torch.Generator().manual_seed(key("training sample", self._task))
            rows = torch.randperm(images, generator=generator)[:most].sort().values
        return part.labels[rows.to(part.labels.device)], chunks_at(part, rows, self._pool)

    def waited(self) -> float:
        """Return the seconds that training steps waited for images since the last call."""
        return self._streams["train"].waited() if "train" in self._streams else 0.0

    def close(self) -> None:
        """End the threads."""
        for stream in self._streams.values():
            stream.close()
        self._pool.shutdown(wait=True, cancel_futures=True)


def chunks_at(
    part: Whole | Streamed, rows: torch.Tensor, readers: ThreadPoolExecutor
) -> Iterator[torch.Tensor]:
    """Yield the images of a set at `rows` (N,), on the CPU, as evaluations see them, in chunks."""
    device = part.labels.device
    if isinstance(part, Whole):
        for some in torch.split(rows.to(device), part.chunk):
            yield part.view.centre(part.images[some])
        return
    chosen = part.members[rows.numpy()]
    stream = chunk_stream(part.pixels, chosen, part.chunk, device, readers)
    try:
        for number in range(stream.stop):
            yield stream.take(number, part.view.centre)
    finally:
        stream.close()
