"""The store, in a folder and on S3: whole files or none, one row per trial, damage is detected.

No path leads outside the store's folder or prefix.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from orchestrator.errors import StoreError
from orchestrator.states import OUTCOMES
from orchestrator.store.cleanup import Waste, orphans
from orchestrator.store.schemas import SCHEMAS, result_columns, to_table
from orchestrator.store.store import Store, SweepRecord
from orchestrator.store.survey import Survey
from orchestrator.store.view import OldRow, old_path
from tests.stores import row_file, write_old, write_old_points, write_old_row
from trainers.checkpoint import CheckpointError, checksum

ID, OTHER = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture
def folder(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Store of each kind, so that every implementation passes the same tests."""
    if request.param == "folder":
        return Store(tmp_path / "store")
    return Store(request.getfixturevalue("s3").new_bucket())


def row(outcome: str = "complete", id: str = ID, **columns: Any) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(SCHEMAS["trials"].names)
    return empty | {"id": id, "outcome": outcome, "attempt": "aaaaaaaa"} | columns


def point(attempt: str, step: int = 10, id: str = ID) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(SCHEMAS["curves"].names)
    return empty | {"id": id, "attempt": attempt, "step": step}


def files(store: Store) -> list[str]:
    base = store.files.base
    selector = pafs.FileSelector(base, recursive=True, allow_not_found=True)
    infos = store.files.fs.get_file_info(selector)
    return sorted(i.path.removeprefix(f"{base}/") for i in infos if i.type == pafs.FileType.File)


def replace(store: Store, path: str, data: bytes) -> None:
    """Overwrite a file in place, as a fault would."""
    with store.files.fs.open_output_stream(path) as stream:
        stream.write(data)


# Writing ----------------------------------------------------------------------------------------


def test_opening_creates_nothing(store: Store) -> None:
    assert store.outcomes() == {}
    assert store.table("trials").num_rows == store.table("curves").num_rows == 0
    assert store.row(ID) is None
    assert store.names("checkpoints", ID) == []
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


@pytest.mark.usefixtures("hurried")
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


