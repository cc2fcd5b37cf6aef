"""Datasets by name, each with training, validation and test images.

A user's own dataset is a function `package.module:function` that returns
`{"train": (images, labels), "validation": (…), "test": (…)}`, and optionally `"classes"`, the names
of the classes. Images are an array (N, C, H, W) or (N, H, W), uint8 or float, or a list of image
files of one size. Labels are integers from 0.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from trainers.canonical import ConfigError, Options, digest, key, require
from trainers.config import DatasetInfo, DatasetRef, Task
from trainers.datasets import archives, digits, folders, generated, imagenet, shapes, voc
from trainers.datasets.imagenet import natural_manmade
from trainers.datasets.images import DataError, Pixels
from trainers.datasets.own import from_mapping, hash_arrays
from trainers.datasets.places import Place, place
from trainers.datasets.sets import SUBSETS, Dataset, Subset, check_classes, refuse_shared
from trainers.own_code import fit_options, recorded_files, resolve, sources
from trainers.seeds import seeded
from trainers.tasks import members

__all__ = [
    "DATASETS",
    "SUBSETS",
    "DataError",
    "Dataset",
    "Pixels",
    "Subset",
    "describe",
    "fetch",
    "forget",
    "load",
    "load_again",
    "natural_manmade",
    "options_of",
    "task_arrays",
]


T = TypeVar("T")

SHARED = "shared_images"
"""Option of every own dataset: true allows equal images in two of its sets."""


class DatasetKind(NamedTuple):
    """A known dataset: the functions that load, describe and download it."""

    load: Callable[..., Dataset]
    """Loader; it takes the options, and first a `Place` if the dataset has `files`."""

    info: Callable[..., DatasetInfo] | None = None
    """Description by the options, without the data; None if that is impossible."""

    options: type | None = None
    """Class of the options; None if `load` and `info` take them as keywords."""

    files: bool = False
    """True if the dataset is read from files that a sweep may place with `root`."""

    fetch: Callable[[Path], None] | None = None
    """Download into a folder; None if the dataset cannot be downloaded freely."""

    packable: bool = False
    """True if the dataset consists of image files, of which a pack can be made."""

    @property
    def declares(self) -> Callable[..., Any]:
        """The class or function whose keywords are the options."""
        return self.options or self.load

    def loaded(self, options: Options, where: Place | None = None) -> Dataset:
        """Return the dataset with these options. Raises as its loader does."""
        return self._called(self.load, [where] if where else [], options)

    def described(self, options: Options) -> DatasetInfo | None:
        """Return the description by these options; None if the data is needed for it."""
        return self._called(self.info, [], options) if self.info else None

    def _called(self, function: Callable[..., T], places: list[Place], options: Options) -> T:
        if self.options:
            return function(*places, self.options(**dict(options)))
        return function(*places, **dict(options))


def _archive(name: str) -> DatasetKind:
    functions = archives.functions(name)
    return DatasetKind(functions.load, functions.info, files=True, fetch=functions.fetch)


DATASETS: dict[str, DatasetKind] = {
    "digits": DatasetKind(digits.digits, digits.digits_info, digits.DigitsOptions),
    "mnist": _archive("mnist"),
    "fashion_mnist": _archive("fashion_mnist"),
    "cifar10": _archive("cifar10"),
    "cifar100": _archive("cifar100"),
    "imagenet": DatasetKind(
        imagenet.imagenet,
        imagenet.imagenet_info,
        imagenet.ImageNetOptions,
        files=True,
        packable=True,
    ),
    "image_folder": DatasetKind(folders.image_folder, files=True, packable=True),
    "generated": DatasetKind(
        generated.generated,
        generated.generated_info,
        generated.GeneratedOptions,
        files=True,
        packable=True,
    ),
    "voc": DatasetKind(voc.voc, files=True),
    "shapes": DatasetKind(shapes.shapes, shapes.shapes_info, shapes.ShapesOptions, files=True),
}


def load(ref: DatasetRef, root: str | None = None) -> Dataset:
    """Return the dataset of `ref`, from `root` or from this machine's folder of data.

    The last two are kept in memory. Raises `DataError` if the dataset is missing, damaged, or
    different from the plan's.
    """
    dataset = _load(ref.name, ref.options, _place(ref.name, root, ref.fingerprint))
    if ref.fingerprint and dataset.fingerprint != ref.fingerprint:
        raise DataError(
            f"dataset {ref.name}: the data or its code differs from what the plan was made with "
            f"(now {dataset.fingerprint}, then {ref.fingerprint}); make them equal, or plan again"
        )
    return dataset


def load_again(ref: DatasetRef) -> Dataset:
    """Return the dataset of a user's function, called once more."""
    return _load.__wrapped__(ref.name, ref.options, None)


