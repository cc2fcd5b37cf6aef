"""A simulated local disk, below `os` and `pathlib`, that forgets what was not flushed.

Data that was written and not fsynced, and names that were given, changed or removed since the
folder was fsynced, may be lost when the power goes: as in POSIX, and not as one file system
happens to do it. A file may then be old, cut short, or zeros. The operations that a folder did not
flush survive up to a random one of them.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any, NoReturn, Self

from tests.simulation.world import World

SMALL = 8192  # bytes that Python keeps in its own buffer


class File:
    """Content of a file now, and the content that a loss of power leaves."""

    def __init__(self, now: float):
        self.data: bytes = b""
        self.durable: bytes | None = None
        self.written = now

    def cut(self, random: Any) -> None:
        """Lose what was not flushed."""
        if self.durable is self.data:
            return
        choices = [self.data[: random.randrange(len(self.data) + 1)], bytes(len(self.data))]
        self.data = random.choice([*choices, self.durable or b""])
        self.durable = self.data


class Folder:
    """Names in a folder now, the durable ones, and the changes between."""

    def __init__(self) -> None:
        self.entries: dict[str, File | Folder] = {}
        self.durable: dict[str, File | Folder] = {}
        self.pending: list[dict[str, File | Folder | None]] = []

    def change(self, **names: File | Folder | None) -> None:
        """Give or remove names at once; None removes one."""
        self.apply(self.entries, names)
        self.pending.append(names)

    @staticmethod
    def apply(entries: dict[str, Any], names: dict[str, Any]) -> None:
        for name, what in names.items():
            if what is None:
                entries.pop(name, None)
            else:
                entries[name] = what

    def flush(self) -> None:
        self.durable = dict(self.entries)
        self.pending.clear()


class Disk:
    """Files by path. `full`, `read_only` and `broken` let operations fail."""

    def __init__(self, world: World):
        self.world = world
        self.root = Folder()
        self.folders: dict[str, Folder] = {"": self.root}
        self.open: dict[int, Handle] = {}
        self.full = self.read_only = self.broken = False
        self.descriptors = 100

    # Faults -------------------------------------------------------------------------------------

    def lose_power(self, *, wholly: bool = False) -> None:
        """Lose what was not flushed: at random, or all of it. All processes must be dead."""
        random = self.world.random
        self.folders = {"": self.root}
        self.open.clear()
        below = [("", self.root)]
        while below:
            path, folder = below.pop()
            survive = 0 if wholly else random.randrange(len(folder.pending) + 1)
            for names in folder.pending[:survive]:
                Folder.apply(folder.durable, names)
            folder.entries = dict(folder.durable)
            folder.pending.clear()
            for name, what in folder.entries.items():
                if isinstance(what, Folder):
                    self.folders[f"{path}/{name}"] = what
                    below.append((f"{path}/{name}", what))
                else:
                    what.cut(random)

    def detach(self, path: str) -> Folder:
        """Take a folder away, as an unmounted disk does."""
        parent, name = self.parent(path)
        taken = parent.entries.pop(name)
        assert isinstance(taken, Folder)
        for below in [one for one in self.folders if one == path or one.startswith(f"{path}/")]:
            del self.folders[below]
        return taken

    def attach(self, path: str, folder: Folder) -> None:
        """Put a folder back."""
        parent, name = self.parent(path)
        parent.entries[name] = folder
        below = [(path, folder)]
        while below:
            place, one = below.pop()
            self.folders[place] = one
            below += [(f"{place}/{n}", x) for n, x in one.entries.items() if isinstance(x, Folder)]

    def give(self, path: str, data: bytes) -> None:
        """Give a file this content for good, and make it if it is not there."""
        folder, name = self.parent(path)
        file = folder.entries.setdefault(name, File(self.world.time))
        assert isinstance(file, File)
        file.data = file.durable = data
        folder.durable[name] = file

    # For the simulated modules -------------------------------------------------------------------

    def find(self, path: str) -> File | Folder | None:
        """Return what has a path, or None. No operation: nobody else acts meanwhile."""
        parent, _, name = path.rpartition("/")
        folder = self.folders.get(parent)
        if folder is None:
            return None
        return folder.entries.get(name) if name else self.root

    def file(self, path: str) -> File:
        what = self.find(path)
        if what is None:
            fail(errno.ENOENT, path)
        if isinstance(what, Folder):
            fail(errno.EISDIR, path)
        return what

    def parent(self, path: str) -> tuple[Folder, str]:
        parent, _, name = path.rpartition("/")
        folder = self.folders.get(parent)
        if folder is None:
            fail(errno.ENOENT, path)
        return folder, name

    def operate(self, what: str, path: str, *, changes: bool = False) -> None:
        self.world.operate(what, path, changes=changes)
        if self.world.current is None:  # the scenario looks
            return
        if self.broken or self.world.current.node in self.world.cut_off:
            fail(errno.EIO, path)
        if changes and self.read_only:
            fail(errno.EROFS, path)

    def changed(self, path: str) -> None:
        self.world.after(path)

    def make(self, path: str) -> None:
        """Make one folder."""
        self.operate("mkdir", path, changes=True)
        folder, name = self.parent(path)
        if name in folder.entries:
            fail(errno.EEXIST, path)
        folder.change(**{name: (new := Folder())})
        self.folders[path] = new

    def unlink(self, path: str) -> None:
        self.operate("unlink", path, changes=True)
        self.file(path)
        folder, name = self.parent(path)
        folder.change(**{name: None})
        self.changed(path)

    def rmdir(self, path: str) -> None:
        self.operate("rmdir", path, changes=True)
        what = self.find(path)
        if not isinstance(what, Folder):
            fail(errno.ENOENT if what is None else errno.ENOTDIR, path)
        if what.entries:
            fail(errno.ENOTEMPTY, path)
        folder, name = self.parent(path)
        folder.change(**{name: None})
        del self.folders[path]

    def replace(self, path: str, other: str) -> None:
        self.operate("rename", other, changes=True)
        file = self.file(path)
        folder, name = self.parent(path)
        target, new = self.parent(other)
        assert folder is target, "a file is renamed within its folder"
        folder.change(**{name: None, new: file})
        self.changed(other)

    def link(self, path: str, other: str) -> None:
        self.operate("link", other, changes=True)
        file = self.file(path)
        folder, name = self.parent(other)
        if name in folder.entries:
            fail(errno.EEXIST, other)
        folder.change(**{name: file})
        self.changed(other)

    def fsync(self, descriptor: int) -> None:
        handle = self.open[descriptor]
        self.operate("fsync", handle.path, changes=True)
        if isinstance(handle.what, Folder):
            handle.what.flush()
        else:
            handle.what.durable = handle.what.data

    def files(self, folder: str) -> Iterator[tuple[str, File]]:
        """Yield the paths and files in a folder and below. No operation."""
        top = self.folders.get(folder)
        for name, what in list(top.entries.items()) if top else ():
            path = f"{folder}/{name}"
            if isinstance(what, Folder):
                yield from self.files(path)
            else:
                yield path, what


class Handle:
    """An open file, or a descriptor of a folder."""

    def __init__(self, disk: Disk, path: str, what: File | Folder):
        self.disk, self.path, self.what = disk, path, what
        self.buffer: list[bytes] = []
        disk.descriptors += 1
        self.descriptor = disk.descriptors
        disk.open[self.descriptor] = self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self.descriptor

    def write(self, data: bytes | memoryview) -> int:
        self.buffer.append(data if isinstance(data, bytes) else bytes(data))
        if len(data) > SMALL:
            self.flush()
        return len(data)

    def flush(self) -> None:
        if not self.buffer:
            return
        assert isinstance(self.what, File)
        self.disk.operate("write", self.path, changes=True)
        new = self.buffer[0] if len(self.buffer) == 1 else b"".join(self.buffer)
        self.buffer.clear()
        if self.disk.full:
            self.what.data += new[: self.disk.world.random.randrange(len(new) + 1)]
            fail(errno.ENOSPC, self.path)
        self.what.data = self.what.data + new if self.what.data else new
        self.what.written = self.disk.world.time
        self.disk.changed(self.path)

    def close(self) -> None:
        self.flush()
        self.disk.open.pop(self.descriptor, None)


def fail(number: int, path: str) -> NoReturn:
    raise OSError(number, os.strerror(number), path)


class Os:
    """The part of `os` that the store uses, on a simulated disk."""

    O_RDONLY, O_DIRECTORY = os.O_RDONLY, os.O_DIRECTORY
    environ: Mapping[str, str] = MappingProxyType({})
    strerror = staticmethod(os.strerror)

    def __init__(self, disk: Disk):
        self.disk = disk
        self.path = SimpleNamespace(
            lexists=lambda path: disk.find(str(path)) is not None,
        )

    def fsync(self, descriptor: int) -> None:
        self.disk.fsync(descriptor)

    def open(self, path: Any, flags: int) -> int:  # noqa: ARG002
        what = self.disk.find(str(path))
        if what is None:
            fail(errno.ENOENT, str(path))
        return Handle(self.disk, str(path), what).descriptor

    def close(self, descriptor: int) -> None:
        self.disk.open.pop(descriptor, None)

    def lstat(self, path: Any) -> Any:
        return SimPath(str(path), disk=self.disk).lstat()

    def utime(self, path: Any) -> None:
        self.disk.file(str(path)).written = self.disk.world.time

    def getpid(self) -> int:
        return 1

    def getuid(self) -> int:
        return 0

    def walk(self, top: str, onerror: Any = None) -> Iterator[tuple[str, list[str], list[str]]]:
        try:
            self.disk.operate("list", top)
            folder = self.disk.folders.get(top)
            if folder is None:
                fail(errno.ENOENT, top)
        except OSError as error:
            if onerror:
                onerror(error)
            return
        below = [name for name, what in folder.entries.items() if isinstance(what, Folder)]
        yield top, below, [name for name in folder.entries if name not in below]
        for name in below:
            yield from self.walk(f"{top}/{name}", onerror)


class SimPath:
    """The part of `pathlib.Path` that the store uses, on a simulated disk."""

    def __init__(self, *parts: Any, disk: Disk):
        text = str(parts[0]) if len(parts) == 1 else "/".join(map(str, parts))
        self.text, self.disk = text, disk

    def __str__(self) -> str:
        return self.text

    def _other(self, text: str) -> SimPath:
        return SimPath(text, disk=self.disk)

    def __truediv__(self, name: str) -> SimPath:
        return self._other(f"{self.text}/{name}")

    def expanduser(self) -> SimPath:
        return self

    def absolute(self) -> SimPath:
        return self

    @property
    def name(self) -> str:
        return self.text.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return "." + self.name.rpartition(".")[2] if "." in self.name else ""

    @property
    def parent(self) -> SimPath:
        return self._other(self.text.rpartition("/")[0])

    def with_name(self, name: str) -> SimPath:
        return self.parent / name

    def with_suffix(self, suffix: str) -> SimPath:
        return self._other(self.text.removesuffix(self.suffix) + suffix)

    def exists(self) -> bool:
        self.disk.operate("stat", self.text)
        return self.disk.find(self.text) is not None

    def is_file(self) -> bool:
        return isinstance(self.disk.find(self.text), File)

    def is_dir(self) -> bool:
        self.disk.operate("stat", self.text)
        return isinstance(self.disk.find(self.text), Folder)

    def is_symlink(self) -> bool:
        return False

    def lstat(self) -> Any:
        self.disk.operate("stat", self.text)
        what = self.disk.find(self.text)
        if what is None:
            fail(errno.ENOENT, self.text)
        if isinstance(what, Folder):
            return SimpleNamespace(st_mode=stat.S_IFDIR, st_uid=0, st_size=0, st_mtime=0.0)
        mode, size = stat.S_IFREG, len(what.data)
        return SimpleNamespace(st_mode=mode, st_uid=0, st_size=size, st_mtime=what.written)

    stat = lstat

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        what = self.disk.find(self.text)
        if what is not None:
            if isinstance(what, Folder) and exist_ok:
                return
            fail(errno.EEXIST, self.text)
        if parents and self.disk.find(self.parent.text) is None:
            self.parent.mkdir(mode, parents=True, exist_ok=True)
        try:
            self.disk.make(self.text)
        except FileExistsError:
            if not exist_ok:
                raise

    def open(self, mode: str) -> Handle:
        if mode == "rb":
            return Handle(self.disk, self.text, self.disk.file(self.text))
        assert mode in ("wb", "xb")
        self.disk.operate("create", self.text, changes=True)
        folder, name = self.disk.parent(self.text)
        file = File(self.disk.world.time)
        folder.change(**{name: file})
        self.disk.changed(self.text)
        return Handle(self.disk, self.text, file)

    def read_bytes(self) -> bytes:
        self.disk.operate("read", self.text)
        return self.disk.file(self.text).data

    def replace(self, other: SimPath) -> None:
        self.disk.replace(self.text, str(other))

    def hardlink_to(self, other: SimPath) -> None:
        self.disk.link(str(other), self.text)

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self.disk.unlink(self.text)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rmdir(self) -> None:
        self.disk.rmdir(self.text)

    def glob(self, pattern: str) -> list[SimPath]:
        assert pattern == "*"
        folder = self.disk.folders.get(self.text)
        return [self / name for name in folder.entries] if folder else []
