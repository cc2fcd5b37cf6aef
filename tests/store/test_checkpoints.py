"""Checkpoints and snapshots in the store, in a folder and on S3: damage is detected."""

from __future__ import annotations

import pytest

from orchestrator.store.store import Store
from tests.stores import ID, files, replace
from trainers.checkpoint import CheckpointError, checksum


def damage(store: Store, *parts: str) -> None:
    """Change one byte of the only file, or of the last one, in a folder."""
    path = store.path(*parts, store.names(*parts)[-1])
    data = bytearray(store.get(path))
    data[len(data) // 2] ^= 1
    replace(store, path, bytes(data))


def test_checkpoints_are_named_by_their_content(store: Store) -> None:
    sha256 = store.put_checkpoint(ID, b"weights")
    assert sha256 == checksum(b"weights")
    assert files(store) == [f"checkpoints/{ID}/{sha256[:16]}.safetensors"]
    assert store.get_checkpoint(ID, sha256) == b"weights"
    store.drop_checkpoints(ID)
    assert files(store) == []
    assert store.names("checkpoints") == []


def test_damaged_and_missing_checkpoints(store: Store) -> None:
    sha256 = store.put_checkpoint(ID, b"weights")
    damage(store, "checkpoints", ID)
    with pytest.raises(CheckpointError, match=f"^damaged checkpoint: .* expected {sha256[:16]}$"):
        store.get_checkpoint(ID, sha256)
    with pytest.raises(CheckpointError, match=r"/checkpoints/.*\.safetensors is missing$"):
        store.get_checkpoint(ID, "0" * 64)


def test_the_last_two_snapshots_of_an_attempt_stay(store: Store) -> None:
    for step in (5, 10, 100):
        was_there = store.put_progress(ID, "aaaaaaaa", step, f"step {step}".encode())
        assert was_there == (step > 5)
    assert not store.put_progress(ID, "bbbbbbbb", 50, b"another attempt")
    assert [name[:19] for name in store.names("progress", ID)] == [
        "0000000010-aaaaaaaa", "0000000050-bbbbbbbb", "0000000100-aaaaaaaa",
    ]  # fmt: skip
    assert list(store.progress(ID)) == [b"step 100", b"another attempt", b"step 10"]
    store.drop_progress(ID)
    assert files(store) == []
    assert not store.put_progress(ID, "aaaaaaaa", 200, b"by one that was taken for dead")


def test_a_damaged_snapshot_gives_way_to_the_one_before(store: Store) -> None:
    store.put_progress(ID, "aaaaaaaa", 10, b"older")
    store.put_progress(ID, "aaaaaaaa", 20, b"newer")
    damage(store, "progress", ID)
    assert list(store.progress(ID)) == [b"older"]


def test_a_snapshot_that_was_not_finished_gives_way(store: Store) -> None:
    store.put_progress(ID, "aaaaaaaa", 10, b"older")
    store.put_progress(ID, "aaaaaaaa", 20, b"newer")
    replace(store, store.path("progress", ID, store.names("progress", ID)[-1]), b"")
    beside = "/.0000000030-aaaaaaaa-1234567812345678.safetensors.abababab.tmp"
    replace(store, store.path("progress", ID) + beside, b"x")
    assert list(store.progress(ID)) == [b"older"]
    assert len(store.names("progress", ID)) == 1
