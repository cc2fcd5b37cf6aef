"""Removals: rows that somebody removed, although they may lie in parts for a while.

A removal names attempts. Readers leave them out, and the next compaction does not copy them. An
attempt is never made again, so a removal cannot hide a later training of the trial. It stays for
some days, since a compaction that began before it may still write what it names.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Collection

from orchestrator.store.damage import DamagedError
from orchestrator.store.files import Files
from orchestrator.store.names import RemovalFile
from orchestrator.store.row_files import digest

FOLDER = "removed"
STAYS = 7 * 86400.0  # seconds; longer than any compaction, and than clocks differ

AttemptKey = tuple[str, str]
"""Id of a trial, and attempt."""


def write(files: Files, attempts: Collection[AttemptKey]) -> None:
    """Remove the rows of these attempts, and their curves and counts. Raises `StoreError`."""
    content = {"written": time.time(), "attempts": sorted(map(list, attempts))}
    data = json.dumps(content).encode() + b"\n"
    file = RemovalFile(secrets.token_hex(8), digest(data))
    files.put(f"{files.base}/{FOLDER}/{file.name}", data)


def read(files: Files, file: RemovalFile) -> tuple[float, set[AttemptKey]]:
    """Return the time and the attempts of a removal. Raises `DamagedError`, `StoreError`."""
    data = files.get(f"{files.base}/{FOLDER}/{file.name}")
    if digest(data) != file.digest:
        raise DamagedError("its content is not what its name says")
    content = json.loads(data)
    return content["written"], {(id, attempt) for id, attempt in content["attempts"]}


def tidy(files: Files, there: Collection[AttemptKey]) -> None:
    """Delete old removals of attempts that are in no file any more. Raises `StoreError`."""
    for name in files.names(f"{files.base}/{FOLDER}"):
        if file := RemovalFile.parse(name):
            try:
                written, attempts = read(files, file)
            except (DamagedError, FileNotFoundError):
                continue
            if written < time.time() - STAYS and not attempts & set(there):
                files.delete(f"{files.base}/{FOLDER}/{name}")
