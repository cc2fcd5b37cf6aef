"""The store, in a folder and on S3: one row per trial, columns and records of several versions."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.errors import StoreError
from orchestrator.states import OUTCOMES
from orchestrator.store.cleanup import orphans
from orchestrator.store.schemas import SCHEMAS, result_columns, to_table
from orchestrator.store.store import Store, SweepRecord
from orchestrator.store.survey import Survey
from orchestrator.store.view import OldRow, old_path
from tests.stores import ID, OTHER, point, row, row_file, write_old, write_old_points, write_old_row


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


def test_a_folder_that_is_made_during_the_look_at_it_is_empty(local: Store) -> None:
    """pyarrow opens a folder, does not find it, and then finds it after all."""

    def refused(_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "Cannot list directory")

    local.files.fs = SimpleNamespace(get_file_info=refused)
    assert local.names("running") == []
    assert local.files.entries(local.path("running")) == []
