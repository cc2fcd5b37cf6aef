"""Folders of images: what is listed, in what order, what is kept of it, and what is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import SETS, pixels_of, settle, write_folder

from trainers import datasets
from trainers.config import ConfigError, DatasetInfo, DatasetRef, freeze_options
from trainers.datasets import listings
from trainers.datasets.images import DataError

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

        monkeypatch.setattr(listings.os, "scandir", refusing)
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
