"""The production modules on simulated time, files and randomness.

Each entry replaces a name that a module imports, such as `time` in `store.files`. Nothing else of
the production code is replaced, except for its trainer. Encoding and decoding of Parquet stay as
they are, but the answers for equal input are remembered.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Self

import pyarrow as pa
import pyarrow.dataset as ds

from orchestrator.execution import rows, worker
from orchestrator.store import (
    damage,
    files,
    leases,
    local_files,
    locations,
    node_cache,
    remote_files,
    store,
)
from tests.simulation.disk import Disk, Os, SimPath
from tests.simulation.file_systems import LocalFileSystem, ObjectStore
from tests.simulation.world import Process, World
from trainers import loop, whole_file

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class Room:
    """A world with a disk and an object store, on which the production modules run."""

    def __init__(self, world: World):
        self.world, self.disk = world, Disk(world)
        self.objects = ObjectStore(world)


def time_of(world: World) -> Any:
    def clock() -> float:
        return world.now

    def since_1970() -> float:
        return BEGAN.timestamp() + world.now

    return SimpleNamespace(
        monotonic=clock, perf_counter=lambda: 0.0, time=since_1970, sleep=world.pause
    )


class Datetime:
    """A clock of rows. It stands, so that equal work gives equal rows."""

    @staticmethod
    def now(zone: Any) -> datetime:  # noqa: ARG004
        return BEGAN


class Inline:
    """An executor that does its work at once."""

    def __init__(self, max_workers: int): ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Any:
        result = work(*arguments)
        return SimpleNamespace(result=lambda: result)

    def map(self, work: Callable[[Any], Any], arguments: Sequence[Any]) -> list[Any]:
        return [work(one) for one in arguments]


class Threading:
    """Threads of a process, as processes that die with it."""

    def __init__(self, world: World):
        self.world = world

    def Event(self) -> Event:  # noqa: N802
        return Event(self.world)

    def Thread(self, target: Callable[[], Any], daemon: bool) -> Thread:  # noqa: N802, ARG002
        return Thread(self.world, target)


class Event:
    def __init__(self, world: World):
        self.world, self.is_set_now = world, False
        self.waiting: Process | None = None

    def set(self) -> None:
        self.is_set_now = True
        if self.waiting and self.waiting.alive:
            self.world.make_due(self.waiting)

    def clear(self) -> None:
        self.is_set_now = False

    def is_set(self) -> bool:
        return self.is_set_now

    def wait(self, seconds: float) -> bool:
        if not self.is_set_now:
            self.waiting = self.world.current
            self.world.pause(seconds)
            self.waiting = None
        return self.is_set_now


class Thread:
    def __init__(self, world: World, target: Callable[[], Any]):
        self.world, self.target = world, target

    def start(self) -> None:
        parent = self.world.current
        assert parent is not None
        self.process = self.world.spawn(f"{parent.name} thread", self.target, node=parent.node)
        parent.below.append(self.process)

    def join(self, timeout: float) -> None:
        until = self.world.now + timeout
        while self.process.alive and self.world.now < until:
            self.world.pause(0.05)

    def is_alive(self) -> bool:
        return self.process.alive


class Lock:
    """A lock that all processes of a node see; a process that dies releases it."""

    holders: dict[str, Process | None]

    def __init__(self, world: World, path: Any, timeout: float):
        self.world, self.path, self.timeout = world, str(path), timeout

    def __enter__(self) -> None:
        until = self.world.now + self.timeout
        while (holder := LOCKS.get(self.path)) is not None and holder.alive:
            if self.world.now > until:
                raise TimeoutError
            self.world.pause(0.1)
        LOCKS[self.path] = self.world.current

    def __exit__(self, *_: object) -> None:
        LOCKS.pop(self.path, None)


LOCKS: dict[str, Process | None] = {}


# Parquet ------------------------------------------------------------------------------------------


class Dataset:
    """The part of `pyarrow.dataset.Dataset` that the store uses, with files of a simulated disk."""

    def __init__(self, paths: Sequence[str], filesystem: Any, schema: pa.Schema):
        self.paths, self.filesystem, self.schema = paths, filesystem, schema
        self.fragments: list[Any] = []

    def to_table(self, columns: Sequence[str]) -> pa.Table:
        tables = []
        for path in self.paths:
            read = decoded(self.filesystem.content(path), self.schema)
            if isinstance(read, Exception):
                raise read
            physical, table = read
            self.fragments.append(SimpleNamespace(path=path, physical_schema=physical))
            tables.append(table.select(columns))
        return tables[0] if len(tables) == 1 else pa.concat_tables(tables)

    def get_fragments(self) -> list[Any]:
        return self.fragments


@functools.lru_cache(maxsize=20_000)
def decoded(data: bytes, schema: pa.Schema) -> tuple[pa.Schema, pa.Table] | Exception:
    """Return the schema of a Parquet file and its content, or the error of pyarrow."""
    try:
        fragment = ds.ParquetFileFormat().make_fragment(pa.py_buffer(data))
        physical = fragment.physical_schema
        return physical, fragment.to_table(schema=schema, use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        return error


def dataset(paths: Sequence[str], *, format: str, filesystem: Any, schema: pa.Schema) -> Dataset:
    assert format == "parquet"
    return Dataset(paths, filesystem, schema)


ENCODED: dict[Any, bytes] = {}


def remembering(write: Callable[..., None]) -> Callable[..., None]:
    """Return `Store.write`, which encodes equal rows once."""

    def remembered(self: Any, table: str, path: str, rows: Sequence[Any], **meta: str) -> None:
        key = (table, repr(rows), repr(meta))
        data = ENCODED.get(key)
        if data is None:
            caught: list[bytes] = []
            catcher = SimpleNamespace(put=lambda _, data: caught.append(bytes(data)))
            write(catcher, table, path, rows, **meta)
            data = ENCODED[key] = caught[0]
        self.put(path, data)

    return remembered


# The names to replace ---------------------------------------------------------------------------


def replacements(room: Room, train: Callable[..., Any]) -> list[tuple[Any, str, Any]]:
    """Return the names to replace: module, name, stand-in."""
    world = room.world
    path = functools.partial(SimPath, disk=room.disk)
    system, time = Os(room.disk), time_of(world)
    tokens = SimpleNamespace(token_hex=lambda size: world.token(2 * size))
    socket = SimpleNamespace(gethostname=lambda: "host")
    local = SimpleNamespace(LocalFileSystem=lambda: LocalFileSystem(room.disk))
    temporary = SimpleNamespace(
        gettempdir=lambda: f"/nodes/{world.current.node if world.current else 'head'}"
    )
    memory = SimpleNamespace(**{**vars(ds), "dataset": dataset})
    return [
        (whole_file, "os", system),
        (whole_file, "secrets", tokens),
        (local_files, "os", system),
        (local_files, "Path", path),
        (local_files, "pafs", local),
        (files, "time", time),
        (files, "random", world.random),
        (remote_files, "ThreadPoolExecutor", Inline),
        (locations, "_connect", lambda uri: (room.objects, uri.removeprefix("s3://"))),
        (damage, "ThreadPoolExecutor", Inline),
        (store, "ds", memory),
        (store.Store, "write", remembering(store.Store.write)),
        (node_cache, "Path", path),
        (node_cache, "os", system),
        (node_cache, "tempfile", temporary),
        (node_cache, "FileLock", lambda path, timeout, **_: Lock(world, path, timeout)),
        (leases, "time", time),
        (leases, "os", system),
        (leases, "secrets", tokens),
        (leases, "socket", socket),
        (leases, "threading", Threading(world)),
        (rows, "secrets", tokens),
        (rows, "datetime", Datetime),
        (rows, "socket", socket),
        (worker, "secrets", tokens),
        (worker, "time", time),
        (worker, "datetime", Datetime),
        (loop, "train", train),
    ]


@contextlib.contextmanager
def simulated(room: Room, train: Callable[..., Any]) -> Iterator[None]:
    """Context in which the production modules run in a simulated room."""
    LOCKS.clear()
    old = [(where, name, getattr(where, name)) for where, name, _ in replacements(room, train)]
    try:
        for where, name, new in replacements(room, train):
            setattr(where, name, new)
        yield
    finally:
        for where, name, before in old:
            setattr(where, name, before)
