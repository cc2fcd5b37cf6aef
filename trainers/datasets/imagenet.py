"""ImageNet (ILSVRC 2012): its published facts, and the dataset in its folder.

https://image-net.org/challenges/LSVRC/2012. Planning needs no images. The number of training images
of each class is not published with the archives, so a plan takes the mean over the natural and over
the man-made classes. A folder is compared with the published facts: the classes, the total number
and size of the images, and the range of images per class.
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from trainers.canonical import digest, require
from trainers.config import DatasetInfo
from trainers.datasets import folders
from trainers.datasets.images import DataError, Form, first_few
from trainers.datasets.listings import Scan, scan
from trainers.datasets.places import Place
from trainers.datasets.sets import Dataset, Stored

CLASSES = 1000


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Published facts of one archive of image-net.org."""

    name: str
    md5: str

    size: int
    """Bytes of the archive."""

    images: int

    least: int
    """Images in the smallest class."""

    most: int
    """Images in the largest class."""


# https://image-net.org/challenges/LSVRC/2012/2012-downloads.php; the md5 sums are those of
# torchvision/datasets/imagenet.py.
ARCHIVES = {
    "train": Archive(
        name="ILSVRC2012_img_train.tar",
        md5="1d675b47d978889d74fa0da5fadfb00e",
        size=147_897_477_120,
        images=1_281_167,
        least=732,
        most=1300,
    ),
    "val": Archive(
        name="ILSVRC2012_img_val.tar",
        md5="29b22e2961454d5413ddabcf34fc5622",
        size=6_744_924_160,
        images=50_000,
        least=50,
        most=50,
    ),
}
FINGERPRINT = digest(["imagenet", *(archive.md5 for archive in ARCHIVES.values())], 16)
NATURAL_MEAN = 1283  # training images per natural class, from the authors' mean images


@functools.cache
def groups() -> dict[str, str]:
    """Return the 1000 classes in their order: WordNet id → `natural` or `man-made`.

    The groups are those of the paper (`half_nat_idx.txt` and `half_man_idx.txt` of
    https://github.com/yosinski/convnet_transfer).
    """
    text = (importlib.resources.files(__package__) / "imagenet.csv").read_text(encoding="utf-8")
    return {row["wnid"]: row["group"] for row in csv.DictReader(text.splitlines())}


