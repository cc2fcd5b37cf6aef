"""Folders of images: what is listed, in what order, what is kept of it, and what is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import SETS, picture, pixels_of, settle, write_folder

from trainers import datasets
from trainers.config import ConfigError, DatasetInfo, DatasetRef, freeze_options
from trainers.datasets import folders
from trainers.datasets.folders import listed, scan
from trainers.datasets.images import DataError
from trainers.datasets.places import cache

SMALL = {"size": 8, "held_out": 2}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Nothing is kept from test to test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    datasets._load.cache_clear()
    yield
    datasets._load.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "pets")


def described(folder: Path, **options: Any) -> DatasetInfo:
    datasets._load.cache_clear()
    return datasets.describe("image_folder", freeze_options(SMALL | options), str(folder))


def loaded(folder: Path, fingerprint: str = "", **options: Any) -> datasets.Dataset:
    datasets._load.cache_clear()
    chosen = freeze_options(SMALL | options)
    ref = DatasetRef(name="image_folder", options=chosen, fingerprint=fingerprint)
    return datasets.load(ref, str(folder))


def test_what_a_folder_holds(folder: Path) -> None:
    info = described(folder)
    assert (info.classes, info.shape) == (("cat", "dog"), (3, 8, 8))
    assert (info.train, info.validation, info.test) == ((4, 3), (2, 2), (2, 3))
    assert len(info.fingerprint) == 16
    data = loaded(folder, info.fingerprint)
    assert data.train.images.shape == (7, 3, 8, 8)
    assert data.test.labels.tolist() == [0, 0, 1, 1, 1]
    assert (data.train.labels.dtype, pixels_of(data.train.images).dtype) == (np.int64, np.uint8)


def test_images_are_in_the_order_of_their_names(folder: Path) -> None:
    picture(50).save(folder / "train" / "cat" / "cat_10.JPEG")
    tree = scan(folder / "train")
    assert tree.names == [
        *("cat/cat_0.JPEG", "cat/cat_1.JPEG", "cat/cat_10.JPEG", "cat/cat_2.JPEG"),
        *("cat/cat_3.JPEG", "cat/cat_4.JPEG", "cat/cat_5.JPEG"),
        *(f"dog/dog_{number}.JPEG" for number in range(5)),
    ]
    assert tree.labels.tolist() == [0] * 7 + [1] * 5
    assert tree.sizes.tolist() == [(folder / "train" / n).stat().st_size for n in tree.names]


def test_it_is_the_order_of_torchvision(folder: Path) -> None:
    from torchvision.datasets import ImageFolder

    (folder / "train" / "cat" / "more").mkdir()
    picture(50).save(folder / "train" / "cat" / "more" / "x.png")
    theirs = ImageFolder(str(folder / "train"))
    tree = scan(folder / "train")
    paths = [str(folder / "train" / name) for name in tree.names]
    assert list(zip(paths, tree.labels.tolist(), strict=True)) == theirs.samples
    assert list(tree.classes) == theirs.classes


def test_other_files_are_left_alone(folder: Path) -> None:
    before = described(folder)
    (folder / "train" / "cat" / "notes.txt").write_text("no image")
    (folder / "train" / "cat" / ".hidden.jpg").write_text("no image")
    (folder / "train" / ".git").mkdir()
    (folder / "elsewhere").mkdir()
    assert described(folder) == before


def test_a_test_folder_serves_as_val_does_and_both_are_both(tmp_path: Path) -> None:
    one = write_folder(tmp_path / "one", {"train": SETS["train"], "test": SETS["val"]})
    assert described(one).test == (2, 3)
    three = write_folder(tmp_path / "three", {**SETS, "test": {"cat": 1, "dog": 1}})
    info = described(three, held_out=None)
    assert (info.train, info.validation, info.test) == ((6, 5), (2, 3), (1, 1))
    with pytest.raises(ConfigError, match="has validation and test images of its own"):
        described(three)


# The fingerprint and what is kept -----------------------------------------------------------------


def test_the_fingerprint_is_of_names_and_sizes_and_not_of_the_place(
    folder: Path, tmp_path: Path
) -> None:
    before = described(folder).fingerprint
    shutil.copytree(folder, tmp_path / "copy")
    assert described(tmp_path / "copy").fingerprint == before
    assert described(folder, size=16, held_out=1).fingerprint == before
    (folder / "train" / "cat" / "cat_0.JPEG").rename(folder / "train" / "cat" / "cat_9.JPEG")
    renamed = described(folder).fingerprint
    assert renamed != before
    (folder / "train" / "cat" / "cat_9.JPEG").write_bytes(b"")
    settle(folder / "train" / "cat")
    os.utime(folder / "train" / "cat")
    assert described(folder).fingerprint not in (before, renamed)


def test_a_plan_made_with_other_data_is_refused(folder: Path) -> None:
    before = described(folder).fingerprint
    (folder / "train" / "cat" / "cat_0.JPEG").unlink()
    with pytest.raises(DataError, match=rf"then {before}\); make them equal, or plan again"):
        loaded(folder, before)


def test_a_second_look_reads_no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = listed(folder / "train")
    monkeypatch.setattr(folders, "scan", lambda folder: pytest.fail(f"looked at {folder}"))
    again = listed(folder / "train")
    assert (again.names, again.classes) == (first.names, first.classes)
    assert again.fingerprint == first.fingerprint
    assert again.labels.tolist() == first.labels.tolist()
    assert again.sizes.tolist() == first.sizes.tolist()
    assert again.labels.dtype == again.sizes.dtype == np.int64


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "new class", "deep"])
def test_a_changed_tree_is_looked_at_again(folder: Path, change: str) -> None:
    train = folder / "train"
    (train / "cat" / "more").mkdir()
    settle(folder)
    before = listed(train)
    match change:
        case "added":
            picture(50).save(train / "dog" / "x.png")
        case "removed":
            (train / "dog" / "dog_0.JPEG").unlink()
        case "renamed":
            (train / "dog" / "dog_0.JPEG").rename(train / "dog" / "x.JPEG")
        case "new class":
            write_folder(folder, {"train": {"cow": 2}}, old=False)
        case "deep":
            picture(50).save(train / "cat" / "more" / "x.png")
    assert listed(train).fingerprint == scan(train).fingerprint != before.fingerprint


def test_a_folder_that_changed_just_now_is_not_kept(tmp_path: Path) -> None:
    """Another change might come within the same tick of the folder's clock."""
    folder = write_folder(tmp_path / "pets", old=False)
    listed(folder / "train")
    assert not list(cache().glob("listings/*"))
    settle(folder)
    listed(folder / "train")
    assert len(list(cache().glob("listings/*"))) == 1


