"""CIFAR and MNIST in their published formats: complete, damaged and missing."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pictures import read_again
from trainers import datasets
from trainers.canonical import ConfigError, freeze_options
from trainers.datasets.archives import ARCHIVES
from trainers.datasets.images import DataError

NAMES = ("cifar10", "cifar100", "mnist", "fashion_mnist")
TRAIN, TEST = 6, 2  # images per class in these tests
Write = Callable[[str], Path]


def torchvision_class(name: str) -> Any:
    import torchvision

    return getattr(torchvision.datasets, ARCHIVES[name].torchvision)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def arrays(name: str, each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random images (N, C, H, W) and shuffled labels, `each` per class."""
    random = np.random.RandomState(seed)
    labels = random.permutation(np.repeat(np.arange(len(ARCHIVES[name].classes)), each))
    shape = (len(labels), *ARCHIVES[name].shape)
    return random.randint(0, 256, size=shape).astype(np.uint8), labels


def cifar_files(name: str) -> dict[str, bytes]:
    """Return the files of CIFAR's Python version: pickled dictionaries with rows of 3072 bytes."""
    cls, key = torchvision_class(name), "labels" if name == "cifar10" else "fine_labels"
    files = {cls.meta["filename"]: pickle.dumps({cls.meta["key"]: list(ARCHIVES[name].classes)})}
    for listed, each, seed in ((cls.train_list, TRAIN, 0), (cls.test_list, TEST, 1)):
        images, labels = arrays(name, each, seed)
        batches = [np.array_split(array, len(listed)) for array in (images, labels)]
        for (file, _), some, y in zip(listed, *batches, strict=True):
            batch = {"data": some.reshape(len(some), -1), key: [int(label) for label in y]}
            files[file] = pickle.dumps(batch)
    return files


def idx(array: np.ndarray) -> bytes:
    """Return an IDX file (http://yann.lecun.com/exdb/mnist): magic number, sizes, bytes."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


def mnist_files(name: str) -> dict[str, bytes]:
    files = {}
    for prefix, each, seed in (("train", TRAIN, 0), ("t10k", TEST, 1)):
        images, labels = arrays(name, each, seed)
        files[f"{prefix}-images-idx3-ubyte"] = idx(images[:, 0])
        files[f"{prefix}-labels-idx1-ubyte"] = idx(labels)
    return files


pytestmark = pytest.mark.usefixtures("fresh_data")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A function that writes a small unpacked archive and patches the published facts to fit."""

    def written(name: str) -> Path:
        archive, cls, folder = ARCHIVES[name], torchvision_class(name), tmp_path / name
        n = len(archive.classes)
        small = {"train": (TRAIN,) * n, "test": (TEST,) * n, "held_out": 1}
        if name.startswith("cifar"):
            files, where = cifar_files(name), folder / cls.base_folder
            for attribute in ("train_list", "test_list"):
                known = [[file, md5(files[file])] for file, _ in getattr(cls, attribute)]
                monkeypatch.setattr(cls, attribute, known)
            meta = cls.meta | {"md5": md5(files[cls.meta["filename"]])}
            monkeypatch.setattr(cls, "meta", meta)
        else:
            files, where = mnist_files(name), folder / archive.folder
        where.mkdir(parents=True)
        for file, data in files.items():
            (where / file).write_bytes(data)
        monkeypatch.setitem(ARCHIVES, name, dataclasses.replace(archive, **small))
        return folder

    return written


def loaded(name: str, folder: Path, fingerprint: str = "", **options: Any) -> datasets.Dataset:
    return read_again(name, folder, fingerprint, **{"held_out": 1} | options)


@pytest.mark.parametrize("name", NAMES)
def test_a_complete_copy(name: str, write: Write) -> None:
    data = loaded(name, write(name), ARCHIVES[name].fingerprint)
    images, labels = arrays(name, TRAIN, 0)
    n = len(ARCHIVES[name].classes)
    assert isinstance(data.train.images, np.ndarray)
    assert isinstance(data.validation.images, np.ndarray)
    assert data.train.images.dtype == np.uint8
    assert np.bincount(data.train.labels).tolist() == [TRAIN - 1] * n
    assert np.bincount(data.validation.labels).tolist() == [1] * n
    both = {image.tobytes() for s in (data.train, data.validation) for image in s.images}
    assert both == {image.tobytes() for image in images}
    train = {image.tobytes() for image in data.train.images}
    order = [index for index, image in enumerate(images) if image.tobytes() in train]
    assert (data.train.images == images[order]).all()
    assert (data.train.labels == labels[order]).all()
    test_images, test_labels = arrays(name, TEST, 1)
    assert (data.test.images == test_images).all()
    assert (data.test.labels == test_labels).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_info_equals_the_loaded_dataset(name: str, write: Write) -> None:
    folder = write(name)
    for held_out in (0, 2):
        info = datasets.describe(name, freeze_options({"held_out": held_out}), str(folder))
        data = loaded(name, folder, info.fingerprint, held_out=held_out)
        assert info.classes == data.classes
        for subset in datasets.SUBSETS:
            images, labels = data.subset(subset).images, data.subset(subset).labels
            assert images.shape[1:] == info.shape
            assert tuple(np.bincount(labels)) == getattr(info, subset)


