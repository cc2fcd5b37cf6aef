"""Mean images: exact sums, and a file that is either whole and fits, or named in an error."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from trainers import checkpoint, means
from trainers.datasets import DataError
from trainers.means import Moments, add_up, keep, kept

SHAPE = (3, 4, 5)
IMAGES = np.random.RandomState(0).randint(0, 256, (50, *SHAPE)).astype(np.uint8)


def moments(step: int = 50) -> Moments:
    return add_up(SHAPE, torch.from_numpy(IMAGES).split(step))


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("step", [1, 7, 50])
def test_sums_do_not_depend_on_the_chunks(step: int) -> None:
    found = moments(step)
    assert found.images == 50
    assert np.array_equal(found.total, IMAGES.sum(0, dtype=np.int64))
    squares = (IMAGES.astype(np.int64) ** 2).sum((0, 2, 3))
    assert np.array_equal(found.squares, squares)
    assert np.array_equal(found.mean, IMAGES.mean(0, dtype=np.float64))
    mean, deviation = found.of_channels()
    assert mean.shape == deviation.shape == (3, 1, 1)
    assert mean.flatten().tolist() == pytest.approx(IMAGES.mean((0, 2, 3)).tolist(), rel=1e-14)
    assert deviation.flatten().tolist() == pytest.approx(IMAGES.std((0, 2, 3)).tolist(), rel=1e-12)


def test_a_constant_channel_has_no_deviation_exactly() -> None:
    """Sums of squares would leave a rounding error if they were not integers."""
    images = torch.full((1000, 2, 9, 9), 253, dtype=torch.uint8)
    assert add_up((2, 9, 9), [images]).of_channels()[1].tolist() == [[[0.0]]] * 2


def test_what_is_kept_is_found_again(tmp_path: Path) -> None:
    root = str(tmp_path / "data")
    assert kept(root, "one", SHAPE) is None
    keep(root, "one", moments())
    found = kept(root, "one", SHAPE)
    assert found is not None
    assert (found.images, names(tmp_path / "data" / "means")) == (50, ["one.safetensors"])
    assert torch.equal(found.total, moments().total)
    assert torch.equal(found.squares, moments().squares)
    assert kept(root, "two", SHAPE) is None


def test_without_a_data_root_nothing_is_kept() -> None:
    keep(None, "one", moments())
    assert kept(None, "one", SHAPE) is None


def test_a_mean_of_another_size_is_refused(tmp_path: Path) -> None:
    keep(str(tmp_path), "one", moments())
    path = re.escape(str(tmp_path / "means" / "one.safetensors"))
    with pytest.raises(
        DataError,
        match=rf"^mean image {path}: expected size \(3, 4, 6\), found \(3, 4, 5\); delete the file",
    ):
        kept(str(tmp_path), "one", (3, 4, 6))


def test_a_damaged_mean_is_refused(tmp_path: Path) -> None:
    keep(str(tmp_path), "one", moments())
    path = tmp_path / "means" / "one.safetensors"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    other = checkpoint.pack({"total": moments().total}, {"images": 50})
    for damaged in (b"", whole[:-9], bytes(flipped), b"no such file", other):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"mean image .*; delete the file, and it is computed"):
            kept(str(tmp_path), "one", SHAPE)


def test_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(means.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        keep(str(tmp_path), "one", moments())
    assert names(tmp_path / "means") == []


def test_who_may_not_write_goes_on_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(means.os, "access", lambda path, _: path != tmp_path)
    keep(str(tmp_path), "one", moments())
    assert names(tmp_path) == []
