"""The production modules on simulated time, files and randomness.

Each entry replaces a name that a module imports, such as `time` in `store.files`. Nothing else of
the production code is replaced, except for its trainer. Encoding and decoding of Parquet stay as
they are, but the answers for equal input are remembered.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, Self

import pyarrow as pa

from orchestrator.execution import assignment, pack, rows, run, worker
from orchestrator.store import (
    compaction,
    files,
    leases,
    local_files,
    locations,
    node_cache,
    ownership,
    parts,
    recovery,
    remote_files,
    removals,
    row_files,
    row_tables,
    survey,
    table_files,
    view,
)
from orchestrator.store.damage import DamagedError
from orchestrator.store.schemas import SCHEMAS, to_table
from orchestrator.store.store import Store
from tests.simulation.disk import Disk, Os, SimPath
from tests.simulation.file_systems import LocalFileSystem, ObjectStore
from tests.simulation.parquet import PARQUET
from tests.simulation.training import Trainers
from tests.simulation.world import BEGAN, Process, World
from trainers import loop, whole_file
from trainers.datasets import places
from trainers.lanes import pack as lanes

GROUP = {"trials": 12, "curves": 12, "classes": 120}  # rows that can be decoded by themselves
LOOSE, ALIKE = 8, 3  # so that a run of 24 trials compacts several times
MOST_MINUTES = 2  # after which the clock of rows stands still


class Room:
    """A world with a disk and an object store, on which the production modules run."""

    def __init__(self, world: World):
        self.world, self.disk = world, Disk(world)
        self.objects = ObjectStore(world)


def time_of(world: World) -> Any:
    def clock() -> float:
        return world.now

    def since_1970() -> float:
        return world.time

    return SimpleNamespace(
        monotonic=clock, perf_counter=lambda: 0.0, time=since_1970, sleep=world.pause
    )


class Datetime:
    """A clock of rows that knows a first attempt at a trial and later ones. So few rows differ."""

    def __init__(self, world: World):
        self.world = world

    def now(self, zone: Any) -> datetime:  # noqa: ARG002
        return BEGAN + timedelta(minutes=min(self.world.tokens(), MOST_MINUTES))


class Inline:
    """An executor that does its work at once."""

    def __init__(self, max_workers: int): ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Done:
        try:
            return Done(work(*arguments))
        except Exception as error:
            return Done(None, error)

    def map(self, work: Callable[[Any], Any], arguments: Sequence[Any]) -> list[Any]:
        return [work(one) for one in arguments]


@dataclass(frozen=True)
class Done:
    """The future of work that is done."""

    answer: Any
    error: Exception | None = None

    def done(self) -> bool:
        return True

    def exception(self) -> Exception | None:
        return self.error

    def result(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.answer


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


# Encoding and decoding ------------------------------------------------------------------------------  # noqa: E501


def remembering(function: Callable[..., Any], key: Callable[..., Any]) -> Callable[..., Any]:
    """Return a pure function that keeps its answers by `key`. An error of damage is an answer."""
    answers: OrderedDict[Any, tuple[Any, tuple[Any, ...] | None]] = OrderedDict()

    def remembered(*arguments: Any, **options: Any) -> Any:
        question = key(*arguments, **options)
        if question in answers:
            answers.move_to_end(question)
        else:
            try:
                answers[question] = function(*arguments, **options), None
            except DamagedError as error:  # which refers to frames, and so to the whole room
                answers[question] = None, error.args
            if len(answers) > MOST_ANSWERS:
                answers.popitem(last=False)
        answer, damage = answers[question]
        if damage is not None:
            raise DamagedError(*damage)
        return answer

    return remembered


MOST_ANSWERS = 4000  # the latest
ENCODE_ROW = remembering(row_files.encode, lambda *rows: repr(rows))
DECODE = row_files.decode
DECODED = remembering(DECODE, lambda file, data, root: (file, data))  # noqa: ARG005


def decode_row(
    file: Any, data: bytes, root: str, tables: Iterable[str] = row_files.TABLES
) -> row_files.Record:
    """Stand for `row_files.decode`. The tables of equal row files are the same objects."""
    record: row_files.Record = DECODED(file, data, root)
    return {table: record[table] for table in record if table in tables}


ENCODE_TABLE = remembering(
    lambda table, rows, meta: table_files.encode(to_table(table, rows), **meta),
    lambda *content: repr(content),
)
DECODE_TABLE = remembering(
    table_files.decode,
    lambda table, data, root, columns=None: (table, data, root, columns and tuple(columns)),
)


class Schemas:
    """The schemas, whose empty tables are made once."""

    def __init__(self, schema: pa.Schema):
        self.schema, self.empty = schema, schema.empty_table()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.schema, name)

    def empty_table(self) -> pa.Table:
        return self.empty


EMPTY_ONCE = {name: Schemas(schema) for name, schema in SCHEMAS.items()}


def to_tables(records: Sequence[Any], columns: Mapping[str, Any]) -> dict[str, pa.Table]:
    """Stand for `row_files.to_tables`, whose records have the same objects again and again."""
    tables = {}
    for table, some in columns.items():
        names = some and tuple(some)
        several = [_table_of(table, one[table], names) for one in records if table in one]
        if len(several) == 1:
            tables[table] = several[0]
        elif several:
            tables[table] = pa.concat_tables(several)
        else:
            tables[table] = _no_rows(table, names)
    return tables


def _table_of(table: str, content: Any, names: tuple[str, ...] | None) -> pa.Table:
    """Return one table of one record. A few columns are taken from the whole table."""
    key = (id(content), names)
    if key in TABLES_OF:
        TABLES_OF.move_to_end(key)
    else:
        if names is None:
            arrow = TO_TABLES([{table: content}], {table: None})[table]
        else:
            arrow = _table_of(table, content, None).select(names)
        TABLES_OF[key] = content, arrow
        if len(TABLES_OF) > 2 * MOST_ANSWERS:
            TABLES_OF.popitem(last=False)
    return TABLES_OF[key][1]


@functools.cache
def _no_rows(table: str, names: tuple[str, ...] | None) -> pa.Table:
    return TO_TABLES([], {table: names})[table]


TO_TABLES = row_files.to_tables
TABLES_OF: OrderedDict[Any, tuple[Any, pa.Table]] = OrderedDict()  # with what keeps ids alive


NOTICE = functools.cache(ownership._notice.__wrapped__)  # of the simulated Parquet
METADATA = remembering(table_files.metadata, lambda *arguments: arguments)


ORIGINALS = {"encode": row_files.encode, "decode": DECODE, "to_tables": TO_TABLES}
REMEMBERED = [
    (row_files, "encode", ENCODE_ROW),
    (row_files, "decode", decode_row),
    (row_files, "to_tables", to_tables),
]


def write(self: Store, table: str, path: str, rows: Sequence[Any], **meta: str) -> None:
    """Stand for `Store.write`, and encode equal rows once."""
    self.put(path, ENCODE_TABLE(table, rows, meta))


class Lines:
    """The format in which the store reads row files of an object store, on a simulated one.

    The real one asks for no size first, and calls an object that is gone a failure of the server.
    """

    def __init__(self, size: int):
        self.size = size

    def make_fragment(self, path: str, objects: Any, file_size: int) -> Lines:  # noqa: ARG002
        self.read = functools.partial(objects.content, path)
        return self

    def to_table(self, schema: Any) -> dict[str, list[Any]]:  # noqa: ARG002
        try:
            data = self.read()
        except FileNotFoundError as error:
            raise OSError("AWS Error NO_SUCH_KEY: the key does not exist") from error
        lines = data.removesuffix(b"\n").split(b"\n")
        return {"line": [SimpleNamespace(as_py=lambda line=line: line) for line in lines]}


# The names to replace ---------------------------------------------------------------------------


def replacements(room: Room, trainers: Trainers) -> list[tuple[Any, str, Any]]:
    """Return the names to replace: module, name, stand-in."""
    world = room.world
    path = functools.partial(SimPath, disk=room.disk)
    system, time = Os(room.disk), time_of(world)
    tokens = SimpleNamespace(token_hex=lambda size: world.token(2 * size))
    of_halves = SimpleNamespace(token_hex=lambda size: world.token(2 * size, " half"))
    socket = SimpleNamespace(gethostname=lambda: "host")
    local = SimpleNamespace(LocalFileSystem=lambda: LocalFileSystem(room.disk))
    owner = SimpleNamespace(getuid=system.getuid, environ=os.environ, path=os.path)

    def node_folder() -> SimPath:
        return path(f"/nodes/{world.current.node if world.current else 'head'}/layerwise-cache-0")

    return [
        (whole_file, "os", system),
        (whole_file, "secrets", of_halves),
        (local_files, "os", system),
        (local_files, "Path", path),
        (local_files, "pafs", local),
        (files, "time", time),
        (files, "random", world.random),
        (remote_files, "ThreadPoolExecutor", Inline),
        (locations, "_connect", lambda uri: (room.objects, uri.removeprefix("s3://"))),
        (remote_files, "_lines", Lines),
        (view, "ThreadPoolExecutor", Inline),
        (pack, "ThreadPoolExecutor", Inline),
        *(one for one in REMEMBERED if getattr(*one[:2]) is ORIGINALS[one[1]]),  # no mutant
        (row_tables, "SCHEMAS", EMPTY_ONCE),
        (ownership, "_notice", NOTICE),
        (parts, "pq", PARQUET),
        (parts, "GROUP", GROUP),
        (recovery, "pq", PARQUET),
        (table_files, "pq", PARQUET),
        (table_files, "decode", DECODE_TABLE),
        (table_files, "metadata", METADATA),
        (Store, "write", write),
        (parts, "secrets", tokens),
        (parts, "_indexes", {}),
        (removals, "secrets", tokens),
        (removals, "time", time),
        (survey, "time", time),
        (run, "LOOSE", LOOSE),
        (compaction, "LOOSE", LOOSE),
        (compaction, "ALIKE", ALIKE),
        (node_cache, "node_folder", node_folder),
        (node_cache, "os", system),
        (places, "os", owner),
        (node_cache, "FileLock", lambda path, timeout, **_: Lock(world, path, timeout)),
        (leases, "time", time),
        (leases, "os", system),
        (leases, "secrets", tokens),
        (leases, "socket", socket),
        (leases, "threading", Threading(world)),
        (rows, "secrets", tokens),
        (rows, "datetime", Datetime(world)),
        (rows, "os", system),
        (rows, "socket", socket),
        (rows, "versions", lambda: "{}"),  # else the commit would decide how long a row is
        (rows, "git_commit", lambda: None),
        (assignment, "git_commit", lambda: None),
        (worker, "secrets", tokens),
        (worker, "time", time),
        (worker.Training.__init__, "__defaults__", (True, time.perf_counter, None)),
        (worker, "datetime", Datetime(world)),
        (loop, "train", trainers.train),
        (loop, "lane", trainers.lane),
        (lanes, "time", time),
        (lanes, "_kind", lambda _: "step"),
        (lanes._Pack, "_step", trainers.step),
    ]


@contextlib.contextmanager
def simulated(room: Room, trainers: Trainers) -> Iterator[None]:
    """Context in which the production modules run in a simulated room."""
    LOCKS.clear()
    old = [(where, name, getattr(where, name)) for where, name, _ in replacements(room, trainers)]
    try:
        for where, name, new in replacements(room, trainers):
            setattr(where, name, new)
        yield
    finally:
        for where, name, before in old:
            setattr(where, name, before)