def natural_manmade(classes: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return the indices of the natural classes (half A) and of the man-made classes (half B).

    `classes` are WordNet ids of ImageNet classes in any number and order. Returns None if another
    name is among them, or if one of the groups is empty.
    """
    known = groups()
    if any(name not in known for name in classes):
        return None
    natural = tuple(i for i, name in enumerate(classes) if known[name] == "natural")
    manmade = tuple(i for i, name in enumerate(classes) if known[name] != "natural")
    return (natural, manmade) if natural and manmade else None


@dataclass(frozen=True, kw_only=True)
class ImageNetOptions:
    """Options of `imagenet`. Raises `ConfigError` for one that is out of range."""

    size: int = 256
    """Height and width in pixels that images are brought to, 1 to 4096."""

    resize: str = "squash"
    """`squash` changes the aspect ratio, as in the paper; `crop` scales the shorter side and keeps
    the centre."""

    held_out: int = 50
    """Images per class that are held out of training for validation, 0 to 731. With 0 the 50,000
    images serve for validation and test, as in the paper; the test scores of the best validation
    step are then a little too good."""

    def __post_init__(self) -> None:
        least = ARCHIVES["train"].least
        fits = 0 <= self.held_out < least
        require(fits, "held_out", f"expected 0 ≤ x < {least}, the smallest class")

    @property
    def form(self) -> Form:
        """The form that images are brought to. Raises `ConfigError` for `size` or `resize`."""
        return Form(size=self.size, resize=self.resize)


def imagenet(place: Place, options: ImageNetOptions) -> Dataset:
    """Return ImageNet from its folder: `train/<wnid>/*.JPEG` and `val/<wnid>/*.JPEG`.

    The layout is that of torchvision's `ImageNet`. The 50,000 validation images are the test set.
    Images are (3, size, size), uint8. Raises `DataError` for a folder that differs from the
    published facts.
    """
    stored = folders.find_stored(place, options.form, checked, FINGERPRINT)
    return folders.dataset(stored, options.held_out)


def imagenet_info(options: ImageNetOptions) -> DatasetInfo:
    """Return the facts that planning needs; the training counts are estimates (see the module)."""
    held_out = options.held_out
    test = (ARCHIVES["val"].images // CLASSES,) * CLASSES
    return DatasetInfo(
        classes=tuple(groups()),
        shape=options.form.shape,
        train=tuple(count - held_out for count in _training_counts()),
        validation=(held_out,) * CLASSES if held_out else test,
        test=test,
        fingerprint=FINGERPRINT,
    )


def _training_counts() -> tuple[int, ...]:
    """Return the estimated training images of each class; their sum is exact."""
    manmade = [wnid for wnid, group in groups().items() if group != "natural"]
    rest = ARCHIVES["train"].images - NATURAL_MEAN * (CLASSES - len(manmade))
    mean, left = divmod(rest, len(manmade))
    counts = {wnid: mean + (index < left) for index, wnid in enumerate(manmade)}
    return tuple(counts.get(wnid, NATURAL_MEAN) for wnid in groups())


def checked(place: Place, form: Form) -> Stored:
    """Return the images of a folder. Raises `DataError` if it differs from the published facts."""
    for name, archive in ARCHIVES.items():
        if not (place.folder / name).is_dir():
            raise DataError(
                f"imagenet is not at {place.folder}: fetch {archive.name} (md5 {archive.md5}) from "
                "https://image-net.org/download.php, and unpack it into "
                f"{place.folder / name}/<wnid>/*.JPEG; or name its folder with dataset.root"
            )
    for name, archive in ARCHIVES.items():
        if difference := compare(scan(place.folder / name), archive, groups()):
            raise DataError(
                f"{place.folder / name} {difference}: unpack {archive.name} (md5 {archive.md5}) "
                "again, or use the dataset image_folder for your own choice of images"
            )
    return folders.read_files(place, form)


def compare(tree: Scan, archive: Archive, wnids: Collection[str]) -> str:
    """Return the difference between the images of a folder and an archive's; empty for none."""
    if absent := sorted(set(wnids) - set(tree.classes)):
        return f"lacks {len(absent)} of {len(wnids)} classes: {first_few(absent)}"
    if unknown := sorted(set(tree.classes) - set(wnids)):
        return f"has {len(unknown)} folders that are not a class of ImageNet: {first_few(unknown)}"
    counts = np.bincount(tree.labels, minlength=len(tree.classes))
    wrong = [
        f"{name} has {count}"
        for name, count in zip(tree.classes, counts, strict=True)
        if not archive.least <= count <= archive.most
    ]
    if wrong:
        least, most = archive.least, archive.most
        expected = f"{least} ≤ x ≤ {most}" if least < most else least
        counts_of = f"{len(wrong)} classes with a wrong number of images"
        return f"has {counts_of}: {first_few(wrong)}; expected {expected}"
    if len(tree.names) != archive.images:
        return f"has {len(tree.names):,} images, not {archive.images:,}"
    # In a tar file each file takes a header of 512 bytes and whole blocks of 512. The archive of
    # each class is such a file too.
    headers, blocks = 512 * archive.images, 511 * archive.images + 2**24
    total = int(tree.sizes.sum())
    if not archive.size - headers - blocks <= total <= archive.size - headers:
        return (
            f"has {total:,} bytes of images, which cannot be those of an archive of "
            f"{archive.size:,}: the images were changed"
        )
    return ""
