"""A small folder of shapes in the layout of PASCAL VOC, drawn at the first use, for demos.

Each image has shapes of several classes on a noisy background; size and contrast differ, and colour
says nothing of the class. The files are read by the code that reads VOC.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainers.canonical import digest, require, require_ranges
from trainers.config import DatasetInfo
from trainers.datasets import voc
from trainers.datasets.images import DataError, Form
from trainers.datasets.places import Place
from trainers.datasets.sets import Dataset

VERSION = 1  # of the drawing; part of the fingerprint
SETS = ("train", "val", "test")
DIFFICULT = 0.1  # share of the smaller shapes with hardly any contrast
TRIES = 20  # to place a shape beside the others

# Pixels of a shape, at u to the right and v down, both from -1 to 1 over its box.
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": lambda u, v: u**2 + v**2 <= 1,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) <= 1,
    "triangle": lambda u, v: 2 * abs(u) <= v + 1,
    "cross": lambda u, v: np.minimum(abs(u), abs(v)) <= 0.3,
    "ring": lambda u, v: abs(u**2 + v**2 - 0.75) <= 0.25,
    "diamond": lambda u, v: abs(u) + abs(v) <= 1,
    "hourglass": lambda u, v: abs(u) <= abs(v),
    "bars": lambda u, v: np.maximum(abs(v), 1 - abs(u)) >= 0.6,
}


@dataclass(frozen=True, kw_only=True)
class ShapesOptions:
    """Options of `shapes`. Raises `ConfigError` for one that is out of range."""

    classes: tuple[str, ...] = tuple(SHAPES)
    """Names of the shapes: circle, square, triangle, cross, ring, diamond, hourglass, bars."""

    images: int = 40
    """Images per class for training and validation, 2 to 10,000."""

    held_out: int = 10
    """Of `images`, how many per class are validation images, 1 to `images` - 1."""

    test: int = 20
    """Images per class for test, 1 to 10,000."""

    most: int = 4
    """Shapes per image at most, 1 to 10."""

    size: int = 64
    """Height and width in pixels that images are brought to, 16 to 4096; sides are drawn with 0.75
    to 1.5 times as many pixels."""

    boxes: bool = True
    """True for a task of objects in boxes; false for one of the class of each image."""

    seed: int = 0
    """Seed of the drawing, 0 to 2^32 - 1."""

    def __post_init__(self) -> None:
        require_ranges(
            self,
            images=(2, 10_000),
            held_out=(1, self.images - 1),
            test=(1, 10_000),
            most=(1, 10),
            size=(16, 4096),
            seed=(0, 2**32 - 1),
        )
        unknown = [name for name in self.classes if name not in SHAPES]
        require(not unknown, "classes", f"expected some of {', '.join(SHAPES)}")
        different = len(set(self.classes)) == len(self.classes) > 0
        require(different, "classes", "expected different names")

    @property
    def form(self) -> Form:
        """The form that images are brought to."""
        return Form(size=self.size)


def shapes(place: Place, options: ShapesOptions) -> Dataset:
    """Return generated images, drawn into the place's folder unless they are there.

    Images are (3, size, size), uint8. The class of an image is that of its largest shape. Raises
    `DataError` if they cannot be written or are incomplete.
    """
    classes, held_out = options.classes, options.held_out
    info = shapes_info(options)
    folder = place.folder / digest([info.fingerprint, options.size], 16)
    counts = dict(zip(SETS, (options.images - held_out, held_out, options.test), strict=True))
    if not folder.is_dir():
        _write(folder, classes, counts, options.most, options.size, options.seed)
    dataset = voc.read(folder, options.form, classes)
    sets = [dataset.subset(name) for name in ("train", "validation", "test")]
    for subset, count in zip(sets, counts.values(), strict=True):
        if len(subset.labels) != count * len(classes):
            raise DataError(
                f"some generated images in {folder} are missing: remove the folder, and they are "
                "drawn again"
            )
    if not options.boxes:
        sets = [dataclasses.replace(subset, objects=None) for subset in sets]
    return Dataset(classes, *sets, fingerprint=info.fingerprint)


def shapes_info(options: ShapesOptions) -> DatasetInfo:
    """Return the facts that planning needs, without drawing."""
    classes, images, held_out = options.classes, options.images, options.held_out
    drawing = ["shapes", VERSION, classes, images, held_out, options.test, options.most]
    return DatasetInfo(
        classes=classes,
        shape=options.form.shape,
        train=(images - held_out,) * len(classes),
        validation=(held_out,) * len(classes),
        test=(options.test,) * len(classes),
        fingerprint=digest([*drawing, options.seed, options.boxes], 16),
        has_objects=options.boxes,
    )


def _write(
    folder: Path, classes: tuple[str, ...], counts: dict[str, int], most: int, size: int, seed: int
) -> None:
    """Draw all images into a temporary folder and rename it to `folder`.

    Several processes may do so at once: all draw the same images, and the first one to end wins.
    Raises `DataError` if the disk fails.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".drawing-"))
        try:
            for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
                (beside / name).mkdir(parents=True)
            for number, (subset, count) in enumerate(counts.items()):
                names = []
                for index in range(count * len(classes)):
                    random = np.random.RandomState([seed, number, index])
                    names.append(f"{subset}_{index:06d}")
                    scene = _Scene(random, size)
                    scene.add(classes[index % len(classes)], random.uniform(0.4, 0.55))
                    for _ in range(random.randint(most)):
                        shape = classes[random.randint(len(classes))]
                        scene.add(shape, random.uniform(0.16, 0.28), random.uniform() < DIFFICULT)
                    scene.save(beside, names[-1])
                lines = "".join(f"{name}\n" for name in names)
                (beside / "ImageSets" / "Main" / f"{subset}.txt").write_text(lines)
            beside.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise DataError(f"cannot write generated images to {folder.parent}: {error}") from error


