"""Base checkpoints of a remote store, kept once on each machine for the workers there.

A file is named by the SHA-256 of what is in it and checked at every reading, so a stale, damaged or
foreign one is never used: it is read from the store again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.errors import StoreError
from orchestrator.files import LocalFiles
from trainers.checkpoint import CheckpointError, verify

LARGEST = 8 * 2**30  # bytes of all files together; those used longest ago go first
WAIT = 120.0  # seconds for another worker's download, before reading the store as well


class NodeCache:
    """A folder on this machine's own disk. Where it cannot be used, the store is read instead."""

    def __init__(self, folder: Path, largest: int = LARGEST, wait: float = WAIT):
        self.folder, self.largest, self.wait = folder, largest, wait

    @classmethod
    def of_node(cls) -> NodeCache:
        """The one of this machine and user: `LAYERWISE_CACHE`, or in the temporary folder."""
        folder = os.environ.get("LAYERWISE_CACHE")
        default = Path(tempfile.gettempdir(), f"layerwise-cache-{os.getuid()}")
        return cls(Path(folder) if folder else default)

    def get(self, sha256: str, read: Callable[[], bytes]) -> bytes:
        """What has this hash, from here, else `read()` from the store and kept."""
        path = self.folder / sha256
        if (data := self._kept(path)) is not None:
            return data
        with self._alone(path):
            if (data := self._kept(path)) is None:  # nobody else has read it meanwhile
                data = read()
                self._keep(path, data)
        return data

    def _kept(self, path: Path) -> bytes | None:
        try:
            data = verify(path.read_bytes(), path.name)
            os.utime(path)  # so that it goes last
        except (OSError, CheckpointError):
            return None
        return data

    def _keep(self, path: Path, data: bytes) -> None:
        with contextlib.suppress(OSError, StoreError):  # a full disk makes it slower, not wrong
            if self._is_ours() and len(data) <= self.largest:
                self._make_room(len(data))
                LocalFiles(self.folder).put(str(path), data)

    def _is_ours(self) -> bool:
        """Make the folder. One that another user made could lead writing elsewhere."""
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
    def _alone(self, path: Path) -> Iterator[None]:
        """While this holds, other workers of this machine wait for the same file, but not for ever.

        The lock only spares downloads: a worker that is frozen while it holds it delays the others,
        one that dies gives it back.
        """
        try:
            lock = path.with_suffix(".lock").open("wb") if self._is_ours() else None
        except OSError:
            lock = None
        if lock is None:
            yield
            return
        with lock:
            give_up = time.monotonic() + self.wait
            while time.monotonic() < give_up:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.05)
                except OSError:
                    break  # a file system without locks
            yield
