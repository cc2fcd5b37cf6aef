"""Names of the files in a store: written, parsed, and foreign names ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.store.names import (
    AttemptFile,
    RowFile,
    SnapshotFile,
    StudyFile,
    SweepFile,
    WeightsFile,
)
from orchestrator.store.schemas import SCHEMAS
from orchestrator.store.store import Store

SHA = "0123456789abcdef" * 4
NAMES = {
    "0e7d41.parquet": RowFile("0e7d41"),
    "0e7d41-aa00.parquet": AttemptFile("0e7d41", "aa00"),
    "0000000120-aa00-0123456789abcdef.safetensors": SnapshotFile(120, "aa00", SHA[:16]),
    "my-sweep.v2.parquet": SweepFile("my-sweep.v2"),
    "0e7d41-12.parquet": StudyFile("0e7d41", 12),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_says_what_is_in_the_file(name: str) -> None:
    file = NAMES[name]
    assert file.name == name
    assert type(file).parse(name) == file


def test_a_hash_is_shortened() -> None:
    assert WeightsFile(SHA).name == f"{SHA[:16]}.safetensors"
    assert SnapshotFile(5, "aa", SHA).name == f"0000000005-aa-{SHA[:16]}.safetensors"


@pytest.mark.parametrize("kind", [RowFile, AttemptFile, SnapshotFile, SweepFile, StudyFile])
@pytest.mark.parametrize("name", ["", "notes.txt", ".parquet", "a-b-c", "a.parquet.tmp", "-.x"])
def test_a_foreign_name_is_none(kind: Any, name: str) -> None:
    assert kind.parse(name) is None


def test_foreign_files_are_ignored(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for parts in (
        ("trials", "complete", "notes.txt"),
        ("studies", "notes.txt"),
        ("sweeps", "notes.txt"),
        ("curves", "notes.txt"),
        ("classes", "notes.txt"),
        ("progress", "0e7d41", "notes.txt"),
    ):
        store.put(store.path(*parts), b"x")
    store.put_progress("0e7d41", "aa00", 5, b"snapshot")
    assert list(store.progress("0e7d41")) == [b"snapshot"]
    assert store.outcomes() == {}
    assert store.study_files() == []
    assert all(store.table(table).num_rows == 0 for table in SCHEMAS)
