"""Mutants of snapshots and weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from orchestrator.execution import run, worker
from orchestrator.store import node_cache, store
from orchestrator.store.names import SnapshotFile
from tests.simulation.mutants.declared import Mutants
from trainers import checkpoint

MUTANTS = Mutants()


def _unchecked(data: bytes, expected: str) -> bytes:  # noqa: ARG001
    return data


MUTANTS.add(
    "no_hash_check_of_weights",
    "Weights and snapshots are used unseen.",
    (store, "verify", _unchecked),
)
MUTANTS.add(
    "no_hash_check_in_the_cache",
    "A node's cache is used unseen.",
    (node_cache, "verify", _unchecked),
)


@MUTANTS.mutant("The oldest snapshot is resumed from.", (store.Store, "progress"))
def oldest_snapshot_first(self: Any, trial: str) -> Iterator[bytes]:
    for file in self._snapshots(trial):
        with contextlib.suppress(checkpoint.CheckpointError, FileNotFoundError):
            yield checkpoint.verify(self.get(self.path("progress", trial, file.name)), file.sha256)


@MUTANTS.mutant("Snapshots are not resumed from.", (store.Store, "progress"))
def never_resumed(self: Any, trial: str) -> Iterator[bytes]:  # noqa: ARG001
    yield from ()


@MUTANTS.mutant("A damaged snapshot hides the one before it.", (store.Store, "progress"))
def newest_snapshot_only(self: Any, trial: str) -> Iterator[bytes]:
    for file in reversed(self._snapshots(trial)):
        with contextlib.suppress(checkpoint.CheckpointError, FileNotFoundError):
            yield checkpoint.verify(self.get(self.path("progress", trial, file.name)), file.sha256)
        return


@MUTANTS.mutant("Only the newest snapshot is kept.", (store.Store, "put_progress"))
def one_snapshot(self: Any, trial: str, attempt: str, step: int, data: bytes) -> bool:
    new = SnapshotFile(step, attempt, checkpoint.checksum(data))
    self.put(self.path("progress", trial, new.name), data)
    own = [file for file in self._snapshots(trial) if file.attempt == attempt]
    for old in own[:-1]:
        self.delete(self.path("progress", trial, old.name))
    return len(own) > 1


@MUTANTS.mutant(
    "Older snapshots are deleted before the new one is written.", (store.Store, "put_progress")
)
def deleted_too_early(self: Any, trial: str, attempt: str, step: int, data: bytes) -> bool:
    old = self._snapshots(trial)
    for file in old:
        self.delete(self.path("progress", trial, file.name))
    new = SnapshotFile(step, attempt, checkpoint.checksum(data))
    self.put(self.path("progress", trial, new.name), data)
    return any(file.attempt == attempt for file in old)


@MUTANTS.mutant(
    "Snapshots stay after the row.", (worker.Training, "_drop_snapshots"), (run.Run, "_tidy")
)
def snapshots_stay(self: Any) -> None: ...


@MUTANTS.mutant(
    "Weights that are gone are an error of the worker.", (store.Store, "get_checkpoint")
)
def gone_weights_are_an_accident(
    self: Any,
    trial: str,
    sha256: str,
    *,
    cached: bool = False,  # noqa: ARG001
) -> bytes:
    return checkpoint.verify(self.get(self.checkpoint_path(trial, sha256)), sha256)