def opened_files(name: str, options: Options) -> tuple[str, ...]:
    """Return the paths, as given, of the data files that a user's function opened.

    Raises as `load` does.
    """
    paths = _load(name, options_of(name, options), None).opened
    code = (".py", ".pyc")
    return tuple(path for path in paths if Path(path).is_file() and not path.endswith(code))


def forget() -> None:
    """Drop the datasets that this process keeps in memory; the next use reads them again."""
    _load.cache_clear()


def describe(name: str, options: Options, root: str | None = None) -> DatasetInfo:
    """Return the facts that planning needs: classes, image shape, counts and fingerprint.

    A dataset with an `info` function need not be on this machine; others are loaded. Raises
    `ConfigError`, which names the field (`name`, `root` or an option), and `DataError`.
    """
    fitting = options_of(name, options)
    if root is not None and not (name in DATASETS and DATASETS[name].files):
        raise ConfigError("root", f"dataset {name} reads no files; expected no root")
    if name in DATASETS and (info := DATASETS[name].described(fitting)) is not None:
        return info
    dataset = _load(name, fitting, _place(name, root))
    n = len(dataset.classes)
    counts = {s: np.bincount(dataset.subset(s).labels, minlength=n).tolist() for s in SUBSETS}
    _, c, h, w = dataset.train.images.shape
    return DatasetInfo(
        classes=dataset.classes,
        shape=(c, h, w),
        fingerprint=dataset.fingerprint,
        notes=dataset.notes,
        has_objects=dataset.train.objects is not None,
        **{s: tuple(counts[s]) for s in SUBSETS},
    )


def fetch(name: str, root: str | None = None) -> None:
    """Download the missing files of a dataset to `root` or to this machine's folder of data.

    Raises `ConfigError` if the dataset cannot be downloaded, and `DataError` if a download fails.
    """
    download = DATASETS[name].fetch if name in DATASETS else None
    if download is None:
        known = ", ".join(name for name, kind in DATASETS.items() if kind.fetch)
        raise ConfigError("download", f"{name} cannot be downloaded; expected one of {known}")
    download(place(name, root).folder)


def options_of(name: str, options: Options) -> Options:
    """Return the checked options of a dataset without those at their default.

    Raises `ConfigError`, which names the wrong option.
    """
    if name in DATASETS:
        return fit_options(DATASETS[name].declares, options, given=())
    allowed, others = _apart(options)
    fitting = fit_options(resolve(name)[0], others, given=())
    return tuple(sorted((*fitting, (SHARED, True)))) if allowed else fitting


def _place(name: str, root: str | None, expected: str = "") -> Place | None:
    return place(name, root, expected) if name in DATASETS and DATASETS[name].files else None


@functools.lru_cache(maxsize=2)
def _load(name: str, options: Options, where: Place | None) -> Dataset:
    if name in DATASETS:
        dataset = DATASETS[name].loaded(options, where)
        check_classes(name, dataset)
        return dataset
    allowed, others = _apart(options)
    dataset = _own(name, others)
    check_classes(name, dataset)
    return refuse_shared(name, dataset, allowed)


def _apart(options: Options) -> tuple[bool, Options]:
    """Return whether `shared_images` is set, and the options of a user's function itself.

    Raises `ConfigError` if it is neither true nor false.
    """
    allowed = dict(options).get(SHARED, False)
    require(isinstance(allowed, bool), SHARED, f"expected true or false, found {allowed!r}")
    return allowed, tuple((key, value) for key, value in options if key != SHARED)


def _own(name: str, options: Options) -> Dataset:
    """Return the dataset of a user's function; its fingerprint holds pixels, labels and code."""
    function = resolve(name)[0]
    with recorded_files() as opened, seeded(key("dataset", name, options)):
        made = function(**dict(fit_options(function, options, given=())))
        dataset = from_mapping(name, made)
    manifest = []
    for subset in map(dataset.subset, SUBSETS):
        assert isinstance(subset.images, np.ndarray)
        manifest.append(hash_arrays(subset.images, subset.labels))
    fingerprint = digest([sources(name), dataset.classes, manifest], 16)
    return dataclasses.replace(dataset, fingerprint=fingerprint, opened=tuple(sorted(opened)))


def task_arrays(task: Task, subset: str, root: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (N, C, H, W) and labels (N,) of a task, as `tasks.members` chooses them.

    Only for datasets whose images are an array in memory. Raises `DataError`.
    """
    stored = load(task.dataset, root).subset(subset)
    indices, labels = members(task, subset, stored.labels)
    assert isinstance(stored.images, np.ndarray)
    return stored.images[indices], labels
