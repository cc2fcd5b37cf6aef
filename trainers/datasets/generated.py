"""A small folder of JPEGs in the layout of ImageNet, drawn at the first use, for tests and demos.

Each class has its own colour, texture and shape under noise, so that networks learn, and deeper
networks learn more. As in ImageNet, sizes and aspect ratios differ, and some files are grey or
CMYK. Half of the classes are natural classes of ImageNet, half are man-made ones. The files are
read by the code that reads ImageNet.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainers.canonical import digest, require_ranges
from trainers.config import DatasetInfo
from trainers.datasets import folders
from trainers.datasets.imagenet import groups
from trainers.datasets.images import DataError, Form
from trainers.datasets.places import Place
from trainers.datasets.sets import Dataset

VERSION = 1  # of the drawing; part of the fingerprint
GREY, CMYK = 7, 11  # every 7th image is grey, every 11th CMYK


@dataclass(frozen=True, kw_only=True)
class GeneratedOptions:
    """Options of `generated`. Raises `ConfigError` for one that is out of range."""

    classes: int = 10
    """Number of classes, 2 to 898."""

    images: int = 30
    """Images per class for training and validation, 1 to 10,000."""

    test: int = 10
    """Images per class for test, 1 to 10,000."""

    size: int = 48
    """Height and width in pixels that images are brought to, 1 to 4096; sides are drawn with 0.75
    to 1.5 times as many pixels."""

    resize: str = "squash"
    """`squash` changes the aspect ratio; `crop` scales the shorter side and keeps the centre."""

    held_out: int = 6
    """Of `images`, how many per class are held out of training for validation, 0 to `images` - 1.
    With 0 the test set is also the validation set."""

    seed: int = 0
    """Seed of the drawing, 0 to 2^32 - 1."""

    def __post_init__(self) -> None:
        require_ranges(
            self,
            classes=(2, 898),
            images=(1, 10_000),
            test=(1, 10_000),
            held_out=(0, self.images - 1),
            seed=(0, 2**32 - 1),
        )

    @property
    def form(self) -> Form:
        """The form that images are brought to. Raises `ConfigError` for `size` or `resize`."""
        return Form(size=self.size, resize=self.resize)


def generated(place: Place, options: GeneratedOptions) -> Dataset:
    """Return generated images, drawn into the place's folder unless they are there.

    Images are (3, size, size), uint8. Raises `DataError` if they cannot be written or are
    incomplete.
    """
    info = generated_info(options)
    drawn = place.within(digest([info.fingerprint, options.size], 16))
    counts = {"train": options.images, "val": options.test}
    if not drawn.folder.is_dir():
        _write(drawn.folder, info.classes, counts, options.size, options.seed)
    stored = folders.find_stored(drawn, options.form, folders.read_files, info.fingerprint)
    for name, count in counts.items():
        if len(stored.sets[name].labels) != count * options.classes:
            raise DataError(
                f"some generated images in {drawn.folder} are missing: remove the folder, and they "
                "are drawn again"
            )
    return folders.dataset(stored, options.held_out)


def generated_info(options: GeneratedOptions) -> DatasetInfo:
    """Return the facts that planning needs, without drawing."""
    classes, images, test = options.classes, options.images, options.test
    return DatasetInfo(
        classes=_wnids(classes),
        shape=options.form.shape,
        train=(images - options.held_out,) * classes,
        validation=(options.held_out or test,) * classes,
        test=(test,) * classes,
        fingerprint=digest(["generated", VERSION, classes, images, test, options.seed], 16),
    )


def _wnids(classes: int) -> tuple[str, ...]:
    """Return sorted WordNet ids of ImageNet, natural and man-made ones in equal numbers."""
    known = groups()
    natural = [wnid for wnid, group in known.items() if group == "natural"]
    manmade = [wnid for wnid, group in known.items() if group != "natural"]
    chosen = []
    for group, count in ((natural, classes // 2), (manmade, classes - classes // 2)):
        chosen += [group[index * len(group) // count] for index in range(count)]  # evenly spread
    return tuple(sorted(chosen))


def _write(
    folder: Path, classes: tuple[str, ...], sets: dict[str, int], size: int, seed: int
) -> None:
    """Draw all images into a temporary folder and rename it to `folder`.

    Several processes may do so at once: all draw the same images, and the first one to end wins.
    Raises `DataError` if the disk fails.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".drawing-"))
        try:
            for number, (name, count) in enumerate(sets.items()):
                for label, wnid in enumerate(classes):
                    (beside / name / wnid).mkdir(parents=True)
                    for index in range(count):
                        random = np.random.RandomState([seed, number, label, index])
                        file = f"{wnid}_{index}.JPEG"
                        if name == "val":
                            file = f"ILSVRC2012_val_{label * count + index + 1:08d}.JPEG"
                        _save(_draw(label, size, random), index, beside / name / wnid / file)
            _publish(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise DataError(f"cannot write generated images to {folder.parent}: {error}") from error


def _publish(beside: Path, folder: Path) -> None:
    try:
        beside.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise


def _draw(label: int, size: int, random: np.random.RandomState) -> np.ndarray:
    """Draw an image (H, W, 3), uint8, of class `label`."""
    height, width = random.randint(size * 3 // 4, size * 3 // 2 + 1, size=2)
    y, x = np.mgrid[0:height, 0:width]
    y, x = y / height, x / width
    hue = 2 * np.pi * (0.618 * label + np.array([0, 1 / 3, 2 / 3]))
    colour = 0.5 + 0.15 * np.cos(hue) + 0.1 * random.standard_normal(3)
    angle = np.pi * (0.382 * label % 1) + 0.15 * random.standard_normal()
    waves = 3 + label % 4
    phase = 2 * np.pi * random.random_sample()
    stripes = np.sin(2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    across, down = x - random.uniform(0.35, 0.65), y - random.uniform(0.35, 0.65)
    power = (1, 2, 8)[label % 3]  # a rhombus, a disc, a square
    inside = (np.abs(across) ** power + np.abs(down) ** power) ** (1 / power) < 0.25
    light = 0.2 * stripes + 0.15 * random.standard_normal((height, width))
    image = colour * random.uniform(0.7, 1.3) + light[..., None]
    image[inside] = (1 - colour) + light[inside][:, None]
    pixels: np.ndarray = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    return pixels


def _save(pixels: np.ndarray, index: int, path: Path) -> None:
    from PIL import Image

    image = Image.fromarray(pixels)
    if index % GREY == GREY - 1:
        image = image.convert("L")
    elif index % CMYK == CMYK - 1:
        image = image.convert("CMYK")
    image.save(path, "JPEG", quality=90)
