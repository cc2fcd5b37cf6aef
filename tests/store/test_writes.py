"""Writing, in a folder and on S3: whole files or none. No path leads outside the store."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import StoreError
from orchestrator.store.cleanup import orphans
from orchestrator.store.store import Store
from orchestrator.store.survey import Survey
from tests.stores import ID, files, row


def test_opening_creates_nothing(store: Store) -> None:
    assert store.outcomes() == {}
    assert store.table("trials").num_rows == store.table("curves").num_rows == 0
    assert store.row(ID) is None
    assert store.names("checkpoints", ID) == []
    assert list(store.progress(ID)) == []
    store.delete(store.path("nothing"))
    store.drop_checkpoints(ID)
    assert not store.exists()


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"/file is a file; expected a folder$"):
        Store(tmp_path / "file")


def failing(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failing_write_leaves_what_was_there(
    function: str, local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = local.path("x.bin")
    local.put(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, function, failing)
        with pytest.raises(StoreError) as error:
            local.put(path, b"new")
        with pytest.raises(StoreError):
            local.write_row(row())
    assert str(error.value) == f"cannot write {path}: No space left on device"
    assert files(local) == ["x.bin"]
    assert local.get(path) == b"old"
    local.put(path, b"new")
    assert local.get(path) == b"new"


@pytest.mark.usefixtures("hurried")
def test_a_full_disk(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """`/dev/full` refuses writes, as a full disk does."""
    monkeypatch.setattr(Path, "with_name", lambda *_: Path("/dev/full"))
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    with pytest.raises(StoreError, match="No space left on device"):
        local.put(local.path("x.bin"), b"data")
    assert files(local) == []


def test_a_file_in_the_way_of_a_folder(local: Store) -> None:
    local.put(local.path("rows"), b"")
    with pytest.raises(StoreError, match=rf"^cannot write .*/rows/{ID}-complete-"):
        local.write_row(row())
    assert files(local) == ["rows"]


def test_a_killed_write_is_invisible_and_cleaned_up(
    local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(handle: int) -> None:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        patch.setattr(Path, "unlink", lambda _: None)  # a killed process removes nothing
        with pytest.raises(KeyboardInterrupt):
            local.write_row(row())
    [left] = files(local)
    assert left.startswith(f"rows/.{ID}-complete-aaaaaaaa-")
    assert local.outcomes() == {}
    assert local.table("trials").num_rows == 0
    assert [(Path(w.path).name, w.reason) for w in orphans(Survey.of(local))] == [
        (Path(left).name, "half-written file")
    ]


@pytest.mark.usefixtures("hurried")
def test_a_disk_that_fails_for_a_while_is_waited_for(
    local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening a store and listing its files wait too: a worker would count as dead."""
    local.put_progress(ID, "a0b1c2d3", 1, b"data")
    left, is_dir, lstat = [0], Path.is_dir, os.lstat

    def failing(path: Path) -> None:
        if left[0] and str(path).startswith(local.root):
            left[0] -= 1
            raise OSError(errno.EIO, "Input/output error")

    def failing_is_dir(path: Path) -> bool:
        failing(path)
        return is_dir(path)

    def failing_lstat(path: Path, **options: Any) -> os.stat_result:
        failing(path)
        return lstat(path, **options)

    monkeypatch.setattr(Path, "is_dir", failing_is_dir)
    monkeypatch.setattr(os, "lstat", failing_lstat)
    left[0] = 1
    assert Store(local.root).exists()
    left[0] = 2
    assert [entry.size for entry in local.files.walk(local.path("progress"))] == [4]
    left[0] = 1000
    with pytest.raises(StoreError, match=r"^cannot look at .*: Input/output error$"):
        Store(local.root)
    with pytest.raises(StoreError, match=r"^cannot list .*: Input/output error$"):
        local.drop_progress(ID)


@pytest.mark.parametrize(
    "part", ["..", ".", "", "../x", "a/b", "/etc", ".hidden", "a\0b", "a\n", "ä"]
)
def test_no_path_leads_out(part: str, store: Store) -> None:
    for attempt in (
        lambda: store.path(part),
        lambda: store.write_row(row(id=part)),
        lambda: store.write_row(row(part)),
        lambda: store.write_row(row(attempt=part)),
        lambda: store.put_checkpoint(part, b""),
        lambda: store.write_sweep(part, [], ""),
        lambda: store.names(part),
    ):
        with pytest.raises(StoreError, match=r"cannot name something in the store$"):
            attempt()
    assert not store.exists()
