"""Checkpoints kept on a node: read from the store once, checked always, bounded in size."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.store.node_cache import NodeCache
from orchestrator.store.store import Store
from tests.s3_server import S3Server
from trainers.checkpoint import CheckpointError, checksum

DATA = b"weights"
ID = "a" * 16
SHA = checksum(DATA)


class Source:
    """A store that counts its reads."""

    def __init__(self, data: bytes = DATA):
        self.data, self.reads = data, 0
        self.lock = threading.Lock()

    def __call__(self) -> bytes:
        with self.lock:
            self.reads += 1
        time.sleep(0.05)
        return self.data


def names(cache: NodeCache) -> list[str]:
    return sorted(path.name for path in cache.folder.iterdir() if path.suffix != ".lock")


def test_many_workers_read_the_store_once(tmp_path: Path) -> None:
    source = Source()
    with ThreadPoolExecutor(8) as workers:
        data = list(workers.map(lambda _: NodeCache(tmp_path / "c").get(SHA, source), range(8)))
    assert data == [DATA] * 8
    assert source.reads == 1


@pytest.mark.parametrize("damage", [b"", b"weightz", b"weights and more"])
def test_a_damaged_file_is_read_again(damage: bytes, tmp_path: Path) -> None:
    cache, source = NodeCache(tmp_path), Source()
    cache.get(SHA, source)
    (tmp_path / SHA).write_bytes(damage)
    assert cache.get(SHA, source) == DATA
    assert (tmp_path / SHA).read_bytes() == DATA
    assert source.reads == 2


def test_the_files_used_longest_ago_go_first(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path, largest=20)
    sizes = {checksum(data): data for data in (b"a" * 8, b"b" * 8, b"c" * 8, b"d" * 21)}
    a, b, c, d = sizes
    for age, sha in ((300, a), (200, b)):
        cache.get(sha, lambda sha=sha: sizes[sha])  # type: ignore[misc]
        os.utime(tmp_path / sha, (time.time() - age,) * 2)
    cache.get(a, Source())  # used again: b is the oldest now
    cache.get(c, lambda: sizes[c])
    assert names(cache) == sorted([a, c])
    assert cache.get(d, lambda: sizes[d]) == b"d" * 21
    assert names(cache) == sorted([a, c])


def test_a_folder_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is read every time if the folder is a file or belongs to another user."""
    (tmp_path / "file").touch()
    source = Source()
    assert [NodeCache(tmp_path / "file").get(SHA, source) for _ in range(2)] == [DATA] * 2
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert [NodeCache(tmp_path / "c").get(SHA, source) for _ in range(2)] == [DATA] * 2
    assert source.reads == 4
    assert names(NodeCache(tmp_path / "c")) == []


def test_a_frozen_worker_does_not_hold_up_the_others(tmp_path: Path) -> None:
    with (tmp_path / f"{SHA}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert NodeCache(tmp_path, wait=0.2).get(SHA, Source()) == DATA


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    cache, source = NodeCache(tmp_path), Source()
    assert [cache.get(SHA, source) for _ in range(2)] == [DATA] * 2
    assert source.reads == 1
    assert names(cache) == [SHA]


HOLDER = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(600)
"""


def test_a_dead_worker_gives_its_lock_back(tmp_path: Path) -> None:
    cache, source = NodeCache(tmp_path, wait=60), Source()
    line = [sys.executable, "-c", HOLDER, str(tmp_path / f"{SHA}.lock")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with ThreadPoolExecutor(1) as worker:
            waiting = worker.submit(cache.get, SHA, source)
            time.sleep(0.3)
            assert not waiting.done()
            assert source.reads == 0
            holder.kill()
            assert waiting.result(timeout=30) == DATA


def test_an_error_of_the_store_passes_and_keeps_nothing(tmp_path: Path) -> None:
    def missing() -> bytes:
        raise CheckpointError("missing")

    with pytest.raises(CheckpointError):
        NodeCache(tmp_path).get(SHA, missing)
    assert names(NodeCache(tmp_path)) == []


def test_only_a_remote_store_is_cached(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYERWISE_CACHE", str(tmp_path / "cache"))
    local, remote = Store(tmp_path / "store"), Store(s3.new_bucket())
    for store in (local, remote):
        assert store.put_checkpoint(ID, DATA) == SHA
        assert store.get_checkpoint(ID, SHA) == DATA
    assert local.get_checkpoint(ID, SHA, cached=True) == DATA
    assert not (tmp_path / "cache").exists()
    s3.asked.clear()
    for _ in range(3):
        assert remote.get_checkpoint(ID, SHA, cached=True) == DATA
    assert sum(asked.startswith("GET") for asked in s3.asked) == 1
    remote.drop_checkpoints(ID)
    with pytest.raises(
        CheckpointError, match=r"^checkpoint s3://bucket-\d+/some/store/.* missing$"
    ):
        remote.get_checkpoint(ID, SHA)
