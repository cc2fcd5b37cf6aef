"""Images per second that reach the device: from a pack, from files, and by a torch DataLoader.

    python -m benchmarks.input [--images 1024] [--batch 64] [--repeat 3] [--workers CORES]

All give the same batches of float images: random crops of 227 from 256, mirrored, less the
mean image. The benchmark draws the JPEGs, about 500×400 like those of ImageNet. Then it trains
CaffeNet from the pack, and measures the share of its time that it waits for images.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.device import synchronise
from trainers.batches import Batches
from trainers.canonical import freeze_options
from trainers.config import DatasetRef, NetworkRef, Task, Training, Treatment
from trainers.datasets import load
from trainers.datasets.decoded import DecodedOnce
from trainers.datasets.pack_writer import pack
from trainers.datasets.sets import Stored
from trainers.learner import Learner
from trainers.recipe import Recipe
from trainers.task_data import Streamed, TaskData, task_data

CLASSES = 4
SIDE, CROP = 256, 227
PACKED, ONCE, UNPACKED = "packed", "decoded once", "unpacked"
LOADER = "torch DataLoader"


@dataclass(frozen=True, kw_only=True)
class Size:
    """Size of the measurement. `shrink` divides the widths of the trained network."""

    images: int
    batch: int
    repeat: int
    workers: int
    steps: int
    shrink: int = 1


# The images -------------------------------------------------------------------------------------


def draw(folder: Path, images: int) -> None:
    """Draw `images` training JPEGs and a test JPEG per class, in bytes about as ImageNet's."""
    sets = (("train", images // CLASSES), ("val", 1))
    for seed, (subset, count) in enumerate(sets):
        for label in range(CLASSES):
            (folder / subset / f"class{label}").mkdir(parents=True)
            for index in range(count):
                path = folder / subset / f"class{label}" / f"{index:05d}.jpg"
                photo(np.random.RandomState([seed, label, index])).save(path, "JPEG", quality=90)


def photo(random: np.random.RandomState) -> Any:
    """Draw soft shapes under grain, 400 to 600 pixels wide and 300 to 500 high."""
    from PIL import Image

    width, height = int(random.randint(400, 601)), int(random.randint(300, 501))
    coarse = random.randint(0, 256, (height // 16, width // 16, 3)).astype(np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    grain = random.normal(0, 8, (height, width, 1))
    return Image.fromarray(np.clip(soft + grain, 0, 255).astype(np.uint8))


def training(folder: Path, size: Size) -> Training:
    """Return a training of CaffeNet by the paper's recipe, on these images."""
    dataset = _reference(load(_reference(""), str(folder)).fingerprint)
    shrink = {"shrink": size.shrink} if size.shrink > 1 else {}
    return Training(
        target=Task(dataset=dataset, classes=tuple(range(CLASSES))),
        network=NetworkRef(name="caffenet", options=freeze_options(shrink)),
        treatment=Treatment(kind="base"),
        recipe=Recipe(
            optimiser="caffe_sgd",
            rate=1e-4,
            batch=size.batch,
            steps=10**6,
            init="network",
            crop=CROP,
            mirror=True,
            pixels="mean_image",
        ),
    )


def _reference(fingerprint: str) -> DatasetRef:
    options = freeze_options({"size": SIDE, "held_out": 0})
    return DatasetRef(name="image_folder", options=options, fingerprint=fingerprint)


def packed_beside(folder: Path, images: Stored, size: Size) -> Path:
    """Make a second folder with the same images and their pack."""
    other = folder.with_name("packed")
    other.mkdir()
    for subset in ("train", "val"):
        (other / subset).symlink_to(folder / subset)
    began = time.perf_counter()
    pack(images, other / "packs", workers=size.workers)
    seconds = time.perf_counter() - began
    print(f"packed {size.images + CLASSES} images in {seconds:.1f} s, once for all trainings")
    return other


def decoded_each_time(data: TaskData) -> TaskData:
    """Return data whose image files are decoded at each reading, as on a disk without room."""
    parts = []
    for part in data.parts:
        assert isinstance(part, Streamed)
        assert isinstance(part.pixels, DecodedOnce)
        parts.append(part._replace(pixels=part.pixels.files))
    return TaskData(*parts)


# Ways to the device: each yields batches --------------------------------------------------------


def streamed(one: Training, data: TaskData, size: Size) -> Iterator[torch.Tensor]:
    """Yield this program's batches, from a pack or from files."""
    with contextlib.closing(Batches(one, data, size.workers)) as batches:
        for step in range(10**6):
            yield batches(step)[0]


def loaded(folder: Path, mean: torch.Tensor, size: Size) -> Iterator[torch.Tensor]:
    """Yield batches as most people do: `ImageFolder`, transforms and a `DataLoader`."""
    from torch.utils.data import DataLoader
    from torchvision import datasets
    from torchvision.transforms import v2

    device = mean.device
    transform = v2.Compose(
        [
            v2.Resize((SIDE, SIDE)),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32),
            v2.Lambda(lambda image: image - mean.cpu()),
            v2.RandomCrop(CROP),
            v2.RandomHorizontalFlip(),
        ]
    )
    loader = DataLoader(
        datasets.ImageFolder(str(folder / "train"), transform),
        batch_size=size.batch,
        shuffle=True,
        drop_last=True,
        num_workers=size.workers,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )
    while True:
        for images, _ in loader:
            yield images.to(device, non_blocking=True)


def rate(batches: Iterator[torch.Tensor], size: Size, device: torch.device) -> float:
    """Return images per second over one epoch, after an epoch to warm up."""
    batches_per_epoch = size.images // size.batch
    for _ in range(batches_per_epoch):
        next(batches)
    synchronise(device)
    began = time.perf_counter()
    for _ in range(batches_per_epoch):
        next(batches)
    synchronise(device)
    return batches_per_epoch * size.batch / (time.perf_counter() - began)


def share_of_wait(one: Training, data: TaskData, size: Size) -> tuple[float, float]:
    """Return the share of a training's time spent on waiting for images, and images per second."""
    device = data.train.labels.device
    with contextlib.closing(Learner(one, data, None, 0, size.workers)) as learner:
        learner.step(0, 1e-4)
        synchronise(device)
        learner.batches.waited()
        began = time.perf_counter()
        for step in range(1, 1 + size.steps):
            learner.step(step, 1e-4)
        synchronise(device)
        seconds = time.perf_counter() - began
        return learner.batches.waited() / seconds, size.steps * size.batch / seconds


def measure(size: Size, device: torch.device, folder: Path) -> dict[str, list[float]]:
    """Return images per second of each way and repetition. Every other one reverses the order."""
    one = training(folder, size)
    stored = load(one.target.dataset, str(folder)).stored
    assert stored is not None

    def data(root: Path) -> TaskData:
        return task_data(one, device, whole_bytes=0, readers=size.workers, data_root=str(root))

    files, packed = data(folder), data(packed_beside(folder, stored, size))
    mean = packed.view.mean
    assert mean is not None
    ways: dict[str, Callable[[], Iterator[torch.Tensor]]] = {
        PACKED: lambda: streamed(one, packed, size),
        ONCE: lambda: streamed(one, files, size),
        UNPACKED: lambda: streamed(one, decoded_each_time(files), size),
        LOADER: lambda: loaded(folder, mean, size),
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for repetition in range(size.repeat):
        for way in list(ways)[:: -1 if repetition % 2 else 1]:
            with contextlib.closing(ways[way]()) as batches:  # type: ignore[type-var]
                rates[way].append(rate(batches, size, device))
    share, speed = share_of_wait(one, packed, size)
    print(f"training from the pack waits {100 * share:.2f} % of its time, at {speed:,.0f} images/s")
    return rates


def table(rates: dict[str, list[float]]) -> str:
    """Return medians, and medians of the packed way by each way in the same repetition."""
    lines = ["| | images/s | packed is × |", "|---|---|---|"]
    for way, speeds in rates.items():
        times = statistics.median(
            ours / theirs for ours, theirs in zip(rates[PACKED], speeds, strict=True)
        )
        lines.append(f"| {way} | {statistics.median(speeds):,.0f} | {times:.2f} |")
    return "\n".join(lines)


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.input", description=__doc__)
    parser.add_argument("--images", type=int, default=1024, help="training images to draw")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="steps of the training from the pack")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--shrink", type=int, default=1, help="a narrower network, to try it out")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args(arguments)
    for name in ("images", "batch", "repeat", "steps", "workers"):
        if getattr(chosen, name) < 1:
            parser.error(f"--{name}: expected a whole number, x ≥ 1")
    if chosen.images < max(chosen.batch, CLASSES):
        parser.error(f"--images: expected at least a batch, {chosen.batch}")
    return chosen


def main(arguments: Sequence[str]) -> None:
    chosen = vars(options(arguments))
    device = torch.device(chosen.pop("device"))
    chosen["images"] -= chosen["images"] % CLASSES
    size = Size(**chosen)
    with tempfile.TemporaryDirectory(prefix="layerwise-input-") as scratch:
        os.environ["LAYERWISE_CACHE"] = str(Path(scratch) / "node")
        folder = Path(scratch) / "images"
        draw(folder, size.images)
        bytes_per_image = sum(f.stat().st_size for f in folder.glob("train/*/*")) / size.images
        print(f"{size.images} JPEGs of {bytes_per_image / 1e3:.0f} kB each, {size.workers} workers")
        print(table(measure(size, device, folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
