"""Packs: read without copying, equal to the files in every pixel, refused when they do not fit."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.pictures import pixels_of, read_again, write_folder
from trainers import datasets
from trainers.canonical import digest
from trainers.datasets import pack_writer, packs
from trainers.datasets.images import DataError
from trainers.datasets.packs import Packed

OPTIONS = {"size": 8, "held_out": 2}
PER_SHARD = 4


pytestmark = pytest.mark.usefixtures("fresh_data", "own_cache")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images, and shards of four of them."""
    monkeypatch.setenv("LAYERWISE_DATA", str(tmp_path / "home"))
    monkeypatch.setattr(pack_writer, "SHARD_BYTES", PER_SHARD * 3 * 8 * 8)
    return write_folder(tmp_path / "pets")


def loaded(folder: Path, fingerprint: str = "", **options: Any) -> datasets.Dataset:
    return read_again("image_folder", folder, fingerprint, **OPTIONS | options)


def packed(folder: Path, target: Path | None = None, **options: Any) -> Path:
    images = loaded(folder, **options).stored
    assert images is not None
    return pack_writer.pack(images, target or folder / "packs", workers=1)


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_a_pack_gives_the_pixels_of_the_files(folder: Path, resize: str) -> None:
    files = loaded(folder, resize=resize)
    pack = packed(folder, resize=resize)
    data = loaded(folder, resize=resize)
    assert files.stored is not None
    assert data.stored is not None
    assert (files.stored.pack, len(data.stored.pack)) == ("", 64)
    assert data.stored.folder == pack
    assert (data.classes, data.fingerprint) == (files.classes, files.fingerprint)
    for name in datasets.SUBSETS:
        ours, theirs = data.subset(name), files.subset(name)
        assert (pixels_of(ours.images) == pixels_of(theirs.images)).all()
        assert ours.labels.tolist() == theirs.labels.tolist()
    for name, labelled in data.stored.sets.items():
        assert list(labelled.names) == list(files.stored.sets[name].names)


def test_gather_copies_images_of_several_shards_in_any_order(folder: Path) -> None:
    packed(folder)
    images = loaded(folder).stored.sets["train"].images  # type: ignore[union-attr]
    assert isinstance(images, Packed)
    assert [len(view) for view in images.views] == [4, 4, 3]
    every = pixels_of(images)
    order = np.array([10, 0, 3, 4, 4, 7, 8])
    out = np.empty((len(order), 3, 8, 8), np.uint8)
    images.gather(order, out)
    assert (out == every[order]).all()


def test_reading_is_not_copying(folder: Path) -> None:
    """Each view lies in the memory map of its file, and no file stays open for it."""
    pack = packed(folder)
    opened = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    before = pa.total_allocated_bytes()
    images = packs.read(pack).sets["train"].images
    assert pa.total_allocated_bytes() == before
    assert len(os.listdir("/proc/self/fd")) == opened  # noqa: PTH208
    assert isinstance(images, Packed)
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    for number, view in enumerate(images.views):
        assert not view.flags.owndata
        assert not view.flags.writeable
        address = view.__array_interface__["data"][0]
        [file] = {
            line[5]
            for line in maps
            if len(line) > 5
            and int(line[0].split("-")[0], 16) <= address < int(line[0].split("-")[1], 16)
        }
        assert file == str(pack / f"train-{number:05d}.arrow")


def test_any_arrow_reader_reads_it(folder: Path) -> None:
    pack = packed(folder)
    with pa.memory_map(str(pack / "val-00001.arrow")) as file:
        table = pa.ipc.open_file(file).read_all()
    assert table.schema.field("image").type == pa.fixed_shape_tensor(pa.uint8(), (3, 8, 8))
    assert table["label"].to_pylist() == [1]
    assert table["name"].to_pylist() == ["dog/dog_2.JPEG"]


def test_a_pack_is_enough(folder: Path) -> None:
    """A node with the pack of the planned data needs no image files."""
    before = loaded(folder)
    pixels = pixels_of(before.train.images)
    packed(folder)
    for name in ("train", "val"):
        shutil.rmtree(folder / name)
    after = loaded(folder, before.fingerprint)
    assert (pixels_of(after.train.images) == pixels).all()
    assert after.fingerprint == before.fingerprint


