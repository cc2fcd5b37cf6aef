"""`layerwise verify` names what is wrong in a store, says how to mend it, and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.store import row_files, table_files
from orchestrator.store.compaction import compact
from orchestrator.store.schemas import to_table
from orchestrator.store.store import Store
from orchestrator.store.verification import Problem, Verification
from tests.conftest import Ended
from tests.stores import blank, to_version_1, write_others, write_trial

Layerwise = Callable[..., Ended]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with rows of every kind of place, and files of every kind."""
    store = Store(tmp_path / "store")
    store.make()
    id = write_trial(store, 0)
    to_version_1(store)
    for number in (1, 2):
        write_trial(store, number)
        write_others(store, number)
    compact(store, everything=False)
    row = store.row(f"{1:016x}")
    assert row
    write_trial(store, 3)
    store.write_sweep(
        "mine",
        [blank("sweeps") | {"id": id, "sweep": "mine"}],
        "name: mine\n",
        extractions=json.dumps([f"{n:016x}" for n in range(4)]),
    )
    write_others(store, 3)
    store.put_progress("f" * 16, "aaaaaaaa", 5, b"snapshot")
    return store


def problems(store: Store) -> list[Problem]:
    return list(Verification(Store(store.root)).problems())


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_sound_store(store: Store, layerwise: Layerwise) -> None:
    assert problems(store) == []
    before = sorted(Path(store.root).rglob("*"))
    ended = layerwise("verify", "--store", store.root)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "4 trials, 13 files: no problem\n"
    assert sorted(Path(store.root).rglob("*")) == before


@pytest.mark.parametrize(
    ("glob", "remedy"),
    [
        ("rows/*", "`layerwise run` trains again what it held"),
        ("trials/complete/*", "`layerwise run` trains again what it held"),
        ("curves/0*", "`layerwise run` trains again what it held"),
        ("trials/part-*", "`layerwise run` recovers the rows that are proven to be right"),
        ("curves/part-*", "`layerwise run` recovers the rows that are proven to be right"),
        ("classes/part-*", "`layerwise run` recovers the rows that are proven to be right"),
        ("sweeps/*", "`layerwise run` with the sweep's file writes it again"),
        *(
            (f"{place}", f"`layerwise run` {remedy}")
            for table in ("studies", "measurements", "extractions")
            for place, remedy in (
                (f"rows/{table}-*", "trains again what it held"),
                (f"{table}/part-*", "recovers the rows that are proven to be right"),
            )
        ),
        ("progress/*/*", "`layerwise clean` removes it"),
    ],
)
def test_a_flipped_bit(glob: str, remedy: str, store: Store, layerwise: Layerwise) -> None:
    if glob in ("trials/complete/*", "curves/0*"):  # version 1 has no checksum
        [path] = Path(store.root).glob(glob)
        path.write_bytes(b"PAR1")
    else:
        path = next(iter(Path(store.root).glob(glob)))
        flip(path)
    [problem] = [one for one in problems(store) if one.path == str(path)][:1]
    assert problem.remedy.startswith(remedy)
    ended = layerwise("verify", "--store", store.root)
    assert ended.code == 1
    assert f"{path}: {problem.flaw}; {problem.remedy}\n" in ended.out


def test_rows_of_a_part_are_compared_with_their_digests(store: Store) -> None:
    """A part that was written with other numbers, and a checksum that is right."""
    compact(store)
    [name] = store.names("trials")
    path = Path(store.path("trials", name))
    arrow = table_files.pq.read_table(path)
    at = arrow.schema.get_field_index("top1")
    values = [0.5, *arrow["top1"].to_pylist()[1:]]
    arrow = arrow.set_column(at, arrow.field(at), table_files.pa.array(values))
    table_files.pq.write_table(arrow, path)
    data = path.read_bytes()
    new = name.replace(name.split("-")[2], f"{row_files.digest(data)}.parquet")
    path.rename(path.with_name(new))
    assert [(one.path, one.flaw) for one in problems(store)] == [
        (str(path.with_name(new)), "1 of its 4 trials are not what they were")
    ]


def test_files_that_are_gone_or_needless(store: Store) -> None:
    id, root = f"{0:016x}", Path(store.root)
    (root / f"curves/{id}-aaaaaaaa.parquet").unlink()
    [curves] = root.glob("curves/part-*")
    curves.unlink()
    orphan = store.path("curves", f"{'e' * 16}-aaaaaaaa.parquet")
    store.put(orphan, table_files.encode(to_table("curves", [])))
    store.put(store.path("rows", "notes.txt"), b"x")
    weights = store.path("checkpoints", id, f"{'a' * 16}.safetensors")
    store.put(weights, b"other")
    assert {one.path: one.flaw for one in problems(store)} == {
        f"{root}/curves/{id}-aaaaaaaa.parquet": (
            f"the curve or the class counts of trial {id} are gone"
        ),
        str(curves): "it is gone, and its part is there",
        weights: "weights that no row names",
        orphan: "attempt that no row names",
        f"{root}/rows/notes.txt": "its name is none of a store's files",
    }