class _Scene:
    """One image while it is drawn, and the annotation of its shapes."""

    def __init__(self, random: np.random.RandomState, size: int):
        self.random = random
        height, width = random.randint(size * 3 // 4, size * 3 // 2 + 1, size=2)
        self.ground = random.uniform(0.25, 0.75, 3)
        slope = random.uniform(-0.1, 0.1, 2)
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        light = slope[0] * x + slope[1] * y + 0.04 * random.standard_normal((height, width))
        self.image = self.ground + light[..., None]
        self.light = light[..., None]
        self.taken = np.zeros((height, width), bool)
        self.objects: list[str] = []

    def add(self, shape: str, side: float, difficult: bool = False) -> None:
        """Draw a shape with a side in parts of the shorter side of the image, if there is room."""
        height, width = self.taken.shape
        h, w = (
            max(6, round(side * min(height, width) * self.random.uniform(0.85, 1.15)))
            for _ in range(2)
        )
        for _ in range(TRIES):
            top, left = self.random.randint(height - h + 1), self.random.randint(width - w + 1)
            place = slice(top, top + h), slice(left, left + w)
            if not self.taken[place].any():
                break
        else:
            return
        v, u = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
        contrast = self.random.choice([-1, 1], 3) * self.random.uniform(0.3, 0.5, 3)
        colour = self.ground + contrast * (0.1 if difficult else 1)
        self.image[place] = np.where(
            SHAPES[shape](u, v)[..., None], colour + self.light[place], self.image[place]
        )
        self.taken[place] = True
        box = zip(voc.EDGES, (left + 1, top + 1, left + w, top + h), strict=True)
        edges = "".join(f"<{edge}>{value}</{edge}>" for edge, value in box)
        self.objects.append(
            f"<object><name>{shape}</name><truncated>0</truncated>"
            f"<difficult>{int(difficult)}</difficult><bndbox>{edges}</bndbox></object>"
        )

    def save(self, folder: Path, name: str) -> None:
        """Write the image and its annotation."""
        from PIL import Image

        height, width = self.taken.shape
        pixels = (np.clip(self.image, 0, 1) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{name}.jpg", quality=90)
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        (folder / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename>{size}{''.join(self.objects)}"
            "</annotation>\n"
        )
