"""Checkpoints kept on a machine: read from the store once, checked always, bounded."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from s3_server import S3Server

from orchestrator.node_cache import NodeCache
from orchestrator.store import Store
from trainers.checkpoint import CheckpointError, checksum

DATA = b"weights"
SHA = checksum(DATA)


class Source:
    """A store that counts how often it is read."""

    def __init__(self, data: bytes = DATA):
        self.data, self.reads = data, 0
        self.lock = threading.Lock()

    def __call__(self) -> bytes:
        with self.lock:
            self.reads += 1
        time.sleep(0.05)
        return self.data


def kept(cache: NodeCache) -> list[str]:
    return sorted(path.name for path in cache.folder.iterdir() if path.suffix != ".lock")


def test_many_workers_read_the_store_once(tmp_path: Path) -> None:
    source = Source()
    with ThreadPoolExecutor(8) as workers:
        got = list(workers.map(lambda _: NodeCache(tmp_path / "c").get(SHA, source), range(8)))
    assert got == [DATA] * 8
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
    assert kept(cache) == sorted([a, c])
    assert cache.get(d, lambda: sizes[d]) == b"d" * 21
    assert kept(cache) == sorted([a, c])


def test_a_folder_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in its place, or another user's: the store is read every time."""
    (tmp_path / "file").touch()
    source = Source()
    assert [NodeCache(tmp_path / "file").get(SHA, source) for _ in range(2)] == [DATA] * 2
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert [NodeCache(tmp_path / "c").get(SHA, source) for _ in range(2)] == [DATA] * 2
    assert source.reads == 4
    assert kept(NodeCache(tmp_path / "c")) == []


def test_a_frozen_worker_does_not_hold_up_the_others(tmp_path: Path) -> None:
    with (tmp_path / f"{SHA}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert NodeCache(tmp_path, wait=0.2).get(SHA, Source()) == DATA


def test_an_error_of_the_store_passes_and_keeps_nothing(tmp_path: Path) -> None:
    def missing() -> bytes:
        raise CheckpointError("missing")

    with pytest.raises(CheckpointError):
        NodeCache(tmp_path).get(SHA, missing)
    assert kept(NodeCache(tmp_path)) == []


def test_only_a_remote_store_is_cached(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYERWISE_CACHE", str(tmp_path / "cache"))
    local, remote = Store(tmp_path / "store"), Store(s3.new_bucket())
    for store in (local, remote):
        assert store.put_checkpoint("a", DATA) == SHA
        assert store.get_checkpoint("a", SHA) == DATA
    assert local.get_checkpoint("a", SHA, cached=True) == DATA
    assert not (tmp_path / "cache").exists()
    s3.asked.clear()
    for _ in range(3):
        assert remote.get_checkpoint("a", SHA, cached=True) == DATA
    assert sum(asked.startswith("GET") for asked in s3.asked) == 1
    remote.drop_checkpoints("a")
    with pytest.raises(
        CheckpointError, match=r"^checkpoint s3://bucket-\d+/some/store/.* missing$"
    ):
        remote.get_checkpoint("a", SHA)
