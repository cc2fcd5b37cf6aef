"""Simulated file systems with the interface of pyarrow's: a local one, and an object store.

An object store has whole objects and no renames. Its listings may lag behind, an upload may be cut
short when its process dies, and a request that seems to fail may have succeeded, or succeed later.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Self

import pyarrow as pa
import pyarrow.fs as pafs

from tests.simulation.disk import Disk, File, Folder, fail
from tests.simulation.world import World

UNAVAILABLE = "AWS Error SLOW_DOWN during {} operation: Reduce your rate"
DENIED = "AWS Error ACCESS_DENIED during {} operation: Access Denied"


class Info:
    """The part of `pyarrow.fs.FileInfo` that the store uses."""

    __slots__ = ("base_name", "mtime_ns", "path", "size", "type")

    def __init__(
        self, path: str, type: pafs.FileType, size: int | None = None, mtime_ns: int | None = None
    ):
        self.path, self.type, self.size, self.mtime_ns = path, type, size, mtime_ns
        self.base_name = path.rpartition("/")[2]


FILE, FOLDER, ABSENT = pafs.FileType.File, pafs.FileType.Directory, pafs.FileType.NotFound


class Stream:
    """An open input stream."""

    def __init__(self, data: bytes):
        self.data = data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def read(self) -> bytes:
        return self.data


class Reading(ABC):
    """What both file systems share: they read whole files."""

    @abstractmethod
    def content(self, path: str) -> bytes:
        """Return the content of a file."""

    def open_input_stream(self, path: str) -> Stream:
        return Stream(self.content(path))

    def open_input_file(self, path: str) -> pa.BufferReader:
        return pa.BufferReader(self.content(path))

    def get_file_info(self, what: str | Iterable[str] | pafs.FileSelector) -> Any:
        if isinstance(what, pafs.FileSelector):
            return self.listed(what.base_dir, what.recursive)
        if isinstance(what, str):
            return self.info(what)
        return [self.info(path) for path in what]

    @abstractmethod
    def info(self, path: str) -> Info:
        """Describe what is at a path."""

    @abstractmethod
    def listed(self, folder: str, recursive: bool) -> list[Info]:
        """Describe what is in a folder."""


class LocalFileSystem(Reading):
    """A simulated disk as pyarrow shows it."""

    def __init__(self, disk: Disk):
        self.disk = disk

    def content(self, path: str) -> bytes:
        self.disk.operate("read", path)
        return self.disk.file(path).data

    def info(self, path: str) -> Info:
        self.disk.operate("stat", path)
        return _info(path, self.disk.find(path))

    def listed(self, folder: str, recursive: bool) -> list[Info]:
        assert not recursive
        self.disk.operate("list", folder)
        top = self.disk.folders.get(folder)
        return [_info(f"{folder}/{name}", x) for name, x in top.entries.items()] if top else []


def _info(path: str, what: File | Folder | None) -> Info:
    if what is None:
        return Info(path, ABSENT)
    if isinstance(what, Folder):
        return Info(path, FOLDER)
    return Info(path, FILE, len(what.data), int(what.written * 1e9))


class ObjectStore(Reading):
    """Objects by key."""

    def __init__(self, world: World):
        self.world = world
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.unavailable = self.denied = False
        self.lag = 0.0
        """Seconds until a listing shows a change."""
        self.torn: set[str] = set()
        """Keys of objects that were cut short."""
        self.tears = False
        """A process that dies during an upload leaves a part of it."""
        self.cuts = 0.0
        """Share of uploads that lose their end, and nobody says so."""
        self._folders: dict[str, dict[str, None]] = {}
        """Paths of the objects and prefixes right below each prefix."""
        self._recent: list[tuple[float, str, tuple[bytes, float] | None]] = []

    def operate(self, what: str, path: str, *, changes: bool = False) -> None:
        self.world.operate(what, path, changes=changes)
        if self.world.current is None:  # the scenario looks
            return
        if self.unavailable or self.world.current.node in self.world.cut_off:
            raise OSError(UNAVAILABLE.format(what))
        if changes and self.denied:
            raise OSError(DENIED.format(what))

    def content(self, path: str) -> bytes:
        self.operate("get", path)
        if path not in self.objects:
            fail(errno.ENOENT, path)
        return self.objects[path][0]

    def info(self, path: str) -> Info:
        self.operate("head", path)
        return self._look(path, self.objects)

    def _look(self, path: str, objects: dict[str, tuple[bytes, float]]) -> Info:
        if path in objects:
            data, written = objects[path]
            return Info(path, FILE, len(data), int(written * 1e9))
        if path in self._folders:
            return Info(path, FOLDER)
        return Info(path, ABSENT)

    def listed(self, folder: str, recursive: bool) -> list[Info]:
        self.operate("list", folder)
        if not self._recent or self.world.current is None:
            return list(self._below(folder, recursive))
        objects, top = self._before(self.world.now - self.lag), f"{folder}/"
        infos: dict[str, Info] = {}
        for key, (data, written) in objects.items():
            if not key.startswith(top):
                continue
            end = -1 if recursive else key.find("/", len(top))
            if end < 0:
                infos[key] = Info(key, FILE, len(data), int(written * 1e9))
            elif key[:end] not in infos:
                infos[key[:end]] = Info(key[:end], FOLDER)
        return list(infos.values())

    def _below(self, folder: str, recursive: bool) -> Iterator[Info]:
        for path in self._folders.get(folder, ()):
            if (what := self.objects.get(path)) is not None:
                yield Info(path, FILE, len(what[0]), int(what[1] * 1e9))
            elif recursive:
                yield from self._below(path, recursive)
            else:
                yield Info(path, FOLDER)

    def _name(self, path: str) -> None:
        """Let listings find an object, and the prefixes above it."""
        while (slash := path.rfind("/")) >= 0:
            below = self._folders.setdefault(path[:slash], {})
            if path in below:
                return
            below[path] = None
            path = path[:slash]

    def _forget(self, path: str) -> None:
        """Let listings no longer find an object, nor the prefixes that are empty then."""
        while (slash := path.rfind("/")) >= 0:
            below = self._folders[path[:slash]]
            del below[path]
            path = path[:slash]
            if below:
                return
            del self._folders[path]

    def _before(self, moment: float) -> dict[str, tuple[bytes, float]]:
        """Return the objects at an earlier moment."""
        objects = dict(self.objects)
        self._recent = [one for one in self._recent if one[0] > self.world.now - 60.0]
        for when, key, old in reversed(self._recent):
            if when <= moment:
                break
            if old is None:
                objects.pop(key, None)
            else:
                objects[key] = old
        return objects

    def put(self, path: str, data: bytes, *, torn: bool = False) -> None:
        """Give a key this content. No operation."""
        if self.lag:
            self._recent.append((self.world.now, path, self.objects.get(path)))
        if path not in self.objects:
            self._name(path)
        self.objects[path] = data, self.world.time
        (self.torn.add if torn else self.torn.discard)(path)
        self.world.after(path)

    def remove(self, path: str) -> None:
        """Remove a key. No operation."""
        if self.lag:
            self._recent.append((self.world.now, path, self.objects.get(path)))
        del self.objects[path]
        self._forget(path)
        self.world.after(path)

    def open_output_stream(self, path: str) -> Upload:
        return Upload(self, path)

    def delete_file(self, path: str) -> None:
        self.operate("delete", path, changes=True)
        if path not in self.objects:
            fail(errno.ENOENT, path)
        self.remove(path)

    def delete_dir(self, path: str) -> None:
        self.operate("delete", path, changes=True)


class Upload:
    """An object that is being written. It appears when the stream is closed."""

    def __init__(self, store: ObjectStore, path: str):
        self.store, self.path, self.parts = store, path, []

    def write(self, data: bytes | memoryview) -> None:
        self.parts.append(data if isinstance(data, bytes) else bytes(data))

    def close(self) -> None:
        data = b"".join(self.parts) if len(self.parts) != 1 else self.parts[0]
        process = self.store.world.current
        try:
            self.store.operate("put", self.path, changes=True)
        except OSError:
            if self.store.unavailable and self.store.world.random.random() < 0.3:
                self.store.put(self.path, data)  # only the answer was lost
            raise
        except BaseException:
            if self.store.tears and process is not None:
                size = self.store.world.random.randrange(len(data))
                self.store.put(self.path, data[:size], torn=True)
            raise
        if self.store.cuts and self.store.world.random.random() < self.store.cuts:
            self.store.put(self.path, data[: len(data) // 2], torn=True)
        else:
            self.store.put(self.path, data)
