"""What `clean` may remove: waste that layerwise made, and never what is needed or not its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import StoreError
from orchestrator.store import cleanup
from orchestrator.store.cleanup import Choice, Cleaner
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


def measure(store: Store, network: str) -> str:
    """Write the rows of a measurement of a network; return the path of their file."""
    empty: dict[str, Any] = dict.fromkeys(SCHEMAS["measurements"].names)
    row = empty | {"id": "00000000000000aa", "measure": "weights", "outcome": "complete"}
    store.write_derived("measurements", [row | {"trial": network}])
    return f"measurements/{network}-00000000000000aa.parquet"


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
    assert [stored(path) for path in (kept, "measurements/notes.txt")] == [True, False]


def test_measurements_of_a_file_of_weights_stay_with_its_sweep(store: Store) -> None:
    empty: dict[str, Any] = dict.fromkeys(SCHEMAS["sweeps"].names)
    store.write_sweep("mine", [empty | {"id": ID, "sweep": "mine", "parent": OTHER}], "")
    measure(store, OTHER)
    assert waste_of(store) == set()
