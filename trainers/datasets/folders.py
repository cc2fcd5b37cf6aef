"""Datasets in folders of image files, in the layout of torchvision's `ImageFolder`.

https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from trainers.datasets import packs
from trainers.datasets.images import DataError, Files, Form, first_few
from trainers.datasets.listings import Tree, list_images
from trainers.datasets.places import Place
from trainers.datasets.sets import Dataset, Labelled, Stored, divide, refuse_shared

# Names of folders that hold a set in other layouts, and that are not read here.
OTHER_SETS = ("valid", "validation", "dev", "eval", "training", "testing")


def image_folder(
    place: Place,
    /,
    *,
    size: int = 256,
    resize: str = "squash",
    orientation: str = "exif",
    held_out: int | None = None,
    shared_images: bool = False,
) -> Dataset:
    """Return the dataset of a folder: `train/<class>/<file>`, and `val/…` or `test/…` or both.

    Images are (3, size, size), uint8. Raises `DataError` and, for an option, `ConfigError`.

    Options:
        size: Height and width in pixels that images are brought to, 1 to 4096.
        resize: `squash` changes the aspect ratio; `crop` scales the shorter side and keeps the
            centre.
        orientation: `exif` turns images upright, as cameras note it in EXIF; `stored` leaves the
            pixels as they lie.
        held_out: Images per class that are held out of training for validation; by default a
            tenth of each class. With 0 the test set is also the validation set. Not allowed where
            the folder has both `val` and `test`.
        shared_images: Allow image files of equal content in two of the three sets. The report then
            says so.
    """
    form = Form(size=size, resize=resize, orientation=orientation)
    divided = dataset(find_stored(place, form, read_files), held_out)
    return refuse_shared("image_folder", divided, shared_images)


def dataset(images: Stored, held_out: int | None) -> Dataset:
    """Divide stored images into the three sets. Raises `ConfigError` for `held_out`."""
    sets = divide(images.classes, images.sets, held_out)
    return Dataset(
        images.classes,
        *sets,
        fingerprint=images.fingerprint,
        notes=images.notes,
        stored=images,
    )


def find_stored(
    place: Place, form: Form, unpacked: Callable[[Place, Form], Stored], known: str = ""
) -> Stored:
    """Return the images of a place: from a pack if there is one, else from `unpacked`.

    `known` is the fingerprint of a dataset whose fingerprint is fixed. If the fingerprint is known
    or planned, a pack is enough: the files that it was made from need not be on this machine.
    Raises `DataError`, also for a pack that was made from other files.
    """
    fingerprint = known or place.expected
    if fingerprint and (pack := packs.find(place.packs, fingerprint, form)):
        return packs.read(pack)
    images = unpacked(place, form)
    if known:
        images = dataclasses.replace(images, fingerprint=known)
    if pack := packs.find(place.packs, images.fingerprint, form):
        return dataclasses.replace(packs.read(pack), notes=images.notes)
    packs.refuse_stale(place.packs, images)
    return images


def read_files(place: Place, form: Form) -> Stored:
    """Return the images of a folder, which are decoded at each reading. Raises `DataError`."""
    trees = list_sets(place.folder)
    sets = {
        name: Labelled(
            Files(place.folder / name, tree.names, tree.hashes, form),
            tree.names,
            tree.labels,
            tree.hashes,
        )
        for name, tree in trees.items()
    }
    hasher = hashlib.sha256()
    for name, tree in trees.items():
        hasher.update(f"{name} {tree.fingerprint}\n".encode())
    fingerprint = hasher.hexdigest()[:16]
    return Stored(
        folder=place.folder,
        form=form,
        classes=trees["train"].classes,
        sets=sets,
        fingerprint=fingerprint,
        files=fingerprint,
        notes=_passed_over(place.folder, trees),
    )


def _passed_over(folder: Path, trees: Mapping[str, Tree]) -> tuple[str, ...]:
    """Return a sentence that counts the files and folders which are not read, if there are any."""
    counts = sum((Counter(tree.passed_over) for tree in trees.values()), Counter())
    beside = {path.name for path in folder.iterdir() if path.is_dir()} & set(OTHER_SETS)
    parts = [f"{count:,} {kind}" for kind, count in sorted(counts.items())]
    parts += [f"folder {name} (expected train, val, test)" for name in sorted(beside)]
    return (f"{folder}: passed over {', '.join(parts)}",) if parts else ()


def list_sets(folder: Path) -> dict[str, Tree]:
    """Return the sets of a folder by name: `train`, and `test` or `val` or both.

    Raises `DataError` if a set is missing or the sets differ in their classes.
    """
    names = [name for name in ("test", "val") if (folder / name).is_dir()]
    if not (folder / "train").is_dir() or not names:
        missing = "train" if not (folder / "train").is_dir() else "val or test"
        raise DataError(
            f"no folder {missing} in {folder}: expected train/<class>/<image files>, and "
            "val/<class>/… or test/<class>/…; name their folder with dataset.root"
        )
    trees = {name: list_images(folder / name) for name in ("train", *names)}
    for name in names:
        for one, other in (("train", name), (name, "train")):
            if absent := sorted(set(trees[one].classes) - set(trees[other].classes)):
                raise DataError(
                    f"{folder / other} lacks classes that {one} has: {first_few(absent)}"
                )
    return trees
