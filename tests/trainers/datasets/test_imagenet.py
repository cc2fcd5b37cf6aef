"""The published facts of ImageNet, and folders that equal or differ from them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pictures import pixels_of, read_again, write_folder
from trainers import datasets
from trainers.canonical import ConfigError, freeze_options
from trainers.datasets import imagenet
from trainers.datasets.imagenet import ARCHIVES, FINGERPRINT, groups, natural_manmade
from trainers.datasets.images import DataError

WNIDS = ("n01440764", "n01443537", "n02504458", "n03000134")  # three natural, one man-made
PUBLISHED = {
    "train": {"least": 4, "most": 6, "images": 20},
    "val": {"least": 2, "most": 2, "images": 8},
}


pytestmark = pytest.mark.usefixtures("fresh_data", "own_cache")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of four classes; the published facts are patched to describe it."""
    counts = {"train": dict(zip(WNIDS, (4, 5, 6, 5), strict=True)), "val": dict.fromkeys(WNIDS, 2)}
    write_folder(tmp_path / "ilsvrc", counts)
    known = {wnid: groups()[wnid] for wnid in WNIDS}
    monkeypatch.setattr(imagenet, "groups", lambda: known)
    for name, facts in PUBLISHED.items():
        bytes_inside = sum(f.stat().st_size for f in (tmp_path / "ilsvrc" / name).rglob("*.JPEG"))
        size = bytes_inside + 600 * facts["images"]  # with the headers of a tar file
        archive = dataclasses.replace(ARCHIVES[name], **facts, size=size)
        monkeypatch.setitem(ARCHIVES, name, archive)
    return tmp_path / "ilsvrc"


def loaded(folder: Path, fingerprint: str = FINGERPRINT, **options: Any) -> datasets.Dataset:
    return read_again("imagenet", folder, fingerprint, **{"size": 8, "held_out": 1} | options)


def test_the_bundled_classes() -> None:
    assert len(groups()) == 1000
    assert list(groups()) == sorted(groups())
    assert Counter(groups().values()) == {"natural": 449, "man-made": 551}


def test_facts_without_the_images() -> None:
    info = datasets.describe("imagenet", ())
    assert info.classes == tuple(groups())
    assert (info.shape, info.fingerprint) == ((3, 256, 256), FINGERPRINT)
    assert sum(info.train) == 1_281_167 - 50_000
    assert set(info.validation) == set(info.test) == {50}
    assert 732 < min(info.train) + 50 <= max(info.train) + 50 < 1300


def test_the_counts_of_plans_are_near_those_of_the_paper() -> None:
    info = datasets.describe("imagenet", freeze_options({"held_out": 0}))
    halves = natural_manmade(info.classes)
    assert halves is not None
    natural, manmade = (sum(info.train[index] for index in half) for half in halves)
    assert abs(natural - 576_000) < 300
    assert abs(manmade - 705_100) < 300


def test_held_out_0_is_the_papers_choice_and_part_of_the_id() -> None:
    """The 50,000 images serve for validation and test."""
    info = datasets.describe("imagenet", freeze_options({"held_out": 0}))
    assert sum(info.train) == 1_281_167
    assert sum(info.validation) == sum(info.test) == 50_000
    assert datasets.options_of("imagenet", freeze_options({"held_out": 0})) == (("held_out", 0),)
    assert datasets.options_of("imagenet", freeze_options({"held_out": 50, "size": 256})) == ()
    with pytest.raises(ConfigError, match="expected 0 ≤ x < 732, the smallest class"):
        datasets.describe("imagenet", freeze_options({"held_out": 732}))


def test_the_checksums_are_those_of_torchvision() -> None:
    from torchvision.datasets.imagenet import ARCHIVE_META

    assert {name: (a.name, a.md5) for name, a in ARCHIVES.items()} == {
        name: ARCHIVE_META[name] for name in ("train", "val")
    }


def test_natural_and_man_made() -> None:
    halves = natural_manmade(tuple(groups()))
    assert halves is not None
    assert [len(half) for half in halves] == [449, 551]
    assert halves[0][:3] == (0, 1, 2)
    assert natural_manmade(("n03000134", "n01440764", "n01443537")) == ((1, 2), (0,))
    assert natural_manmade(("cat", "n03000134", "n01440764")) is None
    assert natural_manmade(("n01440764", "n01443537")) is None


def test_a_complete_folder(folder: Path) -> None:
    data = loaded(folder)
    assert data.classes == WNIDS
    assert np.bincount(data.train.labels).tolist() == [3, 4, 5, 4]
    assert np.bincount(data.validation.labels).tolist() == [1] * 4
    assert np.bincount(data.test.labels).tolist() == [2] * 4
    assert data.fingerprint == FINGERPRINT
    assert pixels_of(data.test.images).shape == (8, 3, 8, 8)
    assert loaded(folder, held_out=0).validation.labels.tolist() == data.test.labels.tolist()


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        loaded(tmp_path / "nowhere")
    assert str(error.value) == (
        f"imagenet is not at {tmp_path}/nowhere: fetch ILSVRC2012_img_train.tar (md5 "
        "1d675b47d978889d74fa0da5fadfb00e) from https://image-net.org/download.php, and unpack it "
        f"into {tmp_path}/nowhere/train/<wnid>/*.JPEG; or name its folder with dataset.root"
    )


def remove(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        if path.is_dir():
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        else:
            path.unlink()


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        (["train/n02504458"], "train lacks 1 of 4 classes: n02504458: unpack ILSVRC2012_img_train"),
        (["val/n01440764", "val/n01443537"], "val lacks 2 of 4 classes: n01440764, n01443537: unp"),
        (
            ["train/n01440764/n01440764_0.JPEG"],
            "train has 1 classes with a wrong number of images: n01440764 has 3; expected 4 ≤ x",
        ),
        (["train/n01443537/n01443537_0.JPEG"], "train has 19 images, not 20: unpack ILSVRC2012_im"),
        (
            ["val/n01440764/n01440764_1.JPEG"],
            "val has 1 classes with a wrong number of images: n01440764 has 1; expected 2:",
        ),
    ],
)
def test_an_incomplete_folder(folder: Path, removed: list[str], message: str) -> None:
    remove(folder, *removed)
    with pytest.raises(DataError) as error:
        loaded(folder)
    assert str(error.value).startswith(f"{folder}/{message}")


def test_folders_that_are_not_a_class(folder: Path) -> None:
    write_folder(folder, {"train": {"n99999999": 1}})
    with pytest.raises(DataError, match="1 folders that are not a class of ImageNet: n9999"):
        loaded(folder)


def test_images_that_were_resized(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = ARCHIVES["train"]
    monkeypatch.setitem(
        ARCHIVES, "train", dataclasses.replace(archive, size=2 * archive.size + 2**25)
    )
    with pytest.raises(DataError, match=r"cannot be those of an archive of .*: the images were"):
        loaded(folder)


def test_a_plan_made_with_other_data(folder: Path) -> None:
    with pytest.raises(DataError, match=f"now {FINGERPRINT}, then feed"):
        loaded(folder, "feed")
