"""Files of a store in a folder of this machine, or of a disk that machines share."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.fs as pafs

from orchestrator.errors import StoreError
from orchestrator.store.files import Entry, Files, reason_of
from trainers import whole_file

# Errors of a disk that may pass: somebody makes room, a network disk is mounted again.
PASSING = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.ENODEV,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
}


class LocalFiles(Files):
    """A folder. A file is written beside its place, flushed to the disk and renamed into place."""

    def __init__(self, folder: str | Path):
        try:
            self.root = self.base = str(Path(folder).expanduser().absolute())
            self.root.encode()
        except RuntimeError as error:
            raise StoreError(f"store {folder}: {error}") from error
        except UnicodeEncodeError as error:
            raise StoreError(
                f"the path of the store, {str(Path(folder).absolute())!r}, is not UTF-8: rename "
                "its folder, or name another one with --store"
            ) from error
        self.fs = pafs.LocalFileSystem()
        doing = f"look at {self.root}"
        self.is_made = self.patiently(doing, Path(self.root).is_dir)
        if not self.is_made and self.patiently(doing, Path(self.root).exists):
            self.is_made = self.patiently(doing, Path(self.root).is_dir)  # another run made it
            if not self.is_made:
                raise StoreError(f"store {self.root} is a file; expected a folder")

    def shown(self, path: str) -> str:
        return path

    def transient(self, error: OSError) -> bool:
        return error.errno in PASSING

    def make(self) -> None:
        try:
            whole_file.make_folder(Path(self.root))
        except OSError as error:
            raise StoreError(f"cannot make {self.root}: {reason_of(error)}") from error
        self.is_made = True

    def require(self) -> None:
        self.is_made = True
        self.patiently("find the store", self._look_for_root)

    def _look_for_root(self) -> None:
        """Raise `OSError` if the root has gone. A new one could be on another disk."""
        if self.is_made and not Path(self.root).is_dir():
            raise OSError(errno.ENODEV, f"the folder {self.root} is gone")

    def glance(self, folders: Sequence[str]) -> object:
        return [self._changed(folder) for folder in folders]

    @staticmethod
    def _changed(folder: str) -> int:
        """Return when a name came or went in a folder, in ns since 1970; 0 without the folder."""
        try:
            return Path(folder).stat().st_mtime_ns
        except OSError:
            return 0

    def put(self, path: str, data: bytes | memoryview, beside: Sequence[str] = ()) -> None:
        def write() -> None:
            self._look_for_root()
            self._require(beside)
            whole_file.write(Path(path), data)
            self.is_made = True

        try:
            self.patiently(f"write {path}", write)
        except FileNotFoundError as error:
            if beside:
                raise
            raise StoreError(f"cannot write {path}: {reason_of(error)}") from error

    def delete(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.patiently(f"delete {path}", Path(path).unlink)

    def settle(self, folder: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.patiently(f"flush {folder}", lambda: whole_file.flush(Path(folder)))

    def drop(self, folder: str) -> None:
        with contextlib.suppress(OSError):  # something else is there
            Path(folder).rmdir()

    def walk(self, folder: str) -> Iterator[Entry]:
        yield from self.patiently(f"list {folder}", lambda: list(self._below(folder)))

    def _below(self, folder: str) -> Iterator[Entry]:
        if Path(folder).is_symlink():
            return

        def fail(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise error

        for parent, _, names in os.walk(folder, onerror=fail):
            for name in names:
                path = f"{parent}/{name}"
                with contextlib.suppress(FileNotFoundError):
                    status = os.lstat(path)
                    if stat.S_ISREG(status.st_mode):
                        yield Entry(path, status.st_size, status.st_mtime)

    def links(self, folders: Sequence[str]) -> list[str]:
        return self.patiently(f"list {self.root}", lambda: sorted(self._links(folders)))

    def _links(self, folders: Sequence[str]) -> Iterator[str]:
        for top in folders:
            if Path(top).is_symlink():
                yield top
                continue
            for parent, below, names in os.walk(top):
                paths = (f"{parent}/{name}" for name in (*below, *names))
                yield from (path for path in paths if Path(path).is_symlink())
