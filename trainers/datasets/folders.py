"""Folders of image files as torchvision's `ImageFolder` lays them out: `train/<class>/<file>`."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

from trainers import packs
from trainers.datasets.images import DataError, Files, Form, some
from trainers.datasets.listings import Tree, listed
from trainers.datasets.places import Place
from trainers.datasets.sets import Dataset, Labelled, Stored, divide


def image_folder(
    place: Place, /, *, size: int = 256, resize: str = "squash", held_out: int | None = None
) -> Dataset:
    """A folder with `train/<class>/<file>` and `val/<class>/<file>`, `test/<class>/<file>` or both.

    Options: see `Form` and `divide`.
    """
    form = Form(size=size, resize=resize)
    return dataset(stored(place, form, files), held_out)


def dataset(images: Stored, held_out: int | None) -> Dataset:
    """Stored images as three sets."""
    sets = divide(images.classes, images.sets, held_out)
    return Dataset(images.classes, *sets, fingerprint=images.fingerprint, stored=images)


def stored(
    place: Place, form: Form, unpacked: Callable[[Place, Form], Stored], known: str = ""
) -> Stored:
    """The images of a place, from a pack where there is one, else `unpacked`. Raises `DataError`.

    `known` is the fingerprint of a dataset that has a fixed one. Where the fingerprint is known or
    planned, a pack is enough: the folder that it was made from need not be on this machine.
    """
    fingerprint = known or place.expected
    if fingerprint and (pack := packs.find(place.packs, fingerprint, form)):
        return packs.read(pack)
    images = unpacked(place, form)
    if known:
        images = dataclasses.replace(images, fingerprint=known)
    if pack := packs.find(place.packs, images.fingerprint, form):
        return packs.read(pack)
    packs.refuse_stale(place.packs, images)
    return images


def files(place: Place, form: Form) -> Stored:
    """The images of a folder, to be decoded when they are asked for. Raises `DataError`."""
    trees = look(place.folder)
    sets = {
        name: Labelled(
            Files(place.folder / name, tree.names, tree.sizes, form), tree.names, tree.labels
        )
        for name, tree in trees.items()
    }
    hasher = hashlib.sha256()
    for name, tree in trees.items():
        hasher.update(f"{name} {tree.fingerprint}\n".encode())
    found = hasher.hexdigest()[:16]
    return Stored(
        folder=place.folder,
        form=form,
        classes=trees["train"].classes,
        sets=sets,
        fingerprint=found,
        files=found,
    )


def look(folder: Path) -> dict[str, Tree]:
    """The sets that a folder holds: `train`, and `val` or `test` or both, with equal classes.

    Raises `DataError`.
    """
    found = [name for name in ("test", "val") if (folder / name).is_dir()]
    if not (folder / "train").is_dir() or not found:
        missing = "train" if not (folder / "train").is_dir() else "val or test"
        raise DataError(
            f"no folder {missing} in {folder}: expected train/<class>/<image files>, and "
            "val/<class>/… or test/<class>/…; say where they are with dataset.root"
        )
    trees = {name: listed(folder / name) for name in ("train", *found)}
    train = trees["train"].classes
    for name in found:
        for those, others, where in (
            (train, trees[name].classes, name),
            (trees[name].classes, train, "train"),
        ):
            if absent := sorted(set(those) - set(others)):
                raise DataError(f"{folder / where} lacks classes that others have: {some(absent)}")
    return trees
