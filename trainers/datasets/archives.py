"""CIFAR and MNIST in their published formats, read and downloaded through torchvision.

Formats: https://www.cs.toronto.edu/~kriz/cifar.html (the Python version),
http://yann.lecun.com/exdb/mnist (IDX) and https://github.com/zalandoresearch/fashion-mnist (IDX).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainers.canonical import digest, require
from trainers.config import DatasetInfo
from trainers.datasets.images import DataError, first_few
from trainers.datasets.places import Place
from trainers.datasets.sets import Dataset, Labelled, divide


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Published facts of a dataset."""

    torchvision: str
    """The name of its class in `torchvision.datasets`."""

    url: str
    """The address that the files are downloaded from, without their names."""

    folder: str
    """The folder in which torchvision looks for the files, relative to its root."""

    files: tuple[tuple[str, str], ...]
    """(name, md5) of each file that is downloaded."""

    classes: tuple[str, ...]

    shape: tuple[int, int, int]
    """(C, H, W) of one image."""

    train: tuple[int, ...]
    """Training images of each class."""

    test: tuple[int, ...]
    """Test images of each class."""

    held_out: int
    """The default of the option `held_out`."""

    @property
    def fingerprint(self) -> str:
        """A hash over the published checksums."""
        return digest([self.torchvision, self.files], 16)


CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
CIFAR100 = """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab
crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout
tulip turtle wardrobe whale willow_tree wolf woman worm"""
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker")

ARCHIVES = {
    "cifar10": Archive(
        torchvision="CIFAR10",
        url="https://www.cs.toronto.edu/~kriz/",
        folder="",
        files=(("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),),
        classes=tuple(CIFAR10.split()),
        shape=(3, 32, 32),
        train=(5000,) * 10,
        test=(1000,) * 10,
        held_out=500,
    ),
    "cifar100": Archive(
        torchvision="CIFAR100",
        url="https://www.cs.toronto.edu/~kriz/",
        folder="",
        files=(("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),),
        classes=tuple(CIFAR100.split()),
        shape=(3, 32, 32),
        train=(500,) * 100,
        test=(100,) * 100,
        held_out=50,
    ),
    "mnist": Archive(
        torchvision="MNIST",
        url="https://ossci-datasets.s3.amazonaws.com/mnist/",
        folder="MNIST/raw",
        files=(
            ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
            ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
            ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
        ),
        classes=tuple("0123456789"),
        shape=(1, 28, 28),
        train=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        test=(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
        held_out=500,
    ),
    "fashion_mnist": Archive(
        torchvision="FashionMNIST",
        url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        folder="FashionMNIST/raw",
        files=(
            ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
        ),
        classes=(*FASHION, "Bag", "Ankle boot"),
        shape=(1, 28, 28),
        train=(6000,) * 10,
        test=(1000,) * 10,
        held_out=500,
    ),
}


class Functions(NamedTuple):
    """The functions of one archive in the registry of datasets."""

    load: Callable[..., Dataset]
    info: Callable[..., DatasetInfo]
    fetch: Callable[[Path], None]


def functions(name: str) -> Functions:
    """Return the functions that load, describe and download dataset `name`."""
    default = ARCHIVES[name].held_out

    def load(place: Place, /, *, held_out: int = default) -> Dataset:
        """Return the dataset, uint8, from its files in the folder of `place`.

        The test images are the published ones. Raises `DataError` for missing or damaged files.

        Options:
            held_out: Images per class that are held out of training for validation, from 0 to
                one less than the smallest class has. With 0 the test set is also the validation
                set.
        """
        return _load(name, place.folder, held_out)

    def info(*, held_out: int = default) -> DatasetInfo:
        """Return the facts that planning needs. Raises `ConfigError` for `held_out`."""
        return _info(ARCHIVES[name], held_out)

    return Functions(load, info, lambda folder: _fetch(name, folder))


def _info(archive: Archive, held_out: int) -> DatasetInfo:
    least = min(archive.train)
    require(0 <= held_out < least, "held_out", f"expected 0 ≤ x < {least}, the smallest class")
    return DatasetInfo(
        classes=archive.classes,
        shape=archive.shape,
        train=tuple(count - held_out for count in archive.train),
        validation=(held_out,) * len(archive.classes) if held_out else archive.test,
        test=archive.test,
        fingerprint=archive.fingerprint,
    )


def _load(name: str, folder: Path, held_out: int) -> Dataset:
    """Load an archive; the images have no names, so their indices decide which are held out."""
    archive = ARCHIVES[name]
    _unpack(archive, folder)
    sets = {}
    for subset, counts in (("train", archive.train), ("test", archive.test)):
        try:
            raw = _torchvision(archive, folder, train=subset == "train")
        except RuntimeError as error:  # torchvision raises it for missing and damaged files
            raise DataError(_missing(name, folder)) from error
        except (OSError, ValueError, AssertionError) as error:  # it asserts that the sizes fit
            raise DataError(
                f"{name} at {folder} is damaged ({error}): remove its files and fetch them again"
            ) from error
        images, labels = _arrays(raw)
        per_class = np.bincount(labels, minlength=len(archive.classes))
        if images.shape[1:] != archive.shape or per_class.tolist() != list(counts):
            raise DataError(
                f"{name} at {folder}: the {subset} images are not the published ones: "
                f"{images.shape}, {first_few([str(n) for n in per_class])} images per class; "
                "remove the files and fetch them again"
            )
        sets[subset] = Labelled(images, [str(index) for index in range(len(labels))], labels)
    three = divide(archive.classes, sets, held_out)
    return Dataset(archive.classes, *three, fingerprint=archive.fingerprint)


def _torchvision(archive: Archive, folder: Path, **options: Any) -> Any:
    import torchvision  # slow to import

    return getattr(torchvision.datasets, archive.torchvision)(str(folder), **options)


def _arrays(raw: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (N, C, H, W), uint8, and labels (N,), int64, of a torchvision dataset."""
    images = np.asarray(raw.data)
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images), np.asarray(raw.targets, np.int64)


def _unpack(archive: Archive, folder: Path) -> None:
    """Unpack downloaded files that are not unpacked yet. Raises `DataError` for a damaged one."""
    from torchvision.datasets.utils import check_integrity, extract_archive

    where = folder / archive.folder
    for name, md5 in archive.files:
        unpacked = where / name.removesuffix(".gz")
        packed = where / name
        if not packed.exists() or (name.endswith(".tar.gz") and _is_unpacked(archive, folder)):
            continue
        if not check_integrity(str(packed), md5):
            raise DataError(f"{packed} is damaged: its md5 sum is not {md5}; fetch it again")
        if name.endswith(".tar.gz") or not unpacked.exists():
            extract_archive(str(packed), str(where))


def _is_unpacked(archive: Archive, folder: Path) -> bool:
    import torchvision

    base = getattr(torchvision.datasets, archive.torchvision).base_folder
    return Path(folder, base).is_dir()


def _missing(name: str, folder: Path) -> str:
    archive = ARCHIVES[name]
    where = folder / archive.folder
    files = ", ".join(f"{file} (md5 {md5})" for file, md5 in archive.files)
    return (
        f"{name} is missing or damaged at {folder}: fetch {files} from {archive.url} into {where}, "
        "or let layerwise do that: --set dataset.download=true"
    )


def _fetch(name: str, folder: Path) -> None:
    """Download the missing files with torchvision, which checks the md5 sums."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _torchvision(ARCHIVES[name], folder, download=True)
    except (RuntimeError, OSError) as error:
        raise DataError(f"cannot fetch {name} into {folder}: {error}") from error
