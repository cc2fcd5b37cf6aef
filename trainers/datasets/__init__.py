"""Datasets by name, each with training, validation and test images.

A dataset of one's own is a function `package.module:function` that returns
`{"train": (images, labels), "validation": …, "test": …}`, and optionally `"classes"`, their names.
Images are an array (N, C, H, W) or (N, H, W), uint8 or float, or a list of image files of one size.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainers.config import ConfigError, DatasetInfo, DatasetRef, Options, Task, digest
from trainers.datasets import archives, digits, folders, generated, imagenet
from trainers.datasets.imagenet import natural_manmade
from trainers.datasets.images import DataError, Pixels
from trainers.datasets.own import from_mapping, hash_arrays
from trainers.datasets.places import Place, place
from trainers.datasets.sets import SUBSETS, Dataset, Subset
from trainers.own_code import fit_options, resolve
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
    "load",
    "natural_manmade",
    "options_of",
    "task_arrays",
]


class DatasetKind(NamedTuple):
    """How a dataset is loaded, and what is known of it without loading it.

    `load` is given its options, after a `Place` where it has `files`. Where nothing is known
    without the data there is no `info`; `fetch` downloads into a folder what may be downloaded;
    `packable` ones are folders of image files.
    """

    load: Callable[..., Dataset]
    info: Callable[..., DatasetInfo] | None = None
    files: bool = False
    fetch: Callable[[Path], None] | None = None
    packable: bool = False


def _archive(name: str) -> DatasetKind:
    functions = archives.functions(name)
    return DatasetKind(functions.load, functions.info, files=True, fetch=functions.fetch)


DATASETS: dict[str, DatasetKind] = {
    "digits": DatasetKind(digits.digits, digits.digits_info),
    "mnist": _archive("mnist"),
    "fashion_mnist": _archive("fashion_mnist"),
    "cifar10": _archive("cifar10"),
    "cifar100": _archive("cifar100"),
    "imagenet": DatasetKind(imagenet.imagenet, imagenet.imagenet_info, files=True, packable=True),
    "image_folder": DatasetKind(folders.image_folder, files=True, packable=True),
    "generated": DatasetKind(
        generated.generated, generated.generated_info, files=True, packable=True
    ),
}


def load(ref: DatasetRef, root: str | None = None) -> Dataset:
    """The dataset that `ref` names, from `root` or where this machine keeps its data.

    Raises `DataError` if it is missing or damaged, or not the one planned with.
    """
    dataset = _load(ref.name, ref.options, _place(ref.name, root, ref.fingerprint))
    if ref.fingerprint and dataset.fingerprint != ref.fingerprint:
        raise DataError(
            f"dataset {ref.name}: the data or its code differs from what the plan was made with "
            f"(now {dataset.fingerprint}, then {ref.fingerprint}); make them equal, or plan again"
        )
    return dataset


def describe(name: str, options: Options, root: str | None = None) -> DatasetInfo:
    """What planning must know of a dataset; known ones need not be on this machine.

    Raises `ConfigError` naming `name` or the wrong option, and `DataError` for bad data.
    """
    fitting = options_of(name, options)
    if root is not None and not (name in DATASETS and DATASETS[name].files):
        raise ConfigError("root", f"dataset {name} reads no files; expected no root")
    if name in DATASETS and (info := DATASETS[name].info) is not None:
        return info(**dict(fitting))
    dataset = _load(name, fitting, _place(name, root))
    n = len(dataset.classes)
    counts = {s: np.bincount(dataset.subset(s).labels, minlength=n).tolist() for s in SUBSETS}
    _, c, h, w = dataset.train.images.shape
    return DatasetInfo(
        classes=dataset.classes,
        shape=(c, h, w),
        fingerprint=dataset.fingerprint,
        **{s: tuple(counts[s]) for s in SUBSETS},
    )


def fetch(name: str, root: str | None = None) -> None:
    """Download a dataset to where it is looked for, unless it is there.

    Raises `ConfigError` for one that cannot be downloaded so, `DataError` if it fails.
    """
    download = DATASETS[name].fetch if name in DATASETS else None
    if download is None:
        known = ", ".join(name for name, kind in DATASETS.items() if kind.fetch)
        raise ConfigError("download", f"{name} cannot be downloaded; expected one of {known}")
    download(place(name, root).folder)


def options_of(name: str, options: Options) -> Options:
    """The options of a dataset, those at their default left out. Raises `ConfigError`."""
    function = DATASETS[name].load if name in DATASETS else resolve(name)[0]
    return fit_options(function, options, given=())


def _place(name: str, root: str | None, expected: str = "") -> Place | None:
    return place(name, root, expected) if name in DATASETS and DATASETS[name].files else None


@functools.lru_cache(maxsize=2)
def _load(name: str, options: Options, where: Place | None) -> Dataset:
    if name in DATASETS:
        return DATASETS[name].load(*([where] if where else []), **dict(options))
    function, source = resolve(name)
    dataset = from_mapping(name, function(**dict(fit_options(function, options, given=()))))
    manifest = []
    for subset in map(dataset.subset, SUBSETS):
        assert isinstance(subset.images, np.ndarray)
        manifest.append(hash_arrays(subset.images, subset.labels))
    return dataclasses.replace(dataset, fingerprint=digest([source, dataset.classes, manifest], 16))


def task_arrays(task: Task, subset: str, root: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images of a task and their labels, as `tasks.members` chooses them."""
    whole = load(task.dataset, root).subset(subset)
    indices, labels = members(task, subset, whole.labels)
    assert isinstance(whole.images, np.ndarray)
    return whole.images[indices], labels