def test_the_published_facts() -> None:
    """Classes, counts and fingerprints are known without the data."""
    for name in NAMES:
        info = datasets.describe(name, ())
        held_out = ARCHIVES[name].held_out
        assert set(info.validation) == {held_out}
        total = 60_000 if "mnist" in name else 50_000
        assert sum(info.train) + sum(info.validation) == total
        assert sum(info.test) == 10_000
        assert len(set(info.classes)) == len(info.classes) == (100 if name == "cifar100" else 10)
    assert len({datasets.describe(name, ()).fingerprint for name in NAMES}) == 4


def test_the_checksums_are_those_of_torchvision() -> None:
    for name in NAMES:
        cls, archive = torchvision_class(name), ARCHIVES[name]
        if name.startswith("cifar"):
            assert archive.files == ((cls.filename, cls.tgz_md5),)
            assert cls.url == archive.url + cls.filename
        else:
            assert archive.files == tuple(cls.resources)
            assert archive.url in cls.mirrors
            labels = [label.split(" - ")[0] for label in cls.classes]
            assert archive.classes == tuple(labels)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_copy(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        loaded(name, tmp_path)
    file, checksum = ARCHIVES[name].files[0]
    assert str(error.value).startswith(
        f"{name} is missing or damaged at {tmp_path}: fetch {file} (md5 {checksum})"
    )
    assert str(error.value).endswith(
        f"from {ARCHIVES[name].url} into {tmp_path / ARCHIVES[name].folder}, or let layerwise do "
        "that: --set dataset.download=true"
    )


def test_a_damaged_cifar(write: Write) -> None:
    folder = write("cifar10")
    batch = folder / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"cifar10 is missing or damaged at {folder}: fetch"):
        loaded("cifar10", folder)


@pytest.mark.parametrize("cut", [5, 100])
def test_a_truncated_mnist(write: Write, cut: int) -> None:
    folder = write("mnist")
    images = folder / "MNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"mnist .*damaged"):
        loaded("mnist", folder)


def test_labels_that_are_not_the_published_ones(write: Write) -> None:
    folder = write("fashion_mnist")
    labels = folder / "FashionMNIST" / "raw" / "train-labels-idx1-ubyte"
    data = bytearray(labels.read_bytes())
    data[-1] = (data[-1] + 1) % 10
    labels.write_bytes(bytes(data))
    with pytest.raises(DataError, match="the train images are not the published ones: "):
        loaded("fashion_mnist", folder)


def test_a_downloaded_cifar_is_unpacked(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A downloaded archive need not be unpacked; an error names a damaged one."""
    folder, cls = write("cifar10"), torchvision_class("cifar10")
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    with tarfile.open(downloads / cls.filename, "w:gz") as tar:
        tar.add(folder / cls.base_folder, cls.base_folder)
    known = ((cls.filename, md5((downloads / cls.filename).read_bytes())),)
    monkeypatch.setitem(ARCHIVES, "cifar10", dataclasses.replace(ARCHIVES["cifar10"], files=known))
    assert len(loaded("cifar10", downloads).test.labels) == 10 * TEST
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / cls.filename).write_bytes(b"half of it")
    with pytest.raises(DataError, match=r"cifar-10-python.tar.gz is damaged: its md5 sum is not"):
        loaded("cifar10", damaged)


def test_a_downloaded_mnist_is_unpacked(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write("mnist")
    known = []
    for path in sorted((folder / "MNIST" / "raw").iterdir()):
        packed = gzip.compress(path.read_bytes())
        (path.parent / f"{path.name}.gz").write_bytes(packed)
        path.unlink()
        known.append((f"{path.name}.gz", md5(packed)))
    published = dataclasses.replace(ARCHIVES["mnist"], files=tuple(known))
    monkeypatch.setitem(ARCHIVES, "mnist", published)
    assert len(loaded("mnist", folder).test.labels) == 10 * TEST


def test_downloading(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that exist are not downloaded again."""
    folder, cls = write("cifar10"), torchvision_class("cifar10")
    monkeypatch.setattr(cls, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    datasets.fetch("cifar10", str(folder))
    with pytest.raises(DataError, match=rf"cannot fetch cifar10 into {tmp_path}/new: "):
        datasets.fetch("cifar10", str(tmp_path / "new"))
    with pytest.raises(ConfigError, match="imagenet cannot be downloaded; expected one of mnist,"):
        datasets.fetch("imagenet", str(tmp_path))
