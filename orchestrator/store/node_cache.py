"""Base checkpoints of a remote store, kept once per node for the workers there.

A file is named by the SHA-256 of its content and checked at every read. A stale, damaged or foreign
file is therefore never used: the checkpoint is read from the store again.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from trainers import whole_file
from trainers.checkpoint import CheckpointError, verify

LARGEST = 8 * 2**30  # bytes of all files together; the least recently used are deleted first
WAIT = 120.0  # seconds to wait for another worker's download before reading the store as well


class NodeCache:
    """A folder on this node's own disk. Where it cannot be used, the store is read instead."""

    def __init__(self, folder: Path, largest: int = LARGEST, wait: float = WAIT):
        self.folder, self.largest, self.wait = folder, largest, wait

    @classmethod
    def of_node(cls) -> NodeCache:
        """Return the cache of this node and user: `LAYERWISE_CACHE`, or a temporary folder."""
        folder = os.environ.get("LAYERWISE_CACHE")
        default = Path(tempfile.gettempdir(), f"layerwise-cache-{os.getuid()}")
        return cls(Path(folder) if folder else default)

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
            if self._is_ours() and len(data) <= self.largest:
                self._make_room(len(data))
                whole_file.write(path, data)

    def _is_ours(self) -> bool:
        """Make the folder. Return False if another user owns it: it could redirect writes."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.folder.lstat().st_uid == os.getuid()

    def _make_room(self, size: int) -> None:
        files = [(file.stat(), file) for file in self.folder.glob("*") if file.suffix != ".lock"]
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
                if self._is_ours():
                    name = path.with_suffix(".lock")
                    stack.enter_context(FileLock(name, timeout=self.wait, fallback_to_soft=False))
            yield
