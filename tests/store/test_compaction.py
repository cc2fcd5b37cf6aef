"""Compaction keeps every row that counts, whatever happens beside it or in the middle of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.errors import StoreError
from orchestrator.store import compaction, damage, parts, removals
from orchestrator.store.compaction import Compacted, compact
from orchestrator.store.names import CompactFile
from orchestrator.store.schemas import COLUMNS, SCHEMAS
from orchestrator.store.store import Store
from tests.s3_server import S3Server
from tests.stores import (
    KEYS,
    blank,
    copy_of,
    names,
    row_file,
    tables,
    to_version_1,
    to_version_2,
    write_others,
)
from tests.stores import write_trial as write

COMPACT = ["classes/part", "curves/part", "trials/part"]
OTHERS = ["extractions/part", "measurements/part", "studies/part"]


@pytest.fixture
def folder(local: Store) -> Store:
    return local


@pytest.mark.parametrize("version", [1, 2, 3])
def test_all_rows_are_in_one_part_afterwards(version: int, store: Store) -> None:
    for number in range(5):
        write(store, number)
        write_others(store, number)
    write(store, 5, "failed")
    if version < 3:
        to_version_2(store)
    if version == 1:
        to_version_1(store)
    before, outcomes = tables(store), Store(store.root).outcomes()
    done = compact(store)
    others = dict.fromkeys(("study trial", "measurement", "extraction"), 5)
    assert (done.copied, done.written) == ({"trial": 6} | others, 4)
    assert names(store) == sorted(COMPACT + OTHERS)
    assert tables(store) == before
    assert Store(store.root).outcomes() == outcomes
    assert store.check(list(outcomes), curves=True).lacking == {}
    assert compact(store) == Compacted()
    for table, key in KEYS.items():  # as other programs read them
        [path] = [store.path(table, name) for name in store.names(table)]
        arrow = pq.read_table(pa.BufferReader(store.get(path)))
        ids = arrow.select(key[:1]).to_pylist()
        assert ids == sorted(ids, key=str)
        arrow = arrow.sort_by([(name, "ascending") for name in key])
        assert arrow.select(SCHEMAS[table].names).to_pylist() == before[table].to_pylist()


def test_columns_and_trials_are_read_from_parts(folder: Store) -> None:
    for number in range(4):
        write(folder, number)
    compact(folder)
    write(folder, 4)
    read = folder.table("trials", ["n", "id"])
    assert read.column_names == ["n", "id"]
    assert sorted(read["n"].to_pylist()) == [0, 1, 2, 3, 4]
    assert folder.table("curves", ["step"]).num_rows == 15
    assert [row["n"] for row in folder.rows([f"{2:016x}", f"{4:016x}", "f" * 16])] == [2, 4]
    assert (folder.row(f"{3:016x}") or {})["n"] == 3
    assert folder.row(f"{3:016x}", ["failed"]) is None


@pytest.mark.parametrize("is_compacted", [False, True])
def test_better_and_later_rows_count_after_it(is_compacted: bool, store: Store) -> None:
    for number, outcome in enumerate(["lost", "failed", "complete", "complete"]):
        write(store, number, outcome, minute=5)
    compact(store)
    write(store, 0, "complete", "bbbbbbbb", 6)  # better
    write(store, 1, "failed", "bbbbbbbb", 6)  # later
    write(store, 2, "complete", "bbbbbbbb", 4)  # of a worker that woke late
    write(store, 3, "failed", "bbbbbbbb", 6)  # worse
    if is_compacted:
        compact(store)
        assert names(store) == COMPACT
    rows = tables(store)["trials"].to_pylist()
    assert [(r["n"], r["outcome"], r["attempt"][0]) for r in rows] == [
        (0, "complete", "b"),
        (1, "failed", "b"),
        (2, "complete", "a"),
        (3, "complete", "a"),
    ]
    points = tables(store)["curves"]["attempt"].to_pylist()
    assert "".join(attempt[0] for attempt in points) == "bbbbbbaaaaaa"


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("is_compacted", [False, True])
def test_the_best_study_trials_and_the_latest_measurements_count(
    is_compacted: bool, is_old: bool, store: Store
) -> None:
    write_others(store, 0, "failed", 5, 0.1)
    write_others(store, 1, "complete", 5, 0.1)
    write_others(store, 2, "complete", 5, 0.1)
    if is_old:
        to_version_2(store)
    else:
        compact(store)
    write_others(store, 0, "complete", 6, 0.2)
    write_others(store, 1, "failed", 6, 0.2)  # of another driver, or of new weights
    write_others(store, 2, "complete", 4, 0.2)  # of a worker that woke late
    if is_compacted:
        compact(store)
        assert names(store) == OTHERS
    now = tables(store)
    studies = now["studies"].select(["state", "value"]).to_pylist()
    assert [tuple(x.values()) for x in studies] == [
        ("complete", 0.2),
        ("complete", 0.1),
        ("complete", 0.1),
    ]
    for table, several in (("measurements", 3), ("extractions", 1)):
        outcomes = now[table]["outcome"].to_pylist()
        assert outcomes == several * ["complete"] + several * ["failed"] + several * ["complete"]
    assert now["measurements"]["value"].to_pylist()[::3] == [0.2, 0.2, 0.1]
    assert now["measurements"]["layer"].to_pylist() == 3 * [1, 2, 3]
    assert Store(store.root).study_numbers() == {"a" * 16: [0, 1, 2]}
    assert [row["number"] for row in store.study_trials("a" * 16)] == [0, 1, 2]
    assert [row["value"] for row in store.study_trials("a" * 16, 1)] == [0.1]
    id = f"{1:016x}"
    assert Store(store.root).derived_ids("measurements") == {f"{n:016x}" for n in range(3)}
    assert store.derived("extractions", [id, "f" * 16])[id]["outcome"] == "failed"


def test_an_old_file_under_another_name_is_damaged(folder: Store) -> None:
    write_others(folder, 0)
    to_version_2(folder)
    for table in ("studies", "measurements", "extractions"):
        [name] = folder.names(table)
        wrong = name.replace("0.parquet", "7.parquet")
        Path(folder.path(table, name)).rename(folder.path(table, wrong))
        assert folder.table(table).num_rows == 0
        assert folder.damage.reasons[folder.path(table, wrong)] == (
            "it holds another row than its name says"
        )


def test_removed_rows_stay_away(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if a compaction that began before writes them once more."""
    ids = [write(folder, number) for number in range(3)]
    rows = {path: path.read_bytes() for path in Path(folder.root, "rows").iterdir()}
    compact(folder)
    removals.write(folder.files, [(ids[0], "aaaaaaaa"), (ids[1], "bbbbbbbb")])
    assert sorted(Store(folder.root).outcomes()) == ids[1:]
    assert set(tables(folder)["curves"]["id"].to_pylist()) == set(ids[1:])
    for path, data in rows.items():
        path.write_bytes(data)
    assert sorted(Store(folder.root).outcomes()) == ids[1:]
    compact(folder)
    assert names(folder) == [*COMPACT[:2], "removed/" + removal_token(folder), COMPACT[2]]
    assert sorted(Store(folder.root).outcomes()) == ids[1:]
    write(folder, 0, attempt="cccccccc")  # trained again
    assert sorted(Store(folder.root).outcomes()) == ids
    later = removals.time.time() + removals.STAYS + 1
    monkeypatch.setattr("time.time", lambda: later)
    compact(folder)
    assert names(folder) == COMPACT
    assert sorted(Store(folder.root).outcomes()) == ids


