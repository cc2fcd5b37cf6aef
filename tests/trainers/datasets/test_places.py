"""Places of data: from the sweep, from the environment, or by default."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainers.datasets.images import DataError
from trainers.datasets.places import cache, expand, home, place, portable


def test_without_a_root_a_dataset_has_its_own_folder_in_the_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAYERWISE_DATA", str(tmp_path))
    where = place("cifar10", None, "feed")
    assert where.folder == tmp_path / "cifar10"
    assert where.packs == (tmp_path / "cifar10" / "packs", tmp_path / "packs")
    assert where.expected == "feed"


def test_the_default_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LAYERWISE_DATA")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache() == tmp_path / ".cache" / "layerwise"
    assert home() == tmp_path / ".cache" / "layerwise" / "data"


def test_a_relative_home_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYERWISE_DATA", "data")
    with pytest.raises(DataError, match="LAYERWISE_DATA is 'data': expected an absolute path"):
        home()


def test_a_root_is_the_datasets_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    monkeypatch.setenv("HOME", "/home/me")
    assert place("imagenet", "$SCRATCH/ilsvrc").folder == tmp_path / "ilsvrc"
    assert place("imagenet", "${SCRATCH}/ilsvrc").folder == tmp_path / "ilsvrc"
    assert expand("~/ilsvrc") == Path("/home/me/ilsvrc")
    monkeypatch.delenv("SCRATCH")
    with pytest.raises(DataError, match="environment variable SCRATCH is not set here"):
        place("imagenet", "$SCRATCH/ilsvrc")


def test_a_root_is_sent_in_a_form_that_other_processes_find(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert portable("ilsvrc") == str(tmp_path / "ilsvrc")
    assert portable("$SCRATCH/ilsvrc") == "$SCRATCH/ilsvrc"
    assert portable("~/ilsvrc") == "~/ilsvrc"
    assert portable(None) is None