def test_packs_in_the_home_of_all_data_are_found(folder: Path, tmp_path: Path) -> None:
    packed(folder, tmp_path / "home" / "packs")
    stored = loaded(folder).stored
    assert stored is not None
    assert stored.folder.parent == tmp_path / "home" / "packs"
    assert loaded(folder, size=9).stored.pack == ""  # type: ignore[union-attr]


def test_a_folder_that_changed_after_packing(folder: Path) -> None:
    before = loaded(folder).fingerprint
    pack = packed(folder)
    write_folder(folder, {"train": {"cow": 4}, "val": {"cow": 1}})
    with pytest.raises(DataError) as error:
        loaded(folder)
    assert str(error.value) == (
        f"pack {pack} was made from other files than are in {folder} now, or by a layerwise that "
        "did not hash their contents; "
        f"remove {pack} and make it again with: layerwise pack"
    )
    assert loaded(folder, before).classes == ("cat", "dog")  # the planned data is still there


def test_a_folder_that_serves_two_datasets(folder: Path) -> None:
    """A pack of one dataset does not make its folder stale for the other."""
    images = loaded(folder).stored
    assert images is not None
    known = dataclasses.replace(images, fingerprint="feed")
    pack_writer.pack(known, folder / "packs", workers=1)
    stored = loaded(folder).stored
    assert stored is not None
    assert (stored.pack, stored.fingerprint) == ("", images.fingerprint)


def change(pack: Path, *, rehash: bool = True, **values: Any) -> None:
    manifest = json.loads((pack / "manifest.json").read_text()) | values
    if rehash:
        manifest["hash"] = digest({k: v for k, v in manifest.items() if k != "hash"})
    (pack / "manifest.json").write_text(json.dumps(manifest))


def truncate(pack: Path) -> None:
    shard = pack / "train-00001.arrow"
    shard.write_bytes(shard.read_bytes()[:-1])


def overwrite(pack: Path) -> None:
    shard = pack / "train-00001.arrow"
    shard.write_bytes(b"x" * shard.stat().st_size)


BAD: list[tuple[Callable[[Path], Any], str]] = [
    (
        lambda p: change(p, format=0),
        "pack PACK has an older format, 0, and this layerwise reads",
    ),
    (lambda p: change(p, format=2), "pack PACK has a newer format, 2, and this layerwise reads"),
    (
        lambda p: change(p, rehash=False, size=9),
        "the manifest of pack PACK/manifest.json was chan",
    ),
    (
        lambda p: change(p, fingerprint="feed"),
        "pack PACK holds other images, upright-8-squash-feed; remov",
    ),
    (lambda p: (p / "manifest.json").write_text("{"), "cannot read PACK/manifest.json: Expecting"),
    (lambda p: (p / "manifest.json").write_text("[]"), "cannot read PACK/manifest.json: "),
    (lambda p: (p / "val-00000.arrow").unlink(), "cannot read PACK/val-00000.arrow: "),
    (truncate, "PACK/train-00001.arrow has "),
    (overwrite, "cannot read PACK/train-00001.arrow: "),
]


@pytest.mark.parametrize(("damage", "message"), BAD, ids=[message for _, message in BAD])
def test_an_unusable_pack(folder: Path, damage: Callable[[Path], Any], message: str) -> None:
    pack = packed(folder)
    damage(pack)
    with pytest.raises(DataError) as error:
        loaded(folder)
    assert str(error.value).startswith(message.replace("PACK", str(pack)))
    assert str(error.value).endswith(f"remove {pack} and make it again with: layerwise pack")


def test_verifying_finds_one_wrong_bit(folder: Path) -> None:
    pack = packed(folder)
    progress: list[tuple[int, int]] = []
    assert packs.verify(pack, lambda done, total: progress.append((done, total))) == []
    total = sum(file.stat().st_size for file in pack.glob("*.arrow"))
    assert (len(progress), progress[-1]) == (5, (total, total))
    shard = pack / "val-00000.arrow"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data))
    assert len(loaded(folder).test.labels) == 5  # the quick check does not notice it
    assert packs.verify(pack) == ["val-00000.arrow"]
