"""Listings of image files: their order, and when a file is read again."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.pictures import picture, write_folder
from trainers.datasets import listings
from trainers.datasets.images import DataError
from trainers.datasets.listings import list_images, scan

hash_file = listings._hash_file

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(listings, "SETTLED", -3600.0)  # these files are new
    return write_folder(tmp_path / "pets")


def test_images_are_sorted_by_name(folder: Path) -> None:
    picture(50).save(folder / "train" / "cat" / "cat_10.JPEG")
    tree = scan(folder / "train")
    assert tree.names == [
        *("cat/cat_0.JPEG", "cat/cat_1.JPEG", "cat/cat_10.JPEG", "cat/cat_2.JPEG"),
        *("cat/cat_3.JPEG", "cat/cat_4.JPEG", "cat/cat_5.JPEG"),
        *(f"dog/dog_{number}.JPEG" for number in range(5)),
    ]
    assert tree.labels.tolist() == [0] * 7 + [1] * 5
    assert tree.sizes.tolist() == [(folder / "train" / n).stat().st_size for n in tree.names]


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["0", "1", "10", "11", "2"], ("0", "1", "2", "10", "11")),
        (["01", "10", "2"], ("01", "2", "10")),
        (["1", "01", "10"], ("01", "1", "10")),  # not different numbers
        (["1", "10", "2", "x"], ("1", "10", "2", "x")),
    ],
)
def test_folders_of_whole_numbers_are_in_their_order(
    tmp_path: Path, names: list[str], ordered: tuple[str, ...]
) -> None:
    tree = scan(write_folder(tmp_path, {"train": dict.fromkeys(names, 1)}) / "train")
    assert tree.classes == ordered
    assert [name.partition("/")[0] for name in tree.names] == list(ordered)


def test_the_order_is_that_of_torchvision(folder: Path) -> None:
    from torchvision.datasets import ImageFolder

    (folder / "train" / "cat" / "more").mkdir()
    picture(50).save(folder / "train" / "cat" / "more" / "x.png")
    theirs = ImageFolder(str(folder / "train"))
    tree = scan(folder / "train")
    paths = [str(folder / "train" / name) for name in tree.names]
    assert list(zip(paths, tree.labels.tolist(), strict=True)) == theirs.samples
    assert list(tree.classes) == theirs.classes


def test_each_content_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = list_images(folder / "train")
    monkeypatch.setattr(listings, "_hash_file", lambda path: pytest.fail(f"read {path}"))
    again = list_images(folder / "train")
    assert (again.names, again.classes) == (first.names, first.classes)
    assert again.fingerprint == first.fingerprint
    assert (again.labels.tolist(), again.sizes.tolist()) == (
        first.labels.tolist(),
        first.sizes.tolist(),
    )
    assert (again.hashes == first.hashes).all()
    assert again.labels.dtype == again.sizes.dtype == np.int64


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "new class", "deep", "in place"])
def test_a_changed_file_alone_is_read_again(
    folder: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a file that is overwritten under the same name, size and time of change."""
    train = folder / "train"
    before = list_images(train)
    file = train / "dog" / "dog_0.JPEG"
    number = 1
    match change:
        case "added":
            picture(50).save(train / "dog" / "x.png")
        case "removed":
            file.unlink()
            number = 0
        case "renamed":
            file.rename(train / "dog" / "x.JPEG")
        case "new class":
            write_folder(folder, {"train": {"cow": 2}})
            number = 2
        case "deep":
            (train / "cat" / "more").mkdir()
            picture(50).save(train / "cat" / "more" / "x.png")
        case "in place":
            status = file.stat()
            file.write_bytes(bytes(status.st_size))
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    hashed = []
    monkeypatch.setattr(
        listings,
        "_hash_file",
        lambda path: hashed.append(path) or hash_file(path),  # type: ignore[func-returns-value]
    )
    assert list_images(train).fingerprint != before.fingerprint
    assert len(hashed) == number


def test_a_file_that_changed_just_now_is_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another change could leave the same times."""
    monkeypatch.setattr(listings, "SETTLED", 3600.0)
    list_images(folder / "train")
    hashed = []
    monkeypatch.setattr(
        listings,
        "_hash_file",
        lambda path: hashed.append(path) or hash_file(path),  # type: ignore[func-returns-value]
    )
    list_images(folder / "train")
    assert len(hashed) == 11


@pytest.mark.parametrize("content", [b"", b"no Arrow file", None], ids=["empty", "other", "older"])
def test_a_damaged_listing_is_made_again(
    folder: Path, content: bytes | None, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is None:
        with monkeypatch.context() as patch:
            patch.setattr(listings, "FORMAT", 1)
            before = list_images(folder / "train")
    else:
        before = list_images(folder / "train")
        [listing] = own_cache.glob("listings/*.arrow")
        listing.write_bytes(content)
    assert list_images(folder / "train").fingerprint == before.fingerprint


def test_a_cache_that_cannot_be_written_costs_only_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(list_images(folder / "train").names) == 11


def test_an_unfinished_listing_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hashing that was stopped goes on where it was, and says how far it is."""
    monkeypatch.setattr(listings, "BLOCK", 2)
    monkeypatch.setattr(listings, "THREADS", 1)
    monkeypatch.setattr(listings, "LINE_SECONDS", -1.0)

    def stopped(path: Path) -> bytes:
        if path.name == "dog_3.JPEG":
            raise DataError("stopped")
        return hash_file(path)

    monkeypatch.setattr(listings, "_hash_file", stopped)
    with pytest.raises(DataError, match="stopped"):
        list_images(folder / "train")
    assert capsys.readouterr().err.splitlines()[-1].endswith("train: 8 of 11 images")
    hashed = []
    monkeypatch.setattr(
        listings,
        "_hash_file",
        lambda path: hashed.append(path.name) or hash_file(path),  # type: ignore[func-returns-value]
    )
    list_images(folder / "train")
    assert hashed == ["dog_2.JPEG", "dog_3.JPEG", "dog_4.JPEG"]
