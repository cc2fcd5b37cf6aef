"""Trials of a damaged part that are proven to be right are not trained again."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.store import parts
from orchestrator.store.compaction import compact
from orchestrator.store.recovery import recover
from orchestrator.store.row_files import TABLES
from orchestrator.store.store import Store
from tests.stores import names, tables, write_trial

TRIALS = 12


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store of one part, whose files have several groups of rows."""
    monkeypatch.setattr(parts, "GROUP", dict.fromkeys(TABLES, 4))
    store = Store(tmp_path / "store")
    for number in range(TRIALS):
        write_trial(store, number)
    compact(store.trials)
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
    assert recover(new.trials)
    after = tables(store)
    for row in after["trials"].to_pylist():
        assert row == before[row["id"]]
    assert after["curves"].num_rows == 3 * after["trials"].num_rows
    assert after["classes"].num_rows == 2 * after["trials"].num_rows
    assert not path.exists()
    assert Path(store.root, "damaged", table, path.name).exists()
    assert f"{table}/part" not in names(store)
    assert not recover(Store(store.root).trials)


def test_most_trials_are_recovered(store: Store) -> None:
    spoil(store, "curves", 0.1)
    store.check([f"{number:016x}" for number in range(TRIALS)], curves=True)
    recover(store.trials)
    assert TRIALS - 4 <= len(Store(store.root).outcomes()) < TRIALS


def test_a_sound_store_is_left_alone(store: Store) -> None:
    store.check([f"{number:016x}" for number in range(TRIALS)], curves=True)
    before = tables(store)
    assert not recover(store.trials)
    assert tables(store) == before
