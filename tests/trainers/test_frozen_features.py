"""Outputs of frozen layers: kept in memory or in a file, also of streamed images."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.trainings import photo_training, result, training
from trainers.frozen_features import KEPT


@functools.cache
def base() -> bytes:
    return result(training(target="A")).checkpoint


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("n", [2, 4])
def test_large_features_are_kept_in_a_file_without_a_name(
    precision: Any, n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    one = training("transfer", n, precision=precision)
    parent = base()
    KEPT.clear()
    in_memory = result(one, parent)
    KEPT.clear()
    in_file = result(one, parent, feature_bytes=0, feature_disk_bytes=2**30)
    [kept] = KEPT._kept.values()
    assert kept.on_disk
    assert not list(tmp_path.glob("layerwise*"))
    assert in_file.cached_layers == in_memory.cached_layers == n
    assert in_file.checkpoint_sha256 == in_memory.checkpoint_sha256
    assert in_file.test == in_memory.test


@pytest.mark.usefixtures("photo_data")
def test_features_of_streamed_images_are_kept() -> None:
    one = photo_training("random", 2)
    expected = result(one)
    KEPT.clear()
    streamed = result(one, whole_bytes=0)
    assert streamed.cached_layers == expected.cached_layers == 2
    assert streamed.checkpoint_sha256 == expected.checkpoint_sha256
    assert streamed.test == expected.test


def test_features_without_room_are_computed_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    KEPT.clear()
    one = training("transfer", 2)
    monkeypatch.setattr(os, "posix_fallocate", full)
    room = {"feature_bytes": 0, "feature_disk_bytes": 2**30}
    assert result(one, base(), **room).cached_layers == 0
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    assert result(one, base(), **room).cached_layers == 0
