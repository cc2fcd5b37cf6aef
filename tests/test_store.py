"""The store, in a folder and on S3: whole files or none, one row a trial, damage found.

Nothing leads outside its folder or prefix.
"""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from orchestrator.clean import orphans
from orchestrator.errors import StoreError
from orchestrator.store import Store
from orchestrator.tables import OUTCOMES, SCHEMAS, result_columns, to_table
from trainers.checkpoint import CheckpointError, checksum

ID, OTHER = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Both kinds of store: one battery for every implementation."""
    if request.param == "folder":
        return Store(tmp_path / "store")
    return Store(request.getfixturevalue("s3").new_bucket())


def row(outcome: str = "complete", id: str = ID, **columns: Any) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(SCHEMAS["trials"].names)
    return empty | {"id": id, "outcome": outcome, "attempt": "aaaa"} | columns


def point(attempt: str, step: int = 10, id: str = ID) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(SCHEMAS["curves"].names)
    return empty | {"id": id, "attempt": attempt, "step": step}


def files(store: Store) -> list[str]:
    base = store.files.base
    selector = pafs.FileSelector(base, recursive=True, allow_not_found=True)
    found = store.files.fs.get_file_info(selector)
    return sorted(i.path.removeprefix(f"{base}/") for i in found if i.type == pafs.FileType.File)


def replace(store: Store, path: str, data: bytes) -> None:
    """Put something else in the place of a file, as a fault would."""
    with store.files.fs.open_output_stream(path) as stream:
        stream.write(data)


# Writing ----------------------------------------------------------------------------------------


def test_opening_creates_nothing(store: Store) -> None:
    assert store.outcomes() == {}
    assert store.table("trials").num_rows == store.table("curves").num_rows == 0
    assert store.row(ID) is None
    assert not store.has_checkpoint(ID)
    assert list(store.progress(ID)) == []
    store.delete(store.path("nothing"))
    store.drop_checkpoints(ID)
    assert not store.exists()


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"/file is a file; expected a folder$"):
        Store(tmp_path / "file")


def failing(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failing_write_leaves_what_was_there(
    function: str, folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder.path("x.bin")
    folder.put(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, function, failing)
        with pytest.raises(StoreError) as error:
            folder.put(path, b"new")
        with pytest.raises(StoreError):
            folder.write_row(row())
    assert str(error.value) == f"cannot write {path}: No space left on device"
    assert files(folder) == ["x.bin"]
    assert folder.get(path) == b"old"
    folder.put(path, b"new")
    assert folder.get(path) == b"new"


def test_a_full_disk(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """`/dev/full` refuses what is written to it, as a full disk does."""
    monkeypatch.setattr(Path, "with_name", lambda *_: Path("/dev/full"))
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    with pytest.raises(StoreError, match="No space left on device"):
        folder.put(folder.path("x.bin"), b"data")
    assert files(folder) == []


def test_a_file_in_the_way_of_a_folder(folder: Store) -> None:
    folder.put(folder.path("trials"), b"")
    with pytest.raises(StoreError, match=r"^cannot write .*/trials/complete/"):
        folder.write_row(row())
    assert files(folder) == ["trials"]


def test_a_killed_write_is_invisible_and_cleaned_up(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.write_row(row())
    [left] = files(folder)
    assert left.startswith(f"trials/complete/.{ID}.parquet.")
    assert folder.outcomes() == {}
    assert folder.table("trials").num_rows == 0
    assert [(Path(w.path).name, w.reason) for w in orphans(folder)] == [
        (Path(left).name, "half-written file")
    ]


@pytest.mark.parametrize(
    "part", ["..", ".", "", "../x", "a/b", "/etc", ".hidden", "a\0b", "a\n", "ä"]
)
def test_no_path_leads_out(part: str, store: Store) -> None:
    for attempt in (
        lambda: store.path(part),
        lambda: store.row_path("complete", part),
        lambda: store.put_checkpoint(part, b""),
        lambda: store.write_sweep(part, [], ""),
        lambda: store.names(part),
    ):
        with pytest.raises(StoreError, match=r"cannot name something in the store$"):
            attempt()
    assert not store.exists()


# Rows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("better", range(3))
def test_a_better_outcome_replaces_worse_ones(better: int, store: Store) -> None:
    for outcome in OUTCOMES[better + 1 :]:
        store.write_row(row(outcome))
    store.write_row(row(OUTCOMES[better]))
    assert files(store) == [f"trials/{OUTCOMES[better]}/{ID}.parquet"]


def test_a_worse_outcome_does_not_hide_a_better_one(store: Store) -> None:
    """A worker that wakes after its retry, a second driver: the better row counts."""
    for outcome in OUTCOMES:
        store.write_row(row(outcome, attempt=outcome))
    assert store.outcomes() == {ID: "complete"}
    assert store.table("trials").select(["outcome", "attempt"]).to_pylist() == [
        {"outcome": "complete", "attempt": "complete"}
    ]
    found = store.row(ID)
    assert found is not None
    assert found["outcome"] == "complete"


def test_outcomes_of_several_trials(store: Store) -> None:
    ids = {f"{number:016x}": outcome for number, outcome in enumerate(OUTCOMES)}
    for id, outcome in ids.items():
        store.write_row(row(outcome, id))
    assert store.outcomes() == ids
    assert [r["id"] for r in store.rows([f"{0:016x}"])] == [f"{0:016x}"]


def test_rows_match_the_schema(store: Store) -> None:
    with pytest.raises(TypeError, match=r"^rows of trials do not match the schema: \['colour'\]$"):
        store.write_row(row(colour="red"))
    lacking = row()
    del lacking["top1"], lacking["seed"]
    expected = r"^rows of trials do not match the schema: \['seed', 'top1'\]$"
    with pytest.raises(TypeError, match=expected):
        store.write_row(lacking)
    with pytest.raises(TypeError, match=r"^rows of curves do not match the schema: \['step'\]$"):
        to_table("curves", [point("a"), {k: v for k, v in point("a").items() if k != "step"}])
    with pytest.raises(pa.ArrowInvalid):
        store.write_row(row(n="three"))
    assert not store.exists()


def test_every_column_is_described() -> None:
    for table, schema in SCHEMAS.items():
        for column in schema:
            assert column.metadata[b"description"], (table, column.name)
            assert column.metadata[b"result"] in (b"true", b"false")
        assert schema.metadata == {b"layerwise_schema": b"1"}
    assert "top1" in result_columns("trials")
    assert "seconds_total" not in result_columns("trials")
    assert result_columns("classes") == ["id", "subset", "class_index", "correct", "total"]


def test_curves_are_those_of_the_rows_attempt(store: Store) -> None:
    """A late attempt of the same trial, and one of a trial without a row, are not seen."""
    store.write_attempt("curves", ID, "aaaa", [point("aaaa", 10), point("aaaa", 20)])
    store.write_attempt("curves", ID, "bbbb", [point("bbbb", 15)])
    store.write_attempt("curves", OTHER, "aaaa", [point("aaaa", 5, OTHER)])
    store.write_row(row())
    found = store.table("curves")
    assert found.schema.names == SCHEMAS["curves"].names
    assert sorted(found["step"].to_pylist()) == [10, 20]
    store.write_row(row(attempt="bbbb"))
    assert store.table("curves")["step"].to_pylist() == [15]
    assert [Path(w.path).name for w in orphans(store)] == [
        f"{ID}-aaaa.parquet",
        f"{OTHER}-aaaa.parquet",
    ]


def test_some_columns(store: Store) -> None:
    assert store.table("trials", ["id", "n"]).schema.names == ["id", "n"]
    store.write_row(row(n=3))
    store.write_attempt("curves", ID, "aaaa", [point("aaaa")])
    assert store.table("trials", ["n", "id"]).to_pylist() == [{"n": 3, "id": ID}]
    assert store.table("curves", ["step"]).to_pylist() == [{"step": 10}]


def test_sweeps(store: Store) -> None:
    member = dict.fromkeys(SCHEMAS["sweeps"].names) | {"id": ID, "name": "A s0", "n": 0}
    with pytest.raises(StoreError, match=r"^no sweep 'mine' in .*/store.*; there: none$"):
        store.members("mine")
    store.write_sweep("mine", [member], "name: mine\n")
    assert store.members("mine").to_pylist() == [member]
    with pytest.raises(StoreError, match=r"^no sweep 'yours' in .*/store.*; there: mine$"):
        store.members("yours")
    metadata = pq.read_schema(io.BytesIO(store.get(store.path("sweeps", "mine.parquet")))).metadata
    assert metadata[b"sweep"] == b"name: mine\n"


def test_a_damaged_table_is_named(store: Store) -> None:
    store.write_row(row())
    path = store.row_path("complete", ID)
    replace(store, path, store.get(path)[:-20])
    with pytest.raises(StoreError, match=r"^cannot read table trials in .*/store.*: "):
        store.table("trials")


def newer(store: Store, id: str, top1: Any) -> None:
    """A row as a later version of the program may write it."""
    table = to_table("trials", [row(id=id)]).replace_schema_metadata({"layerwise_schema": "2"})
    number = table.schema.get_field_index("top1")
    table = table.set_column(number, "top1", pa.array([top1]))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    store.put(store.row_path("complete", id), memoryview(sink.getvalue()))


@pytest.mark.parametrize("others", [[], ["0" * 16], ["f" * 16]])
@pytest.mark.parametrize("top1", [0.5, "half"])
def test_what_a_newer_version_wrote_is_refused(others: list[str], top1: Any, store: Store) -> None:
    for id in others:
        store.write_row(row(id=id))
    newer(store, ID, top1)
    message = "was written by a newer layerwise (schema 2, this one knows 1); upgrade layerwise"
    with pytest.raises(StoreError) as found:
        store.table("trials")
    assert str(found.value) == f"store {store.root} {message}"


def test_columns_may_be_added(store: Store) -> None:
    """A row of an older version lacks them: they are null."""
    old = to_table("trials", [row(top1=0.5)]).drop_columns(["git_commit"])
    sink = pa.BufferOutputStream()
    pq.write_table(old, sink)
    store.put(store.row_path("complete", ID), memoryview(sink.getvalue()))
    found = store.row(ID)
    assert found is not None
    assert (found["top1"], found["git_commit"]) == (0.5, None)


# Checkpoints ------------------------------------------------------------------------------------


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
    assert store.has_checkpoint(ID)
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
        store.put_progress(ID, "aaaa", step, f"step {step}".encode())
    store.put_progress(ID, "bbbb", 50, b"another attempt")
    assert [name[:15] for name in store.names("progress", ID)] == [
        "0000000010-aaaa", "0000000050-bbbb", "0000000100-aaaa",
    ]  # fmt: skip
    assert list(store.progress(ID)) == [b"step 100", b"another attempt", b"step 10"]
    store.drop_progress(ID)
    assert files(store) == []


def test_a_damaged_snapshot_gives_way_to_the_one_before(store: Store) -> None:
    store.put_progress(ID, "aaaa", 10, b"older")
    store.put_progress(ID, "aaaa", 20, b"newer")
    damage(store, "progress", ID)
    assert list(store.progress(ID)) == [b"older"]


def test_a_snapshot_that_was_not_finished_gives_way(store: Store) -> None:
    store.put_progress(ID, "aaaa", 10, b"older")
    store.put_progress(ID, "aaaa", 20, b"newer")
    replace(store, store.path("progress", ID, store.names("progress", ID)[-1]), b"")
    beside = "/.0000000030-aaaa-1234.safetensors.ab.tmp"
    replace(store, store.path("progress", ID) + beside, b"x")
    assert list(store.progress(ID)) == [b"older"]
    assert len(store.names("progress", ID)) == 1
