"""Damaged rows, curves and records, in a folder and on S3: they are named and left out."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.errors import StoreError
from orchestrator.store.cleanup import Waste, orphans
from orchestrator.store.schemas import SCHEMAS
from orchestrator.store.store import Store, SweepRecord
from orchestrator.store.survey import Survey
from orchestrator.store.view import OldRow, old_path
from tests.stores import ID, replace, row, row_file, write_old_points, write_old_row


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
    columns: list[str] | None, kind: str, local: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for id in (ID, "f" * 16):
        write_old_row(local, row(id=id))
    path = old_path(local.files, OldRow(ID, "complete"))
    replace(local, path, damaged(kind, local.get(path)))
    for _ in range(2):
        assert local.table("trials", columns)["id"].to_pylist() == ["f" * 16]
    assert local.outcomes() == {"f" * 16: "complete"}
    assert local.row(ID) is None
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{path} is damaged and left out: it ")
    assert Store(local.root).check([ID, "f" * 16]).lacking.keys() == {"f" * 16}
    data = local.get(path)
    local.damage.set_aside()
    aside = local.path("damaged", "trials", "complete", f"{ID}.parquet")
    assert local.get(aside) == data
    assert not Path(path).exists()
    assert Waste(aside, "damaged, set aside") in orphans(Survey.of(local))
    local.write_row(row())
    assert local.row(ID) is not None


@pytest.mark.parametrize("kind", ["zeros", "half", "another row"])
@pytest.mark.parametrize("columns", [None, ["id", "outcome"]])
def test_a_damaged_row_is_named_once_and_left_out(
    columns: list[str] | None, kind: str, local: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for id in (ID, "f" * 16):
        local.write_row(row(id=id))
    path = row_file(local, ID)
    data = local.get(path)
    other = local.get(row_file(local, "f" * 16))
    replace(local, path, other if kind == "another row" else damaged(kind, data))
    for _ in range(2):
        assert local.table("trials", columns)["id"].to_pylist() == ["f" * 16]
    assert local.outcomes() == {"f" * 16: "complete"}
    assert local.row(ID) is None
    reason = "its content is not what its name says"
    assert caplog.messages == [f"{path} is damaged and left out: {reason}"]
    local.damage.set_aside()
    aside = local.path("damaged", "rows", path.rpartition("/")[2])
    assert local.get(aside) != data
    assert not Path(path).exists()
    assert Waste(aside, "damaged, set aside") in orphans(Survey.of(local))
    local.write_row(row())
    assert local.row(ID) is not None


def test_a_worse_row_counts_where_the_better_one_is_damaged(store: Store) -> None:
    store.write_row(row("failed"))
    store.write_row(row(attempt="bbbbbbbb"))
    better = next(name for name in store.names("rows") if "complete" in name)
    replace(store, store.path("rows", better), b"{}")
    assert store.check([ID]).lacking == {}
    assert store.outcomes() == {ID: "failed"}
    assert store.table("trials", ["outcome"]).to_pylist() == [{"outcome": "failed"}]


def test_many_damaged_files_are_counted(local: Store, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(12):
        local.write_row(row(id=f"{number:016x}"))
        replace(local, row_file(local, f"{number:016x}"), b"none")
    assert local.table("trials", ["n"]).num_rows == 0
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
    assert Store(store.root).check([ID]).lacking == {}
    assert store.check([ID], curves=True).lacking == {ID: gone}
    assert store.sweep_record("mine") == SweepRecord()
    with pytest.raises(StoreError, match=r"^the record of sweep mine in .* is damaged; "):
        store.members("mine")


def test_copies_beside_rows_are_ignored(local: Store) -> None:
    local.write_row(row())
    path = Path(row_file(local, ID))
    path.with_name(f"{path.stem} (copy).json").write_bytes(path.read_bytes())
    assert local.table("trials").num_rows == 1
