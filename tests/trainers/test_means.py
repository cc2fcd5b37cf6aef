"""Mean images: exact sums, and files that are either valid or named in an error."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from trainers import checkpoint
from trainers.datasets import DataError
from trainers.means import Moments, add_up, read, write

SHAPE = (3, 4, 5)
IMAGES = np.random.RandomState(0).randint(0, 256, (50, *SHAPE)).astype(np.uint8)


def moments(step: int = 50) -> Moments:
    return add_up(SHAPE, torch.from_numpy(IMAGES).split(step))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "means" / "one.safetensors"


@pytest.mark.parametrize("step", [1, 7, 50])
def test_sums_do_not_depend_on_the_chunks(step: int) -> None:
    sums = moments(step)
    assert sums.images == 50
    assert np.array_equal(sums.total, IMAGES.sum(0, dtype=np.int64))
    squares = (IMAGES.astype(np.int64) ** 2).sum((0, 2, 3))
    assert np.array_equal(sums.squares, squares)
    assert np.array_equal(sums.mean, IMAGES.mean(0, dtype=np.float64))
    mean, deviation = sums.of_channels()
    assert mean.shape == deviation.shape == (3, 1, 1)
    assert mean.flatten().tolist() == pytest.approx(IMAGES.mean((0, 2, 3)).tolist(), rel=1e-14)
    assert deviation.flatten().tolist() == pytest.approx(IMAGES.std((0, 2, 3)).tolist(), rel=1e-12)


def test_a_constant_channel_has_no_deviation_exactly() -> None:
    """Sums of squares would leave a rounding error if they were not integers."""
    images = torch.full((1000, 2, 9, 9), 253, dtype=torch.uint8)
    assert add_up((2, 9, 9), [images]).of_channels()[1].tolist() == [[[0.0]]] * 2


def test_moments_are_read_as_they_were_written(path: Path) -> None:
    assert read(path, SHAPE) is None
    write(path, moments())
    again = read(path, SHAPE)
    assert again is not None
    assert again.images == 50
    assert torch.equal(again.total, moments().total)
    assert torch.equal(again.squares, moments().squares)
    assert list(path.parent.iterdir()) == [path]
    assert read(path.with_name("two.safetensors"), SHAPE) is None


def test_a_mean_of_another_size_is_refused(path: Path) -> None:
    write(path, moments())
    with pytest.raises(
        DataError,
        match=rf"^mean image {re.escape(str(path))}: expected size \(3, 4, 6\), found \(3, 4, 5\); "
        "delete the file",
    ):
        read(path, (3, 4, 6))


def test_a_damaged_mean_is_refused(path: Path) -> None:
    write(path, moments())
    intact = path.read_bytes()
    flipped = bytearray(intact)
    flipped[-1] ^= 1
    other = checkpoint.pack({"total": moments().total}, {"images": 50})
    for damaged in (b"", intact[:-9], bytes(flipped), b"no such file", other):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"mean image .*; delete the file, and it is computed"):
            read(path, SHAPE)


def test_a_full_disk_leaves_no_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(path, moments())
    assert list(path.parent.iterdir()) == []


def test_a_read_only_folder_gets_no_file(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda folder, _: folder != tmp_path)
    write(path, moments())
    assert list(tmp_path.iterdir()) == []
