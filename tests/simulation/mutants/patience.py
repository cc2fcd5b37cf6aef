"""Mutants of the patience with a store that fails, is full, or refuses."""

from __future__ import annotations

import errno
from typing import Any

from orchestrator.store import files, local_files, remote_files
from tests.simulation.mutants.declared import Mutants

MUTANTS = Mutants()


MUTANTS.add("no_patience", "A failure of the store is not waited for.", (files, "PAUSES", ()))
MUTANTS.add(
    "endless_patience", "A failure of the store is waited for without end.",
    (files, "PAUSES", (8.0,) * 100_000), (files, "PATIENCE", 1e12),
)  # fmt: skip
MUTANTS.add(
    "full_disk_is_final", "A full disk is not waited for.",
    (local_files, "PASSING", local_files.PASSING - {errno.ENOSPC}),
)  # fmt: skip
MUTANTS.add(
    "refusal_is_transient",
    "A refused upload is tried for forty seconds.",
    (remote_files, "REFUSED", ()),
)


@MUTANTS.mutant(
    "An object store that asks for less haste is an error.", (remote_files.RemoteFiles, "transient")
)
def nothing_is_transient(self: Any, error: OSError) -> bool:  # noqa: ARG001
    return False


@MUTANTS.mutant(
    "The size of an object is not compared after its upload.", (remote_files.RemoteFiles, "_send")
)
def no_look_after_an_upload(self: Any, path: str, data: bytes) -> None:
    stream = self.fs.open_output_stream(path)
    stream.write(data)
    stream.close()


@MUTANTS.mutant(
    "An object that was moved since it was listed is waited for. Fault of this project until now.",
    (remote_files.RemoteFiles, "get"),
)
def moved_is_a_failure(self: Any, path: str) -> bytes:
    if (size := self.sizes.get(path)) is None:
        return files.Files.get(self, path)
    fragment = remote_files._lines(size).make_fragment(path, self.fs, file_size=size)

    def read() -> bytes:
        lines = fragment.to_table(schema=remote_files.LINE)["line"]
        return b"".join(line.as_py() + b"\n" for line in lines)

    return self.patiently("read", read)
