"""Generated images: described before they are drawn, equal on every machine, complete."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.pictures import pixels_of, read_again
from trainers import datasets
from trainers.canonical import ConfigError, freeze_options
from trainers.datasets import generated
from trainers.datasets.imagenet import natural_manmade
from trainers.datasets.images import DataError

SMALL = {"classes": 4, "images": 12, "test": 2, "size": 16, "held_out": 3}


pytestmark = pytest.mark.usefixtures("fresh_data")


def loaded(root: Path, **options: Any) -> datasets.Dataset:
    options = SMALL | options
    fingerprint = datasets.describe("generated", freeze_options(options)).fingerprint
    return read_again("generated", root, fingerprint, **options)


def hashes(root: Path) -> dict[str, str]:
    files = sorted(root.rglob("*.JPEG"))
    return {str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_the_info_equals_the_loaded_dataset(tmp_path: Path) -> None:
    for options in ({}, {"held_out": 0}, {"classes": 5, "size": 24}):
        info = datasets.describe("generated", freeze_options(SMALL | options))
        data = loaded(tmp_path, **options)
        assert data.classes == info.classes
        for name in datasets.SUBSETS:
            subset = data.subset(name)
            assert subset.images.shape[1:] == info.shape
            assert tuple(np.bincount(subset.labels)) == getattr(info, name)


def test_planning_draws_nothing(tmp_path: Path) -> None:
    datasets.describe("generated", (), str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


def test_half_of_the_classes_are_natural() -> None:
    for classes in (2, 10, 11, 898):
        info = datasets.describe("generated", (("classes", classes), ("images", 10)))
        halves = natural_manmade(info.classes)
        assert halves is not None
        assert [len(half) for half in halves] == [classes // 2, classes - classes // 2]
        assert len(set(info.classes)) == classes


def test_equal_seeds_draw_equal_files(tmp_path: Path) -> None:
    loaded(tmp_path / "a")
    loaded(tmp_path / "b")
    loaded(tmp_path / "c", seed=1)
    a, b, c = (hashes(tmp_path / name) for name in "abc")
    assert len(a) == 4 * (12 + 2)
    assert len(set(a.values())) == len(a)
    assert a == b
    assert not set(a.values()) & set(c.values())


def test_the_folder_looks_like_imagenet(tmp_path: Path) -> None:
    """The names, sizes, aspect ratios and colour modes are as varied as ImageNet's."""
    data = loaded(tmp_path)
    [folder] = tmp_path.iterdir()
    first = data.classes[0]
    assert (folder / "train" / first / f"{first}_0.JPEG").exists()
    assert (folder / "val" / data.classes[3] / "ILSVRC2012_val_00000008.JPEG").exists()
    modes, sizes = [], set()
    for path in folder.rglob("*.JPEG"):
        with Image.open(path) as image:
            modes.append(image.mode)
            sizes.add(image.size)
    assert {mode: modes.count(mode) for mode in set(modes)} == {"RGB": 48, "L": 4, "CMYK": 4}
    assert len(sizes) > 20
    assert all(12 <= side <= 24 for size in sizes for side in size)


def test_classes_can_be_told_apart(tmp_path: Path) -> None:
    """The mean colour classifies images better than chance, and not perfectly."""
    data = loaded(tmp_path, images=40, held_out=10)
    means = [pixels_of(s.images).mean(axis=(2, 3)) for s in (data.train, data.validation)]
    centres = np.stack([means[0][data.train.labels == label].mean(0) for label in range(4)])
    distance = ((means[1][:, None] - centres) ** 2).sum(-1)
    accuracy = (distance.argmin(1) == data.validation.labels).mean()
    assert 0.35 < accuracy < 0.95


def test_several_processes_may_draw_at_once(tmp_path: Path) -> None:
    info = generated.generated_info(generated.GeneratedOptions(**SMALL))

    def draw(_: int) -> None:
        generated._write(tmp_path / "x", info.classes, {"train": 12, "val": 2}, 16, 0)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(draw, range(4)))
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert len(hashes(tmp_path / "x")) == 56


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Image.Image, path: Path, *rest: Any, **options: Any) -> None:  # noqa: ARG001
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DataError, match=r"cannot write generated images to .*No space left on dev"):
        loaded(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_images(tmp_path: Path) -> None:
    loaded(tmp_path)
    [folder] = tmp_path.iterdir()
    next(folder.glob("train/*/*_3.JPEG")).unlink()
    with pytest.raises(DataError, match=f"some generated images in {folder} are missing: remove"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        ({"classes": 1}, "classes", "expected 2 ≤ x ≤ 898"),
        ({"images": 0}, "images", "expected 1 ≤ x ≤ 10000"),
        ({"held_out": 12}, "held_out", "expected 0 ≤ x ≤ 11"),
        ({"size": 0}, "size", "expected pixels, 1 ≤ x ≤ 4096"),
        ({"clases": 3}, "clases", "unknown key 'clases'; did you mean 'classes'?"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        datasets.describe("generated", freeze_options(SMALL | options))
    assert error.value.field == field
    assert str(error.value) == message
