"""What is listed of a folder of images, in what order, and when it is looked at again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import picture, settle, write_folder

from trainers.datasets import listings
from trainers.datasets.listings import forget, listed, scan
from trainers.datasets.places import cache


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_folder(tmp_path / "pets")


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


def test_a_second_look_reads_no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = listed(folder / "train")
    monkeypatch.setattr(listings, "scan", lambda folder: pytest.fail(f"looked at {folder}"))
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


def test_a_folder_that_changed_just_now_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another change might come within the same tick of the folder's clock."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = write_folder(tmp_path / "pets", old=False)
    settle(folder, age=-60)  # however slow this machine is
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
            patch.setattr(listings, "FORMAT", 0)
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


def test_forgetting_looks_again(folder: Path) -> None:
    """A file that is overwritten in place changes no folder's time."""
    before = listed(folder / "train").fingerprint
    (folder / "train" / "cat" / "cat_0.JPEG").write_bytes(b"x")
    assert listed(folder / "train").fingerprint == before
    forget(folder)
    assert listed(folder / "train").fingerprint != before
    forget(folder / "nowhere")
