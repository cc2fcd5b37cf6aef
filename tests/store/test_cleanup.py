"""What `clean` may remove: waste that layerwise made, and never what is needed or not its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import StoreError
from orchestrator.store import cleanup
from orchestrator.store.cleanup import Choice, Cleaner
from orchestrator.store.compaction import compact
from orchestrator.store.names import MARKER, stored
from orchestrator.store.schemas import SCHEMAS
from orchestrator.store.store import Store
from orchestrator.store.survey import Survey
from orchestrator.store.view import OldRow, old_path
from tests.small import SMALL, files
from tests.stores import write_old_points, write_old_row

Layerwise = Callable[..., tuple[int, str, str]]
ID, OTHER, ATTEMPT = "0123456789abcdef", "fedcba9876543210", "aaaaaaaa"


def complete(store: Store, id: str) -> None:
    """Write what a completed trial of version 1 left, the row last."""
    for table in ("curves", "classes"):
        rows = [dict.fromkeys(SCHEMAS[table].names) | {"id": id, "attempt": ATTEMPT}]
        write_old_points(store, table, id, ATTEMPT, rows)
    empty: dict[str, Any] = dict.fromkeys(SCHEMAS["trials"].names)
    write_old_row(store, empty | {"id": id, "outcome": "complete", "attempt": ATTEMPT})


def measure(store: Store, network: str, minute: int = 0) -> str:
    """Write the rows of a measurement of a network; return the path of their file."""
    empty: dict[str, Any] = dict.fromkeys(SCHEMAS["measurements"].names)
    id = f"{network[:8]}000000aa"
    row = empty | {"id": id, "measure": "weights", "outcome": "complete"}
    ended = datetime(2026, 1, 2, 3, minute, tzinfo=UTC)
    store.write_derived("measurements", [row | {"trial": network, "ended": ended}])
    return f"measurements/{network}-{id}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store")
    made.make()
    complete(made, ID)
    return made


def waste_of(store: Store) -> set[str]:
    return {store.relative(item.path) for item in Cleaner(store, Choice()).waste}


def test_what_completes_during_the_look_is_no_orphan(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leases(of: Store) -> list[Any]:  # asked for after the files were listed
        complete(of, OTHER)
        return []

    monkeypatch.setattr("orchestrator.store.survey.leases", leases)
    assert waste_of(store) == set()
    assert cleanup.orphans(Survey.of(store)) == []


def test_what_came_into_use_after_the_question_stays(store: Store) -> None:
    complete(store, OTHER)
    row = Path(old_path(store.files, OldRow(OTHER, "complete")))
    content = row.read_bytes()
    row.unlink()
    cleaner = Cleaner(store, Choice())
    assert len(cleaner.waste) == 2
    row.write_bytes(content)
    assert cleaner.remove(cleaner.waste) == 0
    assert store.names("curves") == [f"{ID}-{ATTEMPT}.parquet", f"{OTHER}-{ATTEMPT}.parquet"]


def test_files_that_layerwise_did_not_make_stay(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    foreign = {
        "checkpoints/run1/model.pt",
        f"checkpoints/{OTHER}/model.safetensors",
        "curves/notes.parquet",
        f"curves/{OTHER}-{ATTEMPT} (1).parquet",
        f"progress/{ID}/mine.safetensors",
        "reports/mine/index.html.bak",
        "notes/.half.tmp",
    }
    assert not any(map(stored, foreign))
    for name in foreign | {f"curves/{OTHER}-{ATTEMPT}.parquet"}:
        path = Path(store.root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (outside / OTHER).mkdir(parents=True)
    (outside / OTHER / f"{OTHER}.safetensors").write_bytes(b"x")
    Path(store.root, "checkpoints", OTHER[::-1]).symlink_to(outside / OTHER)
    cleaner = Cleaner(store, Choice())
    assert [store.relative(item.path) for item in cleaner.waste] == [
        f"curves/{OTHER}-{ATTEMPT}.parquet"
    ]
    assert [Path(link).name for link in cleaner.survey.links] == [OTHER[::-1]]
    cleaner.remove(cleaner.waste)
    assert foreign <= set(files(Path(store.root)))
    assert files(outside) == [f"{OTHER}/{OTHER}.safetensors"]


def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path, layerwise: Layerwise) -> None:
    """A store is known by its marker, an older one by its tables."""
    foreign = tmp_path / "foreign"
    model = foreign / "checkpoints/run1/model.pt"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"x")
    code, _, err = layerwise("clean", "--yes", "--store", str(foreign))
    assert (code, err) == (
        2,
        f"layerwise: {foreign} is no store of layerwise: it has neither {MARKER} nor a readable "
        "table; name the store with --store\n",
    )
    (tmp_path / "small.yaml").write_text(SMALL)
    code, _, err = layerwise(
        "run", str(tmp_path / "small.yaml"), "--inline", "--store", str(foreign)
    )
    assert code == 2
    assert err == (
        f"layerwise: {foreign} contains checkpoints/run1/model.pt, which layerwise did not write; "
        "name another folder with --store\n"
    )
    assert files(foreign) == ["checkpoints/run1/model.pt"]
    older = Store(tmp_path / "older")
    older.files.make()
    complete(older, ID)
    assert Cleaner(older, Choice()).waste == []


def test_nothing_goes_where_no_row_can_be_read(store: Store) -> None:
    complete(store, OTHER)
    Path(old_path(store.files, OldRow(OTHER, "complete"))).write_bytes(b"")
    assert waste_of(store) == set()  # its curve stays
    Path(store.root, "trials").rename(Path(store.root, "away"))
    with pytest.raises(StoreError, match=r"^no row in .*/store can be read, so nothing is remov"):
        Cleaner(store, Choice())


def test_measurements_go_with_their_network(store: Store) -> None:
    kept, orphan = measure(store, ID), measure(store, OTHER)
    assert waste_of(store) == {orphan}
    [item] = cleanup.orphans(Survey.of(store))
    assert item.reason == "measurement of no network"
    gone = cleanup.of_trials(Survey.of(store), [ID], "asked for")
    assert kept in {store.relative(item.path) for item in gone}
    names = (f"{kept}.parquet", "measurements/notes.txt")
    assert [stored(path) for path in names] == [True, False]


def test_measurements_of_a_file_of_weights_stay_with_its_sweep(store: Store) -> None:
    empty: dict[str, Any] = dict.fromkeys(SCHEMAS["sweeps"].names)
    store.write_sweep("mine", [empty | {"id": ID, "sweep": "mine", "parent": OTHER}], "")
    measure(store, OTHER)
    assert waste_of(store) == set()


@pytest.mark.parametrize("is_compacted", [False, True])
def test_measurements_go_wherever_their_rows_lie(is_compacted: bool, store: Store) -> None:
    """Also if a compaction that began before writes them once more."""
    kept, orphan = measure(store, ID), measure(store, OTHER)
    [first] = [name for name in store.names("rows") if f"-{OTHER[:8]}" in name]
    data = store.get(store.path("rows", first))
    if is_compacted:
        compact(store)
        assert store.names("rows") == []
    cleaner = Cleaner(store, Choice())
    assert cleaner.remove(cleaner.waste) == 1
    left = {kept.rpartition("-")[2]}
    assert Store(store.root).derived_ids("measurements") == left
    store.put(store.path("rows", first), data)
    assert Store(store.root).derived_ids("measurements") == left
    compact(store)
    assert store.table("measurements")["trial"].to_pylist() == [ID]
    measure(store, OTHER, minute=1)
    assert waste_of(store) == {orphan}


def test_study_trials_go_with_their_sweep(store: Store) -> None:
    series = ("a" * 16, "b" * 16)
    for name, one in zip(("first", "second"), series, strict=True):
        member = dict.fromkeys(SCHEMAS["sweeps"].names) | {"id": ID, "sweep": name}
        searches = [{"id": "x", "series": one, "role": "fine_tune", "trials": 2}]
        store.write_sweep(name, [member], f"name: {name}\n", studies=json.dumps(searches))
        for number in (0, 1):
            row = dict.fromkeys(SCHEMAS["studies"].names) | {"series": one, "number": number}
            store.write_study_trial(row | {"state": "complete", "cells": []})
        compact(store)
    cleaner = Cleaner(store, Choice(sweep="first"))
    cleaner.remove(cleaner.waste)
    assert Store(store.root).study_numbers() == {series[1]: [0, 1]}
    assert Store(store.root).outcomes() == {ID: "complete"}


def test_nothing_goes_while_a_part_of_study_trials_cannot_be_read(store: Store) -> None:
    """The trials of a search are known by it."""
    row = dict.fromkeys(SCHEMAS["studies"].names) | {"series": OTHER, "number": 1}
    store.write_study_trial(row | {"state": "complete", "cells": [ID]})
    compact(store)
    [part] = store.names("studies")
    path = Path(store.path("studies", part))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match="can be read, so nothing is removed"):
        Cleaner(Store(store.root), Choice())
