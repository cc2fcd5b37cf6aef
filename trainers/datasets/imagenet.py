"""ImageNet (ILSVRC 2012): what is published of it, and the folder of its images.

Planning needs no images. The number of training images of each class is not published with the
archives, so plans count with the mean of the natural and of the man-made classes, and a real folder
is held against what is published: the classes, the totals, and the range of a class.
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from trainers.config import DatasetInfo, digest, require
from trainers.datasets import folders
from trainers.datasets.images import DataError, Form, some
from trainers.datasets.listings import Tree, listed
from trainers.datasets.places import Place
from trainers.datasets.sets import Dataset, Stored

CLASSES = 1000


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One of the archives that image-net.org gives to researchers, and what it holds.

    `least` and `most` are images a class, `size` the archive's bytes.
    """

    name: str
    md5: str
    size: int
    images: int
    least: int
    most: int


# https://image-net.org/challenges/LSVRC/2012/2012-downloads.php; the md5 sums are torchvision's.
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
NATURAL_MEAN = 1283  # training images of a natural class, from the authors' mean images


@functools.cache
def groups() -> dict[str, str]:
    """The 1000 classes in their order: WordNet id → `natural` or `man-made`, as in the paper."""
    text = (importlib.resources.files(__package__) / "imagenet.csv").read_text(encoding="utf-8")
    return {row["wnid"]: row["group"] for row in csv.DictReader(text.splitlines())}


def natural_manmade(classes: Sequence[str]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Indices of the natural and of the man-made classes, of which the first half is A.

    `classes` are WordNet ids of ImageNet's 1000 classes, in any number and order; with any other
    name, or none of one group, there is no such split. Source: `half_nat_idx.txt` and
    `half_man_idx.txt` of yosinski/convnet_transfer.
    """
    known = groups()
    if any(name not in known for name in classes):
        return None
    natural = tuple(i for i, name in enumerate(classes) if known[name] == "natural")
    manmade = tuple(i for i, name in enumerate(classes) if known[name] != "natural")
    return (natural, manmade) if natural and manmade else None


def imagenet(
    place: Place, /, *, size: int = 256, resize: str = "squash", held_out: int = 50
) -> Dataset:
    """The ILSVRC 2012 folder as torchvision lays it out: `train/<wnid>/*.JPEG`, `val/<wnid>/…`.

    The 50,000 validation images are the test set; `held_out` images of each class are held out of
    training for validation. With `held_out: 0` the 50,000 serve as both, which is what the paper
    did: its best validation scores are also its test scores, and so a little too good.
    """
    form = Form(size=size, resize=resize)
    return folders.dataset(folders.stored(place, form, checked, FINGERPRINT), held_out)


def imagenet_info(*, size: int = 256, resize: str = "squash", held_out: int = 50) -> DatasetInfo:
    """What planning must know of ImageNet, without it. See the module for the training counts."""
    form = Form(size=size, resize=resize)
    least = ARCHIVES["train"].least
    require(0 <= held_out < least, "held_out", f"expected 0 ≤ x < {least}, the smallest class")
    test = (ARCHIVES["val"].images // CLASSES,) * CLASSES
    return DatasetInfo(
        classes=tuple(groups()),
        shape=form.shape,
        train=tuple(count - held_out for count in _training_counts()),
        validation=(held_out,) * CLASSES if held_out else test,
        test=test,
        fingerprint=FINGERPRINT,
    )


def _training_counts() -> tuple[int, ...]:
    """About as many images as each class has; in all exactly as many as there are."""
    manmade = [wnid for wnid, group in groups().items() if group != "natural"]
    rest = ARCHIVES["train"].images - NATURAL_MEAN * (CLASSES - len(manmade))
    mean, left = divmod(rest, len(manmade))
    counts = {wnid: mean + (index < left) for index, wnid in enumerate(manmade)}
    return tuple(counts.get(wnid, NATURAL_MEAN) for wnid in groups())


def checked(place: Place, form: Form) -> Stored:
    """The images of an ILSVRC 2012 folder. Raises `DataError` if it is not what is published."""
    for name, archive in ARCHIVES.items():
        if not (place.folder / name).is_dir():
            raise DataError(
                f"imagenet is not at {place.folder}: fetch {archive.name} (md5 {archive.md5}) from "
                "https://image-net.org/download.php, and unpack it so that there are "
                f"{place.folder / name}/<wnid>/*.JPEG; or say where it is with dataset.root"
            )
    for name, archive in ARCHIVES.items():
        if mistake := compare(listed(place.folder / name), archive, groups()):
            raise DataError(
                f"{place.folder / name} {mistake}: unpack {archive.name} (md5 {archive.md5}) again,"
                " or use dataset image_folder for images of your own choice"
            )
    return folders.files(place, form)


def compare(tree: Tree, archive: Archive, wnids: Collection[str]) -> str:
    """What is wrong with a folder that should hold an archive's images; empty if nothing is."""
    if absent := sorted(set(wnids) - set(tree.classes)):
        return f"lacks {len(absent)} of {len(wnids)} classes: {some(absent)}"
    if more := sorted(set(tree.classes) - set(wnids)):
        return f"has {len(more)} folders that are no class of ImageNet: {some(more)}"
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
        return f"has {counts_of}: {some(wrong)}; expected {expected}"
    if len(tree.names) != archive.images:
        return f"has {len(tree.names):,} images, not {archive.images:,}"
    # Each file takes a header of 512 bytes and whole blocks of 512; so does each class's archive.
    headers, blocks = 512 * archive.images, 511 * archive.images + 2**24
    bytes_in_all = int(tree.sizes.sum())
    if not archive.size - headers - blocks <= bytes_in_all <= archive.size - headers:
        return (
            f"has {bytes_in_all:,} bytes of images, which cannot be those of an archive of "
            f"{archive.size:,}: they were changed"
        )
    return ""