def removal_token(store: Store) -> str:
    [name] = store.names("removed")
    return name.partition("-")[0]


def test_a_trial_of_version_1_whose_curve_is_gone_stays_as_it_is(folder: Store) -> None:
    ids = [write(folder, number) for number in range(2)]
    to_version_1(folder)
    folder.delete(folder.path("curves", f"{ids[0]}-aaaaaaaa.parquet"))
    compact(folder)
    assert folder.names("trials", "complete") == [f"{ids[0]}.parquet"]
    assert sorted(Store(folder.root).outcomes()) == ids
    assert folder.check(ids).lacking.keys() == {ids[0]}
    write(folder, 0, attempt="bbbbbbbb", minute=1)  # trained again
    compact(folder)
    assert names(folder) == COMPACT


def test_rows_and_parts_with_columns_of_a_later_version_stay_as_they_are(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = SCHEMAS["trials"]
    with monkeypatch.context() as later:
        wide = schema.append(pa.field("colour", pa.string()))
        later.setitem(SCHEMAS, "trials", wide)
        later.setitem(COLUMNS, "trials", dict(zip(wide.names, wide.types, strict=True)))
        write(folder, 0)
        row = blank("trials") | {"id": f"{1:016x}", "attempt": "aaaaaaaa", "outcome": "complete"}
        folder.write_row(row | {"colour": "red"})
        compact(folder)
        folder.write_row(row | {"id": f"{2:016x}", "colour": "blue"})
        before = tables(folder)["trials"]
    write(folder, 3)
    compact(folder)
    assert len(folder.names("rows")) == 1
    assert len(folder.names("trials")) == 2
    with monkeypatch.context() as later:
        later.setitem(SCHEMAS, "trials", wide)
        later.setitem(COLUMNS, "trials", dict(zip(wide.names, wide.types, strict=True)))
        assert tables(folder)["trials"]["colour"].to_pylist() == [None, "red", "blue", None]
        assert tables(folder)["trials"].slice(0, 3) == before


def test_small_parts_are_joined_during_a_run(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "ALIKE", 3)
    for number in range(9):
        write(folder, number)
        compact(folder, everything=False)
    assert 1 < len(folder.names("trials")) < 5
    assert len(Store(folder.root).outcomes()) == 9
    compact(folder)
    assert names(folder) == COMPACT


def test_large_parts_are_left_alone(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MOST", 24)
    monkeypatch.setattr(compaction, "AT_ONCE", 2)
    for number in range(8):  # six rows each
        write(folder, number)
    compact(folder)
    parts = folder.names("trials")
    assert len(parts) == 2
    write(folder, 8)
    compact(folder)
    assert set(parts) < set(folder.names("trials"))
    assert len(Store(folder.root).outcomes()) == 9


# Beside others, and interrupted ------------------------------------------------------------------


class StoppedError(Exception):
    """The death of a process, as a test stages it."""


def disturbed(
    monkeypatch: pytest.MonkeyPatch,
    store: Store,
    happens: Callable[[int], object],
    *,
    after: bool,
    step: int = 1,
) -> Iterator[int]:
    """Yield numbers: the caller compacts, and `happens` runs at that change of the store.

    With a `step` of 3, at every third change.
    """
    files = type(store.files)
    put, delete = files.put, files.delete
    for moment in range(0, 1000, step):
        count = [0]

        def changing(change: Any, *arguments: Any, at: int = moment, seen: Any = count) -> None:
            now, seen[0] = seen[0], seen[0] + 1
            if after:
                change(*arguments)
            if now == at:
                happens(now)
            if not after:
                change(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(files, "put", lambda *a: changing(put, *a))
            patch.setattr(files, "delete", lambda *a: changing(delete, *a))
            yield moment
        if count[0] <= moment:
            return
    raise AssertionError("it changes the store without end")


def fill(store: Store) -> dict[str, pa.Table]:
    """Write rows of every kind: in a part, in row files, of version 1, superseded and removed."""
    for number in range(4):
        write(store, number, outcome := "failed" if number == 3 else "complete")
        write_others(store, number, outcome)
    to_version_1(store)
    for number in range(2, 6):
        write(store, number, attempt="bbbbbbbb", minute=1)
        write_others(store, number, minute=1, value=0.25)
    removed = write(store, 6)
    write_others(store, 6)
    compact(store, everything=False)
    attempts = [rows.look().attempts() for rows in store.row_tables]
    of_six = (removed, f"{'a' * 16}-6")
    removals.write(store.files, [key for x in attempts for id in of_six for key in x.get(id, ())])
    write(store, 4, attempt="cccccccc", minute=2)
    write_others(store, 4, minute=2, value=0.125)
    write(store, 7, "lost")
    write_others(store, 7, "failed")
    expected = tables(store)
    assert {table: rows.num_rows for table, rows in expected.items()} == {
        "trials": 7,
        "curves": 21,
        "classes": 12,
        "studies": 7,
        "measurements": 21,
        "extractions": 7,
    }
    return expected


@pytest.mark.parametrize("after", [False, True])
def test_it_may_be_interrupted_anywhere(
    after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: int) -> None:
        raise StoppedError

    root = tmp_path / "store"
    expected, stops = fill(Store(root)), 0
    for moment in disturbed(monkeypatch, Store(root), stop, after=after):
        store = Store(tmp_path / f"store{moment}")
        with monkeypatch.context() as patch:
            patch.undo()
        try:
            compact(copy_of(Store(root), store))
        except StoppedError:
            stops += 1
        assert tables(store) == expected
    assert stops > 10
    compact(Store(root))
    assert tables(Store(root)) == expected


@pytest.mark.parametrize("after", [False, True])
def test_another_compaction_may_run_at_every_moment(
    after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "store"
    expected = fill(Store(root))
    current: list[Store] = []

    def other(_: int) -> None:
        compact(Store(current[0].root))
        assert tables(current[0]) == expected

    for moment in disturbed(monkeypatch, Store(root), other, after=after, step=3):
        store = copy_of(Store(root), Store(tmp_path / f"store{moment}"))
        current[:] = [store]
        compact(store)
        assert tables(store) == expected
        compact(store)
        assert tables(store) == expected
        assert names(store) == sorted([*COMPACT, *OTHERS, "removed/" + removal_token(store)])


def test_readers_see_each_trial_once_at_every_moment(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, looks = fill(folder), []

    def look(moment: int) -> None:
        assert tables(folder) == expected
        assert len(Store(folder.root).outcomes()) == expected["trials"].num_rows
        looks.append(moment)

    for moment in range(200):
        for _ in disturbed(monkeypatch, folder, look, after=True):
            compact(folder)
            break
        if moment >= 3:
            break
    compact(folder)
    assert tables(folder) == expected


def test_a_reader_begins_again_when_a_compaction_moves_its_rows(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fill(folder)
    reader, names_of = Store(folder.root), type(folder.files).names
    left = [2]

    def names_then_compact(files: Any, path: str) -> list[str]:
        listed = names_of(files, path)
        if path.endswith("/trials") and left[0]:
            left[0] -= 1
            compact(Store(folder.root))
        return listed

    monkeypatch.setattr(type(folder.files), "names", names_then_compact)
    assert reader.table("trials").sort_by("id") == expected["trials"]


def test_a_part_that_is_not_read_back_deletes_nothing(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, 0)
    before = folder.names("rows")
    get = type(folder.files).get

    def spoilt(files: Any, path: str) -> bytes:
        data = get(files, path)
        return data[:-1] + b"x" if "/part-" in path else data

    with monkeypatch.context() as patch:
        patch.setattr(type(folder.files), "get", spoilt)
        with pytest.raises(StoreError, match=r"was not stored as it was written, 3 times$"):
            compact(folder)
    assert folder.names("rows") == before


def test_a_part_that_is_given_back_damaged_once_is_written_again(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, 0)
    expected = folder.table("trials")
    get, spoilt = type(folder.files).get, []

    def spoils_one(files: Any, path: str) -> bytes:
        data = get(files, path)
        if "/trials/part-" in path and not spoilt:
            spoilt.append(path)
            return data[:-1] + b"x"
        return data

    with monkeypatch.context() as patch:
        patch.setattr(type(folder.files), "get", spoils_one)
        compact(folder)
    assert len(spoilt) == 1
    assert folder.names("rows") == []
    assert not Path(spoilt[0]).exists()
    assert folder.table("trials") == expected


def test_a_part_is_flushed_before_the_rows_that_it_replaces_go(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another compaction wrote it, and may have died before it flushed the name."""
    path = row_file(folder, write(folder, 0))
    data = folder.get(path)
    compact(folder)
    folder.put(path, data)
    done: list[tuple[str, str]] = []
    for name in ("settle", "delete"):
        monkeypatch.setattr(
            type(folder.files), name, lambda _, path, name=name: done.append((name, path))
        )
    compact(folder)
    base = folder.files.base
    flushed = [f"{base}/{name}" for name in ("rows", "trials", "curves", "classes")]
    assert done[:5] == [("settle", one) for one in (*flushed, base)]
    assert done[5:] == [("delete", path)]


# Requests ---------------------------------------------------------------------------------------


def test_requests_for_rows_on_s3(s3: S3Server) -> None:
    """A list has a thousand names; each row file and each part is one request."""
    store = Store(s3.new_bucket())
    for number in range(40):
        write(store, number)
        write_others(store, number)
    for loose, compacted in ((40, 0), (0, 1)):
        for table in ("trials", "studies", "measurements", "extractions"):
            s3.asked.clear()
            assert Store(store.root).table(table).num_rows == (120 if table[0] == "m" else 40)
            gets = [asked for asked in s3.asked if "list-type" not in asked]
            # The index, then columns; pyarrow asks for the size.
            assert len(gets) <= loose + 4 * compacted
            assert len(s3.asked) - len(gets) <= 6
        compact(store)


def test_a_store_of_a_newer_version_is_refused(folder: Store) -> None:
    folder.make()
    folder.put(folder.path("layerwise-store.json"), b'{"layerwise_store": 4}')
    with pytest.raises(StoreError, match=r"was written by a newer layerwise \(schema 4, "):
        folder.make()


def test_version_2_says_that_a_store_is_newer(
    folder: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at all parts. Otherwise it would show a store without its new rows."""
    folder.make()
    assert folder.names("trials") == ["skipped"]  # a new store has no row that it could read
    write(folder, 0)
    compact(folder)
    folder.put(folder.path("layerwise-store.json"), b'{"layerwise_store": 2}')
    before_it = tables(folder)
    folder.make()
    assert tables(folder) == before_it
    assert len(folder.names("trials")) == 3  # its part, one without rows, and `skipped`
    monkeypatch.setattr(parts, "_indexes", {})
    monkeypatch.setattr(damage, "SCHEMA_VERSION", "2")
    with pytest.raises(StoreError, match=r"\(schema 3, this one knows 2\); upgrade layerwise$"):
        Store(folder.root).outcomes()
    monkeypatch.undo()
    compact(folder)
    assert names(folder) == [*COMPACT, "trials/skipped/0000000000000000.parquet"]
    assert tables(folder) == before_it


def test_names_of_parts_are_never_used_twice(folder: Store) -> None:
    """A compaction that deletes what another wrote meanwhile would lose rows."""
    tokens = set()
    for _ in range(3):
        write(folder, 0)
        compact(folder)
        [name] = folder.names("trials")
        tokens.add((CompactFile.parse(name) or ("",))[0])
    assert len(tokens) == 1  # the row was there already: the part stayed
    write(folder, 0, attempt="bbbbbbbb", minute=1)
    compact(folder)
    [name] = folder.names("trials")
    assert (CompactFile.parse(name) or ("",))[0] not in tokens


def test_a_part_whose_curves_are_gone_stays_as_it_is(folder: Store) -> None:
    write(folder, 0)
    compact(folder)
    [part], [curves] = folder.names("trials"), folder.names("curves")
    folder.delete(folder.path("curves", curves))
    write(folder, 1)
    later = Store(folder.root)
    assert compact(later).copied == {"trial": 1}
    assert part in later.names("trials")
    assert Store(folder.root).outcomes() == dict.fromkeys([f"{0:016x}", f"{1:016x}"], "complete")
