"""Trials of a damaged part that are proven to be right are not trained again."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pytest

from orchestrator.store import parts, row_files
from orchestrator.store.compaction import compact
from orchestrator.store.recovery import recover
from orchestrator.store.row_files import TABLES
from orchestrator.store.store import Store
from orchestrator.store.verification import Verification
from tests.stores import KEYS, names, tables, write_others, write_trial

TRIALS = 12


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store of one part, whose files have several groups of rows."""
    monkeypatch.setattr(parts, "GROUP", dict.fromkeys(KEYS, 4))
    store = Store(tmp_path / "store")
    for number in range(TRIALS):
        write_trial(store, number)
    compact(store)
    return store


def spoil(store: Store, table: str, at: float) -> Path:
    [name] = store.names(table)
    path = Path(store.path(table, name))
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 4
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_what_is_proven_is_recovered(table: str, at: float, store: Store) -> None:
    before = {row["id"]: row for row in tables(store)["trials"].to_pylist()}
    path = spoil(store, table, at)
    new = Store(store.root)
    new.check(list(before), curves=True)
    assert recover(new.row_tables)
    after = tables(store)
    for row in after["trials"].to_pylist():
        assert row == before[row["id"]]
    assert after["curves"].num_rows == 3 * after["trials"].num_rows
    assert after["classes"].num_rows == 2 * after["trials"].num_rows
    assert not path.exists()
    assert Path(store.root, "damaged", table, path.name).exists()
    assert f"{table}/part" not in names(store)
    assert not recover(Store(store.root).row_tables)


def test_most_trials_are_recovered(store: Store) -> None:
    spoil(store, "curves", 0.1)
    store.check([f"{number:016x}" for number in range(TRIALS)], curves=True)
    recover(store.row_tables)
    assert TRIALS - 4 <= len(Store(store.root).outcomes()) < TRIALS


def test_a_sound_store_is_left_alone(store: Store) -> None:
    store.check([f"{number:016x}" for number in range(TRIALS)], curves=True)
    before = tables(store)
    assert not recover(store.row_tables)
    assert tables(store) == before


@pytest.mark.parametrize("table", ["studies", "measurements", "extractions"])
@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_other_rows_are_recovered(table: str, at: float, store: Store) -> None:
    for number in range(TRIALS):
        write_others(store, number)
    compact(store)
    before = tables(store)
    path = spoil(store, table, at)
    new = Store(store.root)
    assert recover(new.row_tables)
    after = tables(store)
    rows = before[table].to_pylist()
    assert all(row in rows for row in after[table].to_pylist())
    assert after[table].num_rows % (3 if table == "measurements" else 1) == 0
    assert {name: after[name] for name in after if name != table} == {
        name: before[name] for name in before if name != table
    }
    assert not path.exists()
    assert Path(store.root, "damaged", table, path.name).exists()


def test_most_other_rows_are_recovered(store: Store) -> None:
    for number in range(TRIALS):
        write_others(store, number)
    compact(store)
    spoil(store, "measurements", 0.1)
    spoil(store, "studies", 0.1)
    assert recover(Store(store.root).row_tables)
    for ids in (store.derived_ids("measurements"), store.study_numbers()["a" * 16]):
        assert TRIALS - 4 <= len(ids) < TRIALS


def test_rows_of_version_2_are_proven_by_their_digests(store: Store) -> None:
    """Their row files named another version, and differ in nothing else."""
    for rows in store.row_tables:
        files = {t: store.table(t) for t in rows.kind.tables}
        for table in rows.kind.tables:
            for name in store.names(table):
                store.delete(store.path(table, name))
        for number in range(TRIALS) if rows is store.trials else ():
            of_trial = {t: x.filter(pc.equal(x["id"], f"{number:016x}")) for t, x in files.items()}
            attempt = row_files.encode_tables(rows.kind, of_trial, 2)
            store.put(store.path("rows", attempt.file.name), attempt.data)
    compact(store)
    assert list(Verification(Store(store.root)).problems()) == []
    spoil(store, "curves", 0.1)
    store.check([f"{number:016x}" for number in range(TRIALS)], curves=True)
    assert recover(store.row_tables)
    assert TRIALS - 4 <= len(Store(store.root).outcomes()) < TRIALS