@pytest.mark.parametrize("content", [b"", b"no Arrow file", None], ids=["empty", "other", "older"])
def test_a_damaged_listing_is_made_again(
    folder: Path, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is None:
        with monkeypatch.context() as patch:
            patch.setattr(folders, "FORMAT", 0)
            before = listed(folder / "train")
    else:
        before = listed(folder / "train")
        [kept] = cache().glob("listings/*")
        kept.write_bytes(content)
    assert listed(folder / "train").names == before.names


def test_a_home_that_cannot_be_written_costs_only_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(listed(folder / "train").names) == 11


# What is refused ----------------------------------------------------------------------------------


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        described(tmp_path)
    assert str(error.value) == (
        f"no folder train in {tmp_path}: expected train/<class>/<image files>, and "
        "val/<class>/… or test/<class>/…; say where they are with dataset.root"
    )
    write_folder(tmp_path, {"train": {"cat": 1}})
    with pytest.raises(DataError, match="no folder val or test in"):
        described(tmp_path)


def test_no_classes(tmp_path: Path) -> None:
    for name in ("train", "val"):
        (tmp_path / name).mkdir()
    with pytest.raises(
        DataError, match=r"train has no class folders: expected .*train/<class>/<im"
    ):
        described(tmp_path)


def test_empty_classes_are_named(folder: Path) -> None:
    for name in ("ant", "bee", "cow", "eel"):
        (folder / "train" / name).mkdir()
    with pytest.raises(DataError, match="classes without an image: ant, bee, cow and 1 more"):
        described(folder)


def test_classes_that_one_set_lacks(folder: Path) -> None:
    write_folder(folder, {"train": {"cow": 1}})
    with pytest.raises(DataError, match=r"val lacks classes that others have: cow"):
        described(folder)
    write_folder(folder, {"val": {"cow": 1, "eel": 1}})
    with pytest.raises(DataError, match=r"train lacks classes that others have: eel"):
        described(folder)


def test_a_folder_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = folder / "train" / "dog"
    locked.chmod(0)
    if os.access(locked, os.R_OK):  # root may read everything
        look = os.scandir

        def refusing(path: Any) -> Any:
            if Path(path) == locked:
                raise PermissionError(13, "Permission denied", str(path))
            return look(path)

        monkeypatch.setattr(folders.os, "scandir", refusing)
    try:
        with pytest.raises(DataError) as error:
            described(folder)
        assert str(error.value) == f"cannot read data folder {locked}: Permission denied"
    finally:
        locked.chmod(0o755)


def test_a_file_name_that_is_no_text(folder: Path) -> None:
    (folder / "train" / "cat" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    with pytest.raises(DataError, match=r"the name of file '.*' is not UTF-8: rename it"):
        described(folder)


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        ({"size": 0}, "size", "expected pixels, 1 ≤ x ≤ 4096"),
        ({"size": 8.5}, "size", "expected a whole number, found 8.5"),
        ({"resize": "stretch"}, "resize", "expected squash or crop"),
        ({"resize": 3}, "resize", "expected a text, found 3"),
        ({"held_out": "all"}, "held_out", "expected a whole number, found 'all'"),
        ({"held_out": -1}, "held_out", "expected x ≥ 0"),
        ({"sise": 3}, "sise", "unknown key 'sise'; did you mean 'size'?"),
        ({"place": 3}, "place", "unknown key 'place'; known: size, resize, held_out"),
    ],
)
def test_options_that_do_not_fit(
    folder: Path, options: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        described(folder, **options)
    assert error.value.field == field
    assert str(error.value) == message
