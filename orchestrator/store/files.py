"""Whole files or none: what the store needs of a folder or an object store, with repetition.

`local_files` and `remote_files` are the two kinds; `locations.open_files` opens either.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import random
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import IO, NamedTuple, TypeVar

import pyarrow.fs as pafs

from orchestrator.errors import StoreError

Answer = TypeVar("Answer")
_once: ContextVar[bool] = ContextVar("_once", default=False)  # see `Files.once`

PAUSES = (1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0)  # seconds between attempts, up to a quarter less
PATIENCE = 40.0  # seconds of attempts, after which no other one begins

log = logging.getLogger("layerwise")


class Entry(NamedTuple):
    """A file below the root of a store, as a listing reports it."""

    path: str
    size: int
    written: float
    """Seconds since 1970."""


class Files(ABC):
    """The files below `base`, read and written through `fs`. Paths are those of `fs`."""

    root: str  # its name: a folder or a URI
    base: str
    fs: pafs.FileSystem

    @abstractmethod
    def shown(self, path: str) -> str:
        """Return a path as messages show it."""

    @abstractmethod
    def put(self, path: str, data: bytes | memoryview, beside: Sequence[str] = ()) -> None:
        """Write a whole file, or nothing. Raises `StoreError`.

        With `beside`, nothing is written, or written again, once one of these files has gone: then
        `FileNotFoundError` is raised.
        """

    @abstractmethod
    def delete(self, path: str) -> None:
        """Remove a file. A file that is gone already is no error."""

    def glance(self, folders: Sequence[str]) -> object:  # noqa: ARG002
        """Return a value that differs from the last one if files came or went in these folders.

        It is always the same where only a listing could tell, as in an object store.
        """
        return None

    def settle(self, folder: str) -> None:  # noqa: ARG002
        """Let the names in a folder stay as they are, also after a loss of power."""
        return

    @abstractmethod
    def drop(self, folder: str) -> None:
        """Remove a folder if it is empty. A folder that is gone already is no error."""

    @abstractmethod
    def walk(self, folder: str) -> Iterator[Entry]:
        """Yield every file in a folder and below, hidden ones too. Links are not followed."""

    def links(self, folders: Sequence[str]) -> list[str]:  # noqa: ARG002
        """Return the links among these folders and their contents."""
        return []

    @abstractmethod
    def make(self) -> None:
        """Make the folder, where the store is one. Raises `StoreError`."""

    @abstractmethod
    def require(self) -> None:
        """Wait for the folder, where the store is one. Raises `StoreError` if it stays away."""

    def transient(self, error: OSError) -> bool:  # noqa: ARG002
        """Return whether another attempt may succeed in a while."""
        return False

    def exists(self) -> bool:
        """Return whether the folder or prefix exists."""
        return bool(self._info([self.base])[0].type != pafs.FileType.NotFound)

    def get(self, path: str) -> bytes:
        """Return a whole file. Raises `FileNotFoundError`, `StoreError`."""

        def read() -> bytes:
            with self.fs.open_input_stream(path) as stream:
                data: bytes = stream.read()
            return data

        return self.patiently(f"read {self.shown(path)}", read)

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[IO[bytes]]:
        """Open a file to read parts of it. Raises `FileNotFoundError`, `StoreError`."""
        with self.patiently(f"read {self.shown(path)}", lambda: self.fs.open_input_file(path)) as f:
            yield f

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder; an empty list without the folder.

        Temporary and empty files are left out: the store writes no empty file.
        """
        return names_of(self._infos(folder))

    def entries(self, folder: str) -> list[Entry]:
        """Return the files in a folder that `names` lists; links to files count as files."""
        infos = self._infos(folder)
        return [entry_of(info) for info in infos if info.type == pafs.FileType.File and info.size]

    def _infos(self, folder: str) -> list[pafs.FileInfo]:
        selector = pafs.FileSelector(folder, allow_not_found=True)
        try:
            return self.patiently(
                f"list {self.shown(folder)}", lambda: self.fs.get_file_info(selector)
            )
        except FileNotFoundError:  # it was made between two looks of pyarrow
            return []

    def _require(self, paths: Sequence[str]) -> None:
        """Raise `FileNotFoundError` unless these are files; `OSError` if that cannot be told."""
        infos = self.fs.get_file_info(list(paths)) if paths else []
        if gone := [info.path for info in infos if info.type != pafs.FileType.File]:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), gone[0])

    def present(self, paths: Iterable[str]) -> list[str]:
        """Return the paths that are files."""
        return [info.path for info in self._info(paths) if info.type == pafs.FileType.File]

    def size(self, paths: Iterable[str]) -> int:
        """Return the sum of the sizes of these files, in bytes. A missing file counts as 0."""
        return sum(info.size or 0 for info in self._info(paths))

    def _info(self, paths: Iterable[str]) -> list[pafs.FileInfo]:
        wanted = list(paths)
        if not wanted:
            return []
        infos: list[pafs.FileInfo] = self.patiently(
            f"look at {self.shown(wanted[0])}", lambda: self.fs.get_file_info(wanted)
        )
        return infos

    @contextlib.contextmanager
    def once(self) -> Iterator[None]:
        """Try every action of this thread once, instead of repeating it."""
        token = _once.set(True)
        try:
            yield
        finally:
            _once.reset(token)

    def patiently(self, doing: str, action: Callable[[], Answer]) -> Answer:
        """Return `action()`, repeated for about 40 seconds while its failures may pass.

        `doing` says in messages what failed. Raises `StoreError` for failures that stay or that
        are not `transient`, and `FileNotFoundError`.
        """
        began = time.monotonic()
        pauses: Iterator[float] | None = None
        while True:
            try:
                return action()
            except FileNotFoundError:
                raise
            except OSError as error:
                deadline = began + (0.0 if _once.get() else PATIENCE)
                is_first = pauses is None
                pauses = pauses or iter(PAUSES)
                pause = next(pauses, math.inf)
                if time.monotonic() + pause > deadline or not self.transient(error):
                    raise StoreError(f"cannot {doing}: {reason_of(error)}") from error
                if is_first:
                    log.warning("cannot %s yet, trying again: %s", doing, reason_of(error))
                time.sleep(pause * random.uniform(0.75, 1.0))


def names_of(infos: Iterable[pafs.FileInfo]) -> list[str]:
    """Return the sorted names of files and folders, without temporary and empty files."""
    full = [info.base_name for info in infos if not _is_empty(info)]
    return sorted(name for name in full if not name.startswith("."))


def entry_of(info: pafs.FileInfo) -> Entry:
    return Entry(info.path, info.size or 0, (info.mtime_ns or 0) / 1e9)


def _is_empty(info: pafs.FileInfo) -> bool:
    return info.size == 0 and bool(info.type == pafs.FileType.File)


def reason_of(error: Exception) -> str:
    """Return the message of an error in one line, without the provider's request ids."""
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    if match := re.search(r"AWS Error (.*)", text):
        text = match[1]
    return re.sub(r" \(Request ID: [^)]*\)", "", text)
