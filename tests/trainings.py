"""Small trainings on digits, and a network with normalisation, for the tests of `trainers`."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import numpy as np
from torch import nn
from torchvision.models.resnet import BasicBlock

from trainers.canonical import freeze_options
from trainers.config import DatasetInfo, DatasetRef, NetworkRef, Task, Training, Treatment
from trainers.datasets import DataError, Dataset, Subset
from trainers.datasets.digits import DIGITS_HASH
from trainers.loop import train
from trainers.recipe import Recipe, Schedule
from trainers.results import Evaluation, Failure, Result, Runtime, Snapshot

SIZES = {"train": 8, "renderings": 2, "validation": 6, "test": 10}
DIGITS = DatasetRef(name="digits", options=freeze_options(SIZES), fingerprint=DIGITS_HASH)
TASKS = {
    "A": Task(dataset=DIGITS, classes=(0, 1, 3, 7, 8)),
    "B": Task(dataset=DIGITS, classes=(2, 4, 5, 6, 9)),
}
SMALL = NetworkRef(  # two convolutions and three fully connected layers
    name="conv8", options=freeze_options({"conv": [4, 8], "pool": [1, 2], "fc": [12, 8]})
)
BATCH_NORM = NetworkRef(name="tests.trainings:batch_norm")
RESIDUAL = NetworkRef(name="tests.trainings:residual")
GROUP_NORM = NetworkRef(name="tests.trainings:residual", options=(("groups", 2),))
RECIPE = {
    "rate": 0.05,
    "schedule": Schedule(family="cosine", warmup=0.1),
    "weight_decay": 5e-4,
    "batch": 16,
    "steps": 20,
    "evaluate_every": 6,
}

Row = Evaluation | Snapshot | Result | Failure


def batch_norm(*, classes: int, shape: tuple[int, int, int], width: int = 4) -> list[nn.Module]:
    """Return two convolutions with batch normalisation, and a linear layer."""
    return [
        nn.Sequential(nn.Conv2d(shape[0], width, 3), nn.BatchNorm2d(width), nn.ReLU()),
        nn.Sequential(nn.Conv2d(width, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten()),
        nn.Linear(width * (shape[1] - 4) * (shape[2] - 4), classes),
    ]


def residual(
    *, classes: int, shape: tuple[int, int, int], width: int = 4, groups: int = 0
) -> list[nn.Module]:
    """Return a convolution, two residual blocks, two linear layers, and one for the classes.

    Channels are normalised over the batch, or in `groups`.
    """

    def norm(channels: int) -> nn.Module:
        return nn.GroupNorm(groups, channels) if groups else nn.BatchNorm2d(channels)

    wide = 2 * width
    down = nn.Sequential(nn.Conv2d(width, wide, 1, stride=2, bias=False), norm(wide))
    first = nn.Conv2d(shape[0], width, 3, padding=1, bias=False)
    return [
        nn.Sequential(first, norm(width), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        BasicBlock(width, width, norm_layer=norm),
        BasicBlock(width, wide, stride=2, downsample=down, norm_layer=norm),
        nn.Sequential(
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            *(nn.Linear(wide, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(inplace=True)),
        ),
        nn.Linear(16, classes),
    ]


def training(
    kind: str = "base",
    n: int = 0,
    *,
    target: str = "B",
    fine_tuned: bool = False,
    seed: int = 0,
    network: NetworkRef = SMALL,
    **recipe: Any,
) -> Training:
    """Return a training on a half of the digits; `recipe` changes RECIPE."""
    other = "AB".replace(target, "")
    own, across = ("selffer", "stitched_self"), ("transfer", "stitched")
    source = (dict.fromkeys(own, target) | dict.fromkeys(across, other)).get(kind)
    ids = {
        half: training(target=half, seed=seed, network=network, **recipe).id
        for half in (source, target if kind.startswith("stitched") else None)
        if half is not None
    }
    return Training(
        target=TASKS[target],
        source=TASKS[source] if source else None,
        network=network,
        treatment=Treatment(kind=kind, n=n, fine_tuned=fine_tuned),  # type: ignore[arg-type]
        recipe=Recipe(**RECIPE | recipe),
        seed=seed,
        parent=ids.get(source or ""),
        upper=ids[target] if kind.startswith("stitched") else None,
    )


def rows(
    training: Training, parent: bytes | None = None, upper: bytes | None = None, **runtime: Any
) -> list[Row]:
    """Return all rows of a training."""
    return list(train(training, parent=parent, upper=upper, runtime=Runtime(**runtime)))


def result(
    training: Training, parent: bytes | None = None, upper: bytes | None = None, **runtime: Any
) -> Result:
    """Return the result of a training, which must not fail."""
    runtime.setdefault("feature_disk_bytes", 0)
    last = rows(training, parent, upper, **runtime)[-1]
    assert isinstance(last, Result), last
    return last


def points(curve: tuple[Evaluation, ...]) -> list[tuple[Any, ...]]:
    """Return a curve without its wall times."""
    return [(p.step, p.images, p.rate, p.train_loss, p.val_loss, p.val_top1) for p in curve]


class Photos:
    """Byte images that only `gather` returns; image `broken` cannot be read."""

    def __init__(self, images: np.ndarray, broken: int | None = None):
        self.images, self.broken = images, broken
        n, c, h, w = images.shape
        self.shape = (n, c, h, w)
        self.readers: set[str] = set()

    def gather(self, indices: np.ndarray, out: np.ndarray) -> None:
        self.readers.add(threading.current_thread().name)
        if self.broken in indices:
            raise DataError(f"image {self.broken} cannot be read")
        out[:] = self.images[indices]


def photos(
    *, side: int = 14, stored: bool = True, broken: int | None = None, train: int = 40
) -> Dataset:
    """Return a dataset of random colours: four classes whose means differ, as bytes."""
    subsets = {}
    for number, (name, count) in enumerate((("train", train), ("validation", 24), ("test", 28))):
        random = np.random.RandomState([7, number])
        labels = np.arange(count) % 4
        bright = labels[:, None, None, None] * 40
        images = (random.randint(0, 100, (count, 3, side, side)) + bright).astype(np.uint8)
        unreadable = broken if name == "train" else None
        pixels = Photos(images, unreadable) if stored else images
        subsets[name] = Subset(pixels, labels.astype(np.int64))
    return Dataset(("a", "b", "c", "d"), *subsets.values(), fingerprint="photos")


def photos_info(**options: Any) -> DatasetInfo:
    """Return the facts about `photos` that planning needs."""
    side, train = options.get("side", 14), options.get("train", 40)
    return DatasetInfo(
        classes=("a", "b", "c", "d"),
        shape=(3, side, side),
        train=(train // 4,) * 4,
        validation=(6,) * 4,
        test=(7,) * 4,
        fingerprint="photos",
    )


def photo_training(kind: str = "base", n: int = 0, *, target: str = "B", **recipe: Any) -> Training:
    """Return a training on a half of `photos`, whose options are `recipe["photos"]`."""
    options = freeze_options(recipe.pop("photos", {}))
    dataset = DatasetRef(name="photos", options=options, fingerprint="photos")
    tasks = {half: Task(dataset=dataset, classes=c) for half, c in (("A", (0, 2)), ("B", (1, 3)))}
    one = training(kind, n, target=target, **{"batch": 6} | recipe)
    source = "AB"[[TASKS["A"], TASKS["B"]].index(one.source)] if one.source else None
    return dataclasses.replace(
        one, target=tasks[target], source=tasks[source] if source else None, parent=None
    )
