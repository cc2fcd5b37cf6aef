"""A file is whole or absent, whatever happens while it is written."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainers import whole_file

KILLED = """
import os, sys
from pathlib import Path
from trainers.whole_file import replacing

with replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os._exit(9)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("data", [b"", b"data", memoryview(b"data")])
def test_a_file_in_a_new_folder(data: bytes | memoryview, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.bin"
    whole_file.write(path, data)
    assert path.read_bytes() == bytes(data)
    assert names(path.parent) == ["x.bin"]


def test_the_old_file_is_read_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with whole_file.replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        [half] = tmp_path.glob(".x.bin.*.tmp")
        assert half.read_bytes() == b"new"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["x.bin"]


def test_a_folder_that_is_removed_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, times = tmp_path / "folder" / "x.bin", iter((True, True, False))

    def removing(handle: int) -> None:
        if stat.S_ISREG(os.fstat(handle).st_mode) and next(times):
            shutil.rmtree(path.parent)

    monkeypatch.setattr(os, "fsync", removing)
    whole_file.write(path, b"data")
    assert path.read_bytes() == b"data"
    times = iter((True, True, True))
    with pytest.raises(FileNotFoundError):
        whole_file.write(path, b"data")


def test_data_is_flushed_to_the_disk_before_the_rename_and_names_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sync = tmp_path / "new" / "er" / "x.bin", os.fsync
    flushed: list[tuple[Path, bool]] = []

    def noted(handle: int) -> None:
        flushed.append((Path(f"/proc/self/fd/{handle}").resolve(), path.exists()))
        sync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    whole_file.write(path, b"data")
    half = flushed.pop(2)
    assert (half[0].parent, half[1]) == (path.parent, False)
    above = [(path.parent, True), (tmp_path / "new", True), (tmp_path, True)]
    assert flushed == [(tmp_path, False), (tmp_path / "new", False), *above]
    flushed.clear()
    whole_file.write(path, b"more")
    assert flushed[1:] == above  # who made these folders may have died before


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_flushes_no_folders(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, "not for folders")

    monkeypatch.setattr(os, "fsync", refusing)
    whole_file.write(tmp_path / "new" / "x.bin", b"data")
    assert (tmp_path / "new" / "x.bin").read_bytes() == b"data"


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_failed_write_changes_nothing(
    function: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")

    def failing(*_: Any) -> None:
        raise error

    monkeypatch.setattr(os, function, failing)
    with pytest.raises(type(error)):
        whole_file.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x.bin"]


def test_an_error_in_the_block_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"

    def half_write() -> None:
        with whole_file.replacing(path) as file:
            file.write(b"half")
            raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        half_write()
    assert names(tmp_path) == []


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("no folder")
    with pytest.raises(OSError, match="folder"):
        whole_file.write(tmp_path / "folder" / "x.bin", b"data")


def test_a_killed_process_leaves_only_a_hidden_file(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    environment = {**os.environ, "PYTHONPATH": str(Path(whole_file.__file__).parents[1])}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=environment, check=False)
    assert killed.returncode == 9
    assert path.read_bytes() == b"old"
    [half] = tmp_path.glob(".x.bin.*.tmp")
    assert half.read_bytes() == b"half"


@pytest.mark.parametrize("has_links", [True, False])
def test_a_new_file_replaces_nothing(
    has_links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`has_links`: the file system has hard links."""

    def failing(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", failing)
    path, dangling = tmp_path / "x.bin", tmp_path / "link"
    whole_file.create(path, b"data")
    dangling.symlink_to(tmp_path / "nowhere")
    for taken in (path, dangling):
        with pytest.raises(FileExistsError, match="File exists"):
            whole_file.create(taken, b"other")
    with pytest.raises(FileNotFoundError):
        whole_file.create(tmp_path / "folder" / "x.bin", b"data")
    assert path.read_bytes() == b"data"
    assert names(tmp_path) == ["link", "x.bin"]


def test_a_link_is_replaced_and_no_device_is(tmp_path: Path) -> None:
    other, link = tmp_path / "other", tmp_path / "link"
    other.write_bytes(b"of somebody else")
    link.symlink_to(other)
    whole_file.write(link, b"new")
    assert (link.is_symlink(), link.read_bytes(), other.read_bytes()) == (
        *(False, b"new"),
        b"of somebody else",
    )
    for place in (Path("/dev/null"), tmp_path):
        with pytest.raises(FileExistsError, match="it is not a file"):
            whole_file.write(place, b"new")
    assert names(tmp_path) == ["link", "other"]