@pytest.mark.usefixtures("hurried")
def test_a_full_disk(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """`/dev/full` refuses writes, as a full disk does."""
    monkeypatch.setattr(Path, "with_name", lambda *_: Path("/dev/full"))
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    with pytest.raises(StoreError, match="No space left on device"):
        folder.put(folder.path("x.bin"), b"data")
    assert files(folder) == []


def test_a_file_in_the_way_of_a_folder(folder: Store) -> None:
    folder.put(folder.path("rows"), b"")
    with pytest.raises(StoreError, match=rf"^cannot write .*/rows/{ID}-complete-"):
        folder.write_row(row())
    assert files(folder) == ["rows"]


def test_a_killed_write_is_invisible_and_cleaned_up(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(handle: int) -> None:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        patch.setattr(Path, "unlink", lambda _: None)  # a killed process removes nothing
        with pytest.raises(KeyboardInterrupt):
            folder.write_row(row())
    [left] = files(folder)
    assert left.startswith(f"rows/.{ID}-complete-aaaaaaaa-")
    assert folder.outcomes() == {}
    assert folder.table("trials").num_rows == 0
    assert [(Path(w.path).name, w.reason) for w in orphans(Survey.of(folder))] == [
        (Path(left).name, "half-written file")
    ]


@pytest.mark.usefixtures("hurried")
def test_a_disk_that_fails_for_a_while_is_waited_for(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening a store and listing its files wait too: a worker would count as dead."""
    folder.put_progress(ID, "a0b1c2d3", 1, b"data")
    left, is_dir, lstat = [0], Path.is_dir, os.lstat

    def failing(path: Path) -> None:
        if left[0] and str(path).startswith(folder.root):
            left[0] -= 1
            raise OSError(errno.EIO, "Input/output error")

    def failing_is_dir(path: Path) -> bool:
        failing(path)
        return is_dir(path)

    def failing_lstat(path: Path, **options: Any) -> os.stat_result:
        failing(path)
        return lstat(path, **options)

    monkeypatch.setattr(Path, "is_dir", failing_is_dir)
    monkeypatch.setattr(os, "lstat", failing_lstat)
    left[0] = 1
    assert Store(folder.root).exists()
    left[0] = 2
    assert [entry.size for entry in folder.files.walk(folder.path("progress"))] == [4]
    left[0] = 1000
    with pytest.raises(StoreError, match=r"^cannot look at .*: Input/output error$"):
        Store(folder.root)
    with pytest.raises(StoreError, match=r"^cannot list .*: Input/output error$"):
        folder.drop_progress(ID)


@pytest.mark.parametrize(
    "part", ["..", ".", "", "../x", "a/b", "/etc", ".hidden", "a\0b", "a\n", "ä"]
)
def test_no_path_leads_out(part: str, store: Store) -> None:
    for attempt in (
        lambda: store.path(part),
        lambda: store.write_row(row(id=part)),
        lambda: store.write_row(row(part)),
        lambda: store.write_row(row(attempt=part)),
        lambda: store.put_checkpoint(part, b""),
        lambda: store.write_sweep(part, [], ""),
        lambda: store.names(part),
    ):
        with pytest.raises(StoreError, match=r"cannot name something in the store$"):
            attempt()
    assert not store.exists()


# Rows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [OUTCOMES, OUTCOMES[::-1]])
def test_the_best_outcome_counts(order: Sequence[str], store: Store) -> None:
    """Also after a worker that wakes late, or a second driver."""
    attempts = {outcome: f"{number:08x}" for number, outcome in enumerate(OUTCOMES)}
    for outcome in order:
        store.write_row(row(outcome, attempt=attempts[outcome]))
    assert store.outcomes() == {ID: "complete"}
    assert store.table("trials").select(["outcome", "attempt"]).to_pylist() == [
        {"outcome": "complete", "attempt": "00000000"}
    ]
    better = store.row(ID)
    assert better is not None
    assert better["outcome"] == "complete"


def test_of_equal_outcomes_the_latest_counts(store: Store) -> None:
    times = {"aaaaaaaa": 5, "bbbbbbbb": 7, "cccccccc": 6}
    for attempt, minute in times.items():
        store.write_row(row(attempt=attempt, ended=datetime(2026, 1, 1, 0, minute, tzinfo=UTC)))
    assert [r["attempt"] for r in store.table("trials").to_pylist()] == ["bbbbbbbb"]
    assert (store.row(ID) or {})["attempt"] == "bbbbbbbb"


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
        assert schema.metadata == {b"layerwise_schema": b"3"}
    assert "top1" in result_columns("trials")
    assert "seconds_total" not in result_columns("trials")
    assert result_columns("classes") == [
        *("id", "subset", "class_index", "correct", "total", "average_precision")
    ]


def test_curves_are_those_of_the_rows_attempt(store: Store) -> None:
    """Readers do not see a late attempt of the trial, nor an attempt of a trial without a row."""
    points = [point("aaaaaaaa", 10), point("aaaaaaaa", 20)]
    write_old_points(store, "curves", ID, "aaaaaaaa", points)
    write_old_points(store, "curves", ID, "bbbbbbbb", [point("bbbbbbbb", 15)])
    write_old_points(store, "curves", OTHER, "aaaaaaaa", [point("aaaaaaaa", 5, OTHER)])
    write_old_row(store, row())
    curves = store.table("curves")
    assert curves.schema.names == SCHEMAS["curves"].names
    assert sorted(curves["step"].to_pylist()) == [10, 20]
    write_old_row(store, row(attempt="bbbbbbbb"))
    assert store.table("curves")["step"].to_pylist() == [15]
    store.write_row(row(attempt="cccccccc"), [point("cccccccc", 25)])
    assert store.table("curves")["step"].to_pylist() == [25]
    store.delete(row_file(store, ID))
    assert [Path(w.path).name for w in orphans(Survey.of(store))] == [
        f"{ID}-aaaaaaaa.parquet",
        f"{OTHER}-aaaaaaaa.parquet",
    ]


def test_some_columns(store: Store) -> None:
    assert store.table("trials", ["id", "n"]).schema.names == ["id", "n"]
    store.write_row(row(n=3), [point("aaaaaaaa")])
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


def test_the_facts_of_a_sweep(store: Store) -> None:
    assert store.sweep_record("mine") == SweepRecord()
    store.write_sweep("mine", [], "name: mine\n")  # as old versions wrote it
    assert store.sweep_record("mine") == SweepRecord(text="name: mine\n", studies=[])
    studies = [{"id": "a", "series": "b", "role": "fine_tune", "trials": 3}]
    facts = {"reference": "paper", "studies": json.dumps(studies)}
    store.write_sweep("mine", [], "name: mine\n", **facts)
    record = store.sweep_record("mine")
    assert (record.reference, record.studies) == ("paper", studies)


def damaged(kind: str, data: bytes) -> bytes:
    """Return a file of a table as a fault, a copy or another program may leave it."""
    if kind == "zeros":
        return bytes(len(data))
    if kind == "half":
        return data[: len(data) // 2]
    table = pq.read_table(io.BytesIO(data))
    if kind == "foreign":
        table = table.replace_schema_metadata()
    elif kind == "empty":
        table = table.slice(0, 0)
    else:
        table = table.set_column(0, "id", pa.array(["e" * 16]))
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


@pytest.mark.parametrize("kind", ["zeros", "half", "foreign", "empty", "another row"])
@pytest.mark.parametrize("columns", [None, ["id", "outcome"]])
def test_a_damaged_row_of_version_1_is_named_once_and_left_out(
    columns: list[str] | None, kind: str, folder: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for id in (ID, "f" * 16):
        write_old_row(folder, row(id=id))
    path = old_path(folder.files, OldRow(ID, "complete"))
    replace(folder, path, damaged(kind, folder.get(path)))
    for _ in range(2):
        assert folder.table("trials", columns)["id"].to_pylist() == ["f" * 16]
    assert folder.outcomes() == {"f" * 16: "complete"}
    assert folder.row(ID) is None
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{path} is damaged and left out: it ")
    assert Store(folder.root).check([ID, "f" * 16]).keys() == {"f" * 16}
    data = folder.get(path)
    folder.damage.set_aside()
    aside = folder.path("damaged", "trials", "complete", f"{ID}.parquet")
    assert folder.get(aside) == data
    assert not Path(path).exists()
    assert Waste(aside, "damaged, set aside") in orphans(Survey.of(folder))
    folder.write_row(row())
    assert folder.row(ID) is not None


@pytest.mark.parametrize("kind", ["zeros", "half", "another row"])
@pytest.mark.parametrize("columns", [None, ["id", "outcome"]])
def test_a_damaged_row_is_named_once_and_left_out(
    columns: list[str] | None, kind: str, folder: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for id in (ID, "f" * 16):
        folder.write_row(row(id=id))
    path = row_file(folder, ID)
    data = folder.get(path)
    other = folder.get(row_file(folder, "f" * 16))
    replace(folder, path, other if kind == "another row" else damaged(kind, data))
    for _ in range(2):
        assert folder.table("trials", columns)["id"].to_pylist() == ["f" * 16]
    assert folder.outcomes() == {"f" * 16: "complete"}
    assert folder.row(ID) is None
    reason = "its content is not what its name says"
    assert caplog.messages == [f"{path} is damaged and left out: {reason}"]
    folder.damage.set_aside()
    aside = folder.path("damaged", "rows", path.rpartition("/")[2])
    assert folder.get(aside) != data
    assert not Path(path).exists()
    assert Waste(aside, "damaged, set aside") in orphans(Survey.of(folder))
    folder.write_row(row())
    assert folder.row(ID) is not None


def test_a_worse_row_counts_where_the_better_one_is_damaged(store: Store) -> None:
    store.write_row(row("failed"))
    store.write_row(row(attempt="bbbbbbbb"))
    better = next(name for name in store.names("rows") if "complete" in name)
    replace(store, store.path("rows", better), b"{}")
    assert store.check([ID]) == {}
    assert store.outcomes() == {ID: "failed"}
    assert store.table("trials", ["outcome"]).to_pylist() == [{"outcome": "failed"}]


def test_many_damaged_files_are_counted(folder: Store, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(12):
        folder.write_row(row(id=f"{number:016x}"))
        replace(folder, row_file(folder, f"{number:016x}"), b"none")
    assert folder.table("trials", ["n"]).num_rows == 0
    assert len(caplog.messages) == 11
    assert caplog.messages[-1] == "2 more files of trials are damaged and left out"


def test_other_damaged_tables(store: Store) -> None:
    store.write_sweep("mine", [dict.fromkeys(SCHEMAS["sweeps"].names) | {"id": ID}], "name: mine")
    write_old_row(store, row())
    for table in ("curves", "classes"):
        rows = [dict.fromkeys(SCHEMAS[table].names) | {"id": ID, "attempt": "aaaaaaaa"}]
        write_old_points(store, table, ID, "aaaaaaaa", rows)
    replace(store, store.path("curves", f"{ID}-aaaaaaaa.parquet"), b"PAR1 and more PAR1")
    replace(store, store.sweep_path("mine"), b"PAR1")
    assert store.table("curves").num_rows == store.table("sweeps").num_rows == 0
    assert store.table("classes").num_rows == 1
    gone = store.files.shown(store.path("curves", f"{ID}-aaaaaaaa.parquet"))
    assert Store(store.root).check([ID]) == {}
    assert store.check([ID], curves=True) == {ID: gone}
    assert store.sweep_record("mine") == SweepRecord()
    with pytest.raises(StoreError, match=r"^the record of sweep mine in .* is damaged; "):
        store.members("mine")


def test_copies_beside_rows_are_ignored(folder: Store) -> None:
    folder.write_row(row())
    path = Path(row_file(folder, ID))
    path.with_name(f"{path.stem} (copy).json").write_bytes(path.read_bytes())
    assert folder.table("trials").num_rows == 1


def newer(store: Store, id: str, top1: Any) -> None:
    """Write a row as a later version of the program may write it."""
    table = to_table("trials", [row(id=id)]).replace_schema_metadata({"layerwise_schema": "4"})
    number = table.schema.get_field_index("top1")
    table = table.set_column(number, "top1", pa.array([top1]))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    store.put(old_path(store.files, OldRow(id, "complete")), memoryview(sink.getvalue()))


@pytest.mark.parametrize("others", [[], ["0" * 16], ["f" * 16]])
@pytest.mark.parametrize("top1", [0.5, "half"])
def test_rows_of_a_newer_version_are_refused(others: list[str], top1: Any, store: Store) -> None:
    for id in others:
        store.write_row(row(id=id))
    newer(store, ID, top1)
    message = "was written by a newer layerwise (schema 4, this one knows 3); upgrade layerwise"
    with pytest.raises(StoreError) as caught:
        store.table("trials")
    assert str(caught.value) == f"store {store.root} {message}"


def test_columns_may_be_added(store: Store) -> None:
    """A row of an older version lacks the new columns, which are read as null."""
    old = to_table("trials", [row(top1=0.5)]).drop_columns(["git_commit"])
    write_old(store, old_path(store.files, OldRow(ID, "complete")), old)
    read = store.row(ID)
    assert read is not None
    assert (read["top1"], read["git_commit"]) == (0.5, None)
    labels = dict.fromkeys(SCHEMAS["sweeps"].names) | {"id": ID, "treatment": "base"}
    members = to_table("sweeps", [labels]).drop_columns(["condition"])
    write_old(store, store.sweep_path("mine"), members)
    (member,) = store.members("mine").to_pylist()
    assert (member["treatment"], member["condition"]) == ("base", None)


# Checkpoints ------------------------------------------------------------------------------------


def damage(store: Store, *parts: str) -> None:
    """Change one byte of the only file, or of the last one, in a folder."""
    path = store.path(*parts, store.names(*parts)[-1])
    data = bytearray(store.get(path))
    data[len(data) // 2] ^= 1
    replace(store, path, bytes(data))


def test_rows_of_old_versions_call_the_first_sweep_sweep(store: Store) -> None:
    """A store with rows of both versions is read under the new name."""
    store.write_row(row(id=OTHER, first_sweep="new"))
    old = to_table("trials", [row(first_sweep="old")])
    names = ["sweep" if name == "first_sweep" else name for name in old.column_names]
    path = old_path(store.files, OldRow(ID, "complete"))
    write_old(store, path, old.rename_columns(names))
    expected = {ID: "old", OTHER: "new"}
    for columns in (None, ["first_sweep", "id"]):
        table = store.table("trials", columns)
        assert table.column_names == (columns or SCHEMAS["trials"].names)
        assert {row["id"]: row["first_sweep"] for row in table.to_pylist()} == expected
    whole = store.row(ID)
    assert (whole or {})["first_sweep"] == "old"


def test_a_record_that_goes_while_it_is_read_is_unknown(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run sets a damaged record aside between the listing and the reading."""
    store.write_sweep("digits", [], "name: digits")
    path = store.sweep_path("digits")
    listed = store.sweep_names()
    store.delete(path)
    names = iter([listed])
    monkeypatch.setattr(store, "sweep_names", lambda: next(names, []))
    with pytest.raises(StoreError, match="no sweep 'digits'"):
        store.members("digits")
    monkeypatch.setattr(store, "sweep_names", lambda: listed)
    with pytest.raises(StoreError, match="keeps changing"):
        store.members("digits")


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
