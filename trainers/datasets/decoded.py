"""Pixels of image files, decoded once for all processes of a node.

For each set of files, the node's folder has a file with one record per image: its pixels and their
checksum. A record whose checksum is wrong was not written yet, or not as a whole, or was damaged,
and is decoded again; so neither a killed process nor a loss of power leaves wrong pixels. While a
process decodes an image it locks the byte of a second file whose offset is the image's index, and
others decode other images meanwhile. The system releases the locks of a process that dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import threading
import time
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path

import filelock
import numpy as np

from trainers.canonical import digest
from trainers.datasets.images import Files
from trainers.datasets.places import make_own, node_folder

FORMAT = 1  # of the records, and of the pixels that `images.decode` makes
SHARE_OF_DISK = 0.25
"""Share of what is free in the node's folder that the records of all sets may take, at most."""

CHECKSUM = 4  # bytes
WAIT = 30.0  # seconds to wait for an image that another process decodes, before decoding it as well
PAUSE = 0.001  # seconds between two looks meanwhile


class DecodedOnce:
    """Image files (`Pixels`), each decoded by one process of this node and read by the others.

    Where the node's folder has no room for them or has no locks, they are decoded at each reading.
    """

    def __init__(self, files: Files):
        self.files = files
        self._lock = threading.Lock()
        self._is_open = False
        self._records: Records | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.files.shape

    def gather(self, indices: np.ndarray, out: np.ndarray) -> None:
        records = self._opened()
        if records is None:
            self.files.gather(indices, out)
            return
        images = list(zip(indices.tolist(), out, strict=True))
        others = [(index, row) for index, row in images if not self._take(records, index, row)]
        for index, row in others:  # decoded by other processes meanwhile
            until = time.monotonic() + WAIT
            while not self._take(records, index, row):
                if time.monotonic() > until:
                    row[:] = self.files.pixels(index)
                    break
                time.sleep(PAUSE)

    def _opened(self) -> Records | None:
        with self._lock:
            if not self._is_open:
                self._records, self._is_open = opened(self.files), True
        return self._records

    def _take(self, records: Records, index: int, row: np.ndarray) -> bool:
        """Copy an image into `row` (C, H, W). False if another process or thread decodes it."""
        if (pixels := records.read(index)) is None:
            with records.claim(index) as is_ours:
                if not is_ours:
                    return False
                if (pixels := records.read(index)) is None:  # nobody has decoded it meanwhile
                    pixels = self.files.pixels(index)
                    records.write(index, pixels)
        row[:] = pixels
        return True


class Records:
    """The pixels of `count` images of `shape` (C, H, W), uint8, in a file of this node."""

    def __init__(self, path: Path, count: int, shape: tuple[int, ...]):
        self.shape = shape
        self.size = int(np.prod(shape)) + CHECKSUM
        self._file = self._open(path)
        os.truncate(self._file, count * self.size)  # no record takes room on the disk yet
        fcntl.flock(self._file, fcntl.LOCK_SH)  # in use: see `_delete_unused`
        os.utime(self._file)
        self._claims = self._open(claims_of(path))
        self._threads = [threading.Lock() for _ in range(64)]

    def _open(self, path: Path) -> int:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        weakref.finalize(self, os.close, descriptor)
        return descriptor

    def read(self, index: int) -> np.ndarray | None:
        """Return the pixels (C, H, W) of an image; None if there is no whole record of it."""
        data = os.pread(self._file, self.size, index * self.size)
        pixels, checksum = memoryview(data)[:-CHECKSUM], data[-CHECKSUM:]
        if len(data) < self.size or _checksum(pixels) != checksum:
            return None
        return np.frombuffer(pixels, np.uint8).reshape(self.shape)

    def write(self, index: int, pixels: np.ndarray) -> None:
        """Keep the pixels of an image, if the disk has room."""
        data = pixels.tobytes()
        with contextlib.suppress(OSError):
            os.pwrite(self._file, data + _checksum(data), index * self.size)

    @contextlib.contextmanager
    def claim(self, index: int) -> Iterator[bool]:
        """Claim an image for this thread; False if another thread or process has claimed it.

        The locks of the system are of whole processes, so threads have some of their own.
        """
        thread = self._threads[index % len(self._threads)]
        if not thread.acquire(blocking=False):
            yield False
            return
        try:
            yield self._lock(index)
        finally:
            with contextlib.suppress(OSError):
                fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, index)
            thread.release()

    def _lock(self, index: int) -> bool:
        """Lock an image for this process; False if another process has it."""
        try:
            fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, index)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:  # a file system without locks: some images are decoded twice
            return True
        return True


def _checksum(pixels: bytes | memoryview) -> bytes:
    return zlib.crc32(pixels).to_bytes(CHECKSUM, "little")


# Closing a file releases all locks that a process has on it, so each is opened once.
_open_here: weakref.WeakValueDictionary[Path, Records] = weakref.WeakValueDictionary()
_opening = threading.Lock()


def opened(files: Files) -> Records | None:
    """Return the records of `files` on this node; None if its folder cannot have them."""
    import PIL

    hashes = hashlib.sha256(files.hashes.tobytes()).hexdigest()
    name = digest([FORMAT, PIL.__version__, files.form, hashes], 32)
    count, *shape = files.shape
    with _opening, contextlib.suppress(OSError):  # filelock's Timeout is one
        make_own(node_folder())
        folder = node_folder() / "images"
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.pixels"
        if (records := _open_here.get(path)) is not None:
            return records
        with filelock.FileLock(folder / ".lock", timeout=WAIT, fallback_to_soft=False):
            size = count * (files.form.bytes + CHECKSUM)
            if not path.exists() and not _make_room(folder, size):
                return None
            records = _open_here[path] = Records(path, count, tuple(shape))
            return records
    return None


def claims_of(path: Path) -> Path:
    """Return the file of the locks beside a file of records."""
    return path.with_suffix(".claims")


def _make_room(folder: Path, size: int) -> bool:
    """Delete unused records, the longest unused first, until `size` bytes more may be kept.

    Returns False if they may not.
    """
    kept = sorted(((path.stat(), path) for path in folder.glob("*.pixels")), key=_last_use)
    taken = sum(stat.st_size for stat, _ in kept)
    written = sum(stat.st_blocks * 512 for stat, _ in kept)
    most = SHARE_OF_DISK * (shutil.disk_usage(folder).free + written)
    if size > most:
        return False
    for stat, path in kept:
        if taken + size <= most:
            break
        if _delete_unused(path):
            taken -= stat.st_size
    return taken + size <= most


def _last_use(kept: tuple[os.stat_result, Path]) -> float:
    return kept[0].st_mtime


def _delete_unused(path: Path) -> bool:
    """Delete the records in a file that no process has open. Returns False if one has."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        path.unlink()
        claims_of(path).unlink(missing_ok=True)
        return True
