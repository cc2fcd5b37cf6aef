"""Write files that are either whole or absent: the one way in which this project writes a file.

The data is written beside the file, flushed to the disk, and renamed into place. A reader sees the
old file or the new one, never a part of either. The name is flushed too: once a function of this
module has returned, a loss of power leaves the file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

LEVELS = 3  # folders of a store above a file: of a trial, of a kind of files, the store itself
NOT_FLUSHED = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}  # file systems that flush no folders


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a new binary file that takes the place of `path` when the block ends.

    Missing parent folders are made. Until the end the data is in `.<name>.<8 hex digits>.tmp` in
    the same folder; only a killed process leaves such a file behind. If the block or the disk
    fails, `path` stays as it was and the half-written file is removed. A link is replaced, and what
    it leads to stays. Raises `OSError`, for devices and folders in place of a file too.
    """
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "it is not a file", str(path))
    make_folder(path.parent)
    with _beside(path, lambda half: half.replace(path)) as file:
        yield file


@contextlib.contextmanager
def _beside(path: Path, finish: Callable[[Path], object]) -> Iterator[BinaryIO]:
    """Yield a new file beside `path`. `finish` receives its path when it is whole."""
    half = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with half.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        finish(half)
    except BaseException:
        with contextlib.suppress(OSError):
            half.unlink()
        raise
    with contextlib.suppress(FileNotFoundError):  # another process has removed it already
        _flush_names(path)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless they are there. Raises `OSError`."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    flush(folder.parent)


def _flush_names(path: Path) -> None:
    """Flush the name of a file, and those of the folders above it.

    Another process may have made one of these, and died before it flushed that.
    """
    folder = path.parent
    for _ in range(LEVELS):
        flush(folder)
        folder = folder.parent


def flush(folder: Path) -> None:
    """Flush the names in a folder to the disk, where its file system can do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder may be writable and not readable
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_FLUSHED:
            raise
    finally:
        os.close(descriptor)


def write(path: Path, data: bytes | memoryview) -> None:
    """Write `data` as the whole content of `path`. Raises `OSError`, as `replacing` does.

    If another process removes the folder or the half-written file meanwhile, it is written again.
    """
    for last in (False, False, True):
        try:
            with replacing(path) as file:
                file.write(data)
            return
        except FileNotFoundError:
            if last:
                raise


def create(path: Path, data: bytes | memoryview) -> None:
    """Write a file that is new, in a folder that exists.

    Raises `FileExistsError` if something has this name, and `OSError` for other failures.
    """
    with _beside(path, lambda half: _name_new(half, path)) as file:
        file.write(data)


def _name_new(half: Path, path: Path) -> None:
    """Give a whole file its name, unless the name is taken."""
    try:
        path.hardlink_to(half)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, such as a mounted bucket
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        half.replace(path)
    else:
        half.unlink()
