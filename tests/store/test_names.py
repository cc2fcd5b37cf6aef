"""Names of the files in a store: written, parsed, and foreign names ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.report.page import PNG
from orchestrator.store.names import (
    FIGURES,
    AttemptFile,
    CompactFile,
    DerivedFile,
    FeaturesFolder,
    FigureFile,
    OldRowFile,
    PartFile,
    RemovalFile,
    RowFile,
    SnapshotFile,
    StudyFile,
    SweepFile,
    WeightsFile,
    ids,
    stored,
)
from orchestrator.store.schemas import SCHEMAS
from orchestrator.store.store import Store
from orchestrator.store.view import OldRow, old_path
from trainers import own_files

ID, ATTEMPT = "0e7d41" + "0" * 10, "aa000000"
SHA = "0123456789abcdef" * 4
NAMES = {
    f"{ID}-complete-{ATTEMPT}-{SHA[:16]}.json": RowFile(ID, "complete", ATTEMPT, SHA[:16]),
    f"measurements-{ID}-failed-{ATTEMPT}-{SHA[:16]}.json": RowFile(
        ID, "failed", ATTEMPT, SHA[:16], "measurements"
    ),
    f"studies-{ID}-12-pruned-{ATTEMPT}-{SHA[:16]}.json": RowFile(
        f"{ID}-12", "pruned", ATTEMPT, SHA[:16], "studies"
    ),
    f"part-{ID}-{SHA[:16]}.parquet": CompactFile(ID, SHA[:16]),
    f"{ID}-{SHA[:16]}.json": RemovalFile(ID, SHA[:16]),
    f"{ID}.parquet": OldRowFile(ID),
    f"{ID}-{ATTEMPT}.parquet": AttemptFile(ID, ATTEMPT),
    f"0000000120-{ATTEMPT}-0123456789abcdef.safetensors": SnapshotFile(120, ATTEMPT, SHA[:16]),
    f"{SHA[:16]}.safetensors": WeightsFile(SHA[:16]),
    "my-sweep.v2.parquet": SweepFile("my-sweep.v2"),
    f"{ID}-12.parquet": StudyFile(ID, 12),
    "figure2.png": FigureFile("figure2"),
    "cost-whole-250.png": FigureFile("cost", "whole-250"),
    f"{ID}-{SHA[:16]}.parquet": DerivedFile(ID, SHA[:16]),
    f"{ID}-{SHA[:16]}": FeaturesFolder(ID, SHA[:16]),
    "train-000012000.parquet": PartFile("train", 12000),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_says_what_is_in_the_file(name: str) -> None:
    file = NAMES[name]
    assert file.name == name
    assert type(file).parse(name) == file


def test_a_hash_is_shortened() -> None:
    assert WeightsFile(SHA).name == f"{SHA[:16]}.safetensors"
    assert SnapshotFile(5, ATTEMPT, SHA).name == f"0000000005-{ATTEMPT}-{SHA[:16]}.safetensors"


@pytest.mark.parametrize(
    "kind",
    [type(file) for file in NAMES.values()],
)
@pytest.mark.parametrize("name", ["", "notes.txt", ".parquet", "a-b-c", "a.parquet.tmp", "-.x"])
def test_a_foreign_name_is_none(kind: Any, name: str) -> None:
    assert kind.parse(name) is None


def test_files_of_features_are_the_stores_own() -> None:
    folder = f"features/{ID}-{SHA[:16]}"
    names = ("train-000000000.parquet", ".test-000000020.parquet.aa000000.tmp", "train-0.parquet")
    assert [stored(f"{folder}/{name}") for name in names] == [True, True, False]
    assert not stored("features/mine/train-000000000.parquet")


def test_the_ids_in_a_path() -> None:
    path = f"{'f' * 17}/trials/complete/.{ID}.parquet.{ATTEMPT}.tmp"
    assert ids(path) == {ID}
    assert ids(f"progress/{ID}/0000000120-{ATTEMPT}-{SHA[:16]}.safetensors") == {ID, SHA[:16]}


def test_a_store_is_known_by_the_folder_that_own_code_passes_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.make()
    marker, old = own_files.STORE
    assert (tmp_path / marker).is_file()
    assert Path(old_path(store.files, OldRow(ID, "complete"))).parent == tmp_path / old


def test_every_png_has_a_kind() -> None:
    assert set(PNG) <= set(FIGURES)


def test_files_that_are_no_rows_are_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Copies of rows, and what file managers leave."""
    store = Store(tmp_path)
    names = (f"{ID} (1).parquet", f"{ID}-copy.parquet", "Thumbs.db", "rows.csv")
    for folder in ("trials/complete", "trials", "rows"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (tmp_path / folder / name).write_bytes(b"x")
    assert store.outcomes() == store.outcomes() == {}
    every = sorted(f"{folder}{name}" for folder in ("complete/", "", "../rows/") for name in names)
    assert caplog.messages == [
        f"{tmp_path}/trials contains files that are no rows of layerwise; they are left out: "
        f"{', '.join(every[:10])} and 2 more"
    ]


def test_foreign_files_are_ignored(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for parts in (
        ("trials", "complete", "notes.txt"),
        ("rows", "notes.txt"),
        ("removed", "notes.txt"),
        ("trials", "notes.txt"),
        ("studies", "notes.txt"),
        ("sweeps", "notes.txt"),
        ("curves", "notes.txt"),
        ("classes", "notes.txt"),
        ("measurements", "notes.txt"),
        ("progress", ID, "notes.txt"),
    ):
        store.put(store.path(*parts), b"x")
    store.put_progress(ID, ATTEMPT, 5, b"snapshot")
    assert list(store.progress(ID)) == [b"snapshot"]
    assert store.outcomes() == {}
    assert store.study_numbers() == {}
    assert all(store.table(table).num_rows == 0 for table in SCHEMAS)
