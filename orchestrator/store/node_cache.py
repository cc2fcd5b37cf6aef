"""Base checkpoints of a remote store, kept once per node for the workers there.

A file is named by the SHA-256 of its content and checked at every read. A stale, damaged or foreign
file is therefore never used: the checkpoint is read from the store again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from trainers import whole_file
from trainers.checkpoint import CheckpointError, verify
from trainers.datasets.places import make_own, node_folder

LARGEST = 8 * 2**30  # bytes of all files together; the least recently used are deleted first
WAIT = 120.0  # seconds to wait for another worker's download before reading the store as well


class NodeCache:
    """A folder on this node's own disk. Where it cannot be used, the store is read instead."""

    def __init__(self, folder: Path, largest: int = LARGEST, wait: float = WAIT):
        self.folder, self.largest, self.wait = folder, largest, wait

    @classmethod
    def of_node(cls) -> NodeCache:
        """Return the cache of this node and user: `LAYERWISE_CACHE`, or a temporary folder."""
        return cls(node_folder())

    def get(self, sha256: str, read: Callable[[], bytes]) -> bytes:
        """Return the file with this hash. Where the cache lacks it, `read()` it and keep it."""
        path = self.folder / sha256
        if (data := self._cached(path)) is not None:
            return data
        with self._lock(path):
            if (data := self._cached(path)) is None:  # no other worker has read it meanwhile
                data = read()
                self._keep(path, data)
        return data

    def _cached(self, path: Path) -> bytes | None:
        try:
            data = verify(path.read_bytes(), path.name)
            os.utime(path)  # the most recently used file is deleted last
        except (OSError, CheckpointError):
            return None
        return data

    def _keep(self, path: Path, data: bytes) -> None:
        with contextlib.suppress(OSError):  # a full disk makes it slower, not wrong
            make_own(self.folder)
            if len(data) <= self.largest:
                self._make_room(len(data))
                whole_file.write(path, data)

    def _make_room(self, size: int) -> None:
        entries = [path for path in self.folder.glob("*") if path.suffix != ".lock"]
        files = [(path.stat(), path) for path in entries if path.is_file()]
        total = sum(stat.st_size for stat, _ in files) + size
        for stat, file in sorted(files, key=lambda item: item[0].st_mtime):
            if total <= self.largest:
                return
            file.unlink(missing_ok=True)
            total -= stat.st_size

    @contextlib.contextmanager
    def _lock(self, path: Path) -> Iterator[None]:
        """Make the other workers of this node wait for the same file, `wait` seconds at most.

        The lock only saves downloads: without one, as after the wait or on a file system that has
        no locks, a worker reads the store as well. The lock of a worker that dies is released.
        """
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # filelock's Timeout is one
                make_own(self.folder)
                name = path.with_suffix(".lock")
                stack.enter_context(FileLock(name, timeout=self.wait, fallback_to_soft=False))
            yield
