"""Datasets in folders of image files: contents, fingerprints, and folders that are refused."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pictures import SETS, picture, pixels_of, read_again, write_folder
from trainers import datasets
from trainers.canonical import ConfigError, freeze_options
from trainers.config import DatasetInfo
from trainers.datasets import listings, pack_writer
from trainers.datasets.images import DataError

SMALL = {"size": 8, "held_out": 2}


pytestmark = pytest.mark.usefixtures("fresh_data", "own_cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "pets")


def described(folder: Path, **options: Any) -> DatasetInfo:
    datasets.forget()
    return datasets.describe("image_folder", freeze_options(SMALL | options), str(folder))


def loaded(folder: Path, fingerprint: str = "", **options: Any) -> datasets.Dataset:
    return read_again("image_folder", folder, fingerprint, **SMALL | options)


def test_the_dataset_of_a_folder(folder: Path) -> None:
    info = described(folder)
    assert (info.classes, info.shape) == (("cat", "dog"), (3, 8, 8))
    assert (info.train, info.validation, info.test) == ((4, 3), (2, 2), (2, 3))
    assert len(info.fingerprint) == 16
    data = loaded(folder, info.fingerprint)
    assert data.train.images.shape == (7, 3, 8, 8)
    assert data.test.labels.tolist() == [0, 0, 1, 1, 1]
    assert (data.train.labels.dtype, pixels_of(data.train.images).dtype) == (np.int64, np.uint8)


def test_other_files_are_passed_over_and_counted(folder: Path) -> None:
    before = described(folder)
    assert before.notes == ()
    cats = folder / "train" / "cat"
    for name in ("notes.txt", "LICENSE", "more.TXT", "raw.psd"):
        (cats / name).write_text("no image")
    (cats / ".hidden.jpg").write_text("no image")
    (folder / "train" / ".git").mkdir()
    (folder / "val" / "index.txt").write_text("no image")
    (cats / "@eaDir").mkdir()
    (cats / "@eaDir" / "cat_0.jpg").write_text("a thumbnail")
    os.mkfifo(cats / "pipe.png")
    (folder / "validation").mkdir()
    (folder / "elsewhere").mkdir()
    after = described(folder)
    assert after.notes == (
        f"{folder}: passed over 1 .psd, 3 .txt, 1 folder @eaDir, 2 hidden, 1 no regular file, "
        "1 without an ending, folder validation (expected train, val, test)",
    )
    assert dataclasses.replace(after, notes=()) == before


@pytest.mark.parametrize("ending", [".gif", ".jfif", ".JPE"])
def test_further_endings_of_images(folder: Path, ending: str) -> None:
    picture(60).save(folder / "train" / "cat" / f"x{ending}", "GIF" if "g" in ending else "JPEG")
    assert described(folder).train == (5, 3)


def test_a_test_folder_alone_serves_as_val_does_and_both_are_two_sets(tmp_path: Path) -> None:
    one = write_folder(tmp_path / "one", {"train": SETS["train"], "test": SETS["val"]})
    assert described(one).test == (2, 3)
    three = write_folder(tmp_path / "three", {**SETS, "test": {"cat": 1, "dog": 1}})
    info = described(three, held_out=None)
    assert (info.train, info.validation, info.test) == ((6, 5), (2, 3), (1, 1))
    with pytest.raises(ConfigError, match="has its own validation images"):
        described(three)


# Fingerprints -------------------------------------------------------------------------------------


def test_the_fingerprint_depends_on_names_and_contents_and_not_on_the_place(
    folder: Path, tmp_path: Path
) -> None:
    before = described(folder).fingerprint
    shutil.copytree(folder, tmp_path / "copy")
    assert described(tmp_path / "copy").fingerprint == before
    assert described(folder, size=16, held_out=1).fingerprint == before
    file = folder / "train" / "cat" / "cat_0.JPEG"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"x")  # of the same name and size
    assert described(folder).fingerprint != before
    file.write_bytes(content)
    assert described(folder).fingerprint == before
    file.rename(folder / "train" / "cat" / "cat_9.JPEG")
    assert described(folder).fingerprint != before


def test_a_plan_made_with_other_data_is_refused(folder: Path) -> None:
    before = described(folder).fingerprint
    (folder / "train" / "cat" / "cat_0.JPEG").unlink()
    with pytest.raises(DataError, match=rf"then {before}\); make them equal, or plan again"):
        loaded(folder, before)


# Equal images -----------------------------------------------------------------------------------


def test_equal_images_in_two_sets_are_refused_or_noted(folder: Path) -> None:
    shutil.copy(folder / "train" / "cat" / "cat_0.JPEG", folder / "val" / "cat" / "other.JPEG")
    with pytest.raises(DataError) as error:
        described(folder, held_out=0)
    assert str(error.value) == (
        "dataset image_folder: 1 images of train and test are equal, such as train/cat/cat_0.JPEG "
        "and val/cat/other.JPEG; remove them from one of the sets, or allow them with "
        "shared_images: true, and the report will say so"
    )
    [note] = described(folder, held_out=0, shared_images=True).notes
    assert note.endswith("val/cat/other.JPEG; shared_images allows it")
    [packed] = described_of_pack(folder, held_out=0, shared_images=True).notes
    assert packed == note


def test_an_image_that_is_twice_in_training_may_be_held_out(folder: Path) -> None:
    shutil.copy(folder / "train" / "cat" / "cat_1.JPEG", folder / "train" / "cat" / "x.JPEG")
    assert described(folder, held_out=0).notes == ()
    message = "1 images of train and validation are equal, such as train/cat/cat_1.JPEG and train/"
    with pytest.raises(DataError, match=message + "cat/x.JPEG"):
        described(folder, held_out=1)


def described_of_pack(folder: Path, **options: Any) -> DatasetInfo:
    """Describe a folder after it was packed."""
    stored = loaded(folder, **options).stored
    assert stored is not None
    pack_writer.pack(stored, folder / "packs", workers=1)
    info = described(folder, **options)
    packed = loaded(folder, **options).stored
    assert packed is not None
    assert packed.pack
    return info


# Refused folders ----------------------------------------------------------------------------------


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        described(tmp_path)
    assert str(error.value) == (
        f"no folder train in {tmp_path}: expected train/<class>/<image files>, and "
        "val/<class>/… or test/<class>/…; name their folder with dataset.root"
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
    with pytest.raises(DataError, match=r"val lacks classes that train has: cow"):
        described(folder)
    write_folder(folder, {"val": {"cow": 1, "eel": 1}})
    with pytest.raises(DataError, match=r"train lacks classes that val has: eel"):
        described(folder)


def test_an_unreadable_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = folder / "train" / "dog"
    locked.chmod(0)
    if os.access(locked, os.R_OK):  # root may read everything
        scandir = os.scandir

        def refusing(path: Any) -> Any:
            if Path(path) == locked:
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(listings.os, "scandir", refusing)
    try:
        with pytest.raises(DataError) as error:
            described(folder)
        assert str(error.value) == f"cannot read data folder {locked}: Permission denied"
    finally:
        locked.chmod(0o755)


def test_a_file_name_that_is_not_utf_8(folder: Path) -> None:
    (folder / "train" / "cat" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    with pytest.raises(DataError, match=r"the name of file '.*' is not UTF-8: rename it"):
        described(folder)


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        ({"size": 0}, "size", "expected pixels, 1 ≤ x ≤ 4096"),
        ({"size": 8.5}, "size", "expected a whole number, found 8.5"),
        ({"resize": "stretch"}, "resize", "expected squash or crop"),
        ({"resize": 3}, "resize", "expected a string, found 3"),
        ({"orientation": "up"}, "orientation", "expected exif or stored"),
        ({"held_out": "all"}, "held_out", "expected a whole number, found 'all'"),
        ({"held_out": -1}, "held_out", "expected x ≥ 0"),
        ({"sise": 3}, "sise", "unknown key 'sise'; did you mean 'size'?"),
        (
            {"place": 3},
            "place",
            "unknown key 'place'; known: size, resize, orientation, held_out, shared_images",
        ),
    ],
)
def test_options_that_do_not_fit(
    folder: Path, options: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        described(folder, **options)
    assert error.value.field == field
    assert str(error.value) == message
