"""Runs that lose a worker, memory, the disk or the store, or find damaged files."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.execution.inline import run_inline
from orchestrator.execution.run import Run
from orchestrator.states import Ending, State
from orchestrator.store.schemas import result_columns
from orchestrator.store.store import Store
from tests.execution.runs import SMALL, Events, PlanOf, carry_out, ids
from tests.stores import loosen, row_file, to_version_1
from trainers import whole_file


def test_a_trial_is_tried_again(plan_of: PlanOf, store: Store, dying: dict[str, int]) -> None:
    dying["B s0"] = 3
    planned = plan_of(SMALL)
    events, tally = carry_out(planned, store)
    assert tally == {"complete": 6}
    assert events.begun.count("B s0") == 4
    row = store.row(ids(planned)["B s0"])
    assert row is not None
    assert row["retries"] == 3


def test_lost_and_skipped_trials_run_again_in_the_next_run(
    plan_of: PlanOf, store: Store, dying: dict[str, int]
) -> None:
    dying["B s0"] = 4
    planned = plan_of(SMALL)
    events, tally = carry_out(planned, store)
    assert tally == {"complete": 3, "lost": 1, "skipped": 2}
    assert {(name, state) for name, state, _ in events.gave_up} == {
        ("B s0", State.LOST),
        ("B1A s0", State.SKIPPED),
        ("B1B s0", State.SKIPPED),
    }
    row = store.row(ids(planned)["B s0"])
    assert row is not None
    assert row["outcome"] == row["error_type"] == "lost"
    assert row["error_message"].startswith("the worker died 4 times; last reason: Traceback")
    assert row["error_message"].rstrip().endswith("OSError: the cable was pulled")
    again, tally = carry_out(planned, store)
    assert again.begun == ["B s0", "B1A s0", "B1B s0"]
    assert tally == {"complete": 6}
    assert set(store.outcomes().values()) == {"complete"}


def test_a_trial_that_ran_out_of_memory_is_tried_again_with_more_and_the_row_says_so(
    plan_of: PlanOf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from trainers import loop

    train, failures = loop.train, iter([True, True])

    def short_of_memory(*arguments: Any, **options: Any) -> Any:
        if next(failures, False):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")
        return train(*arguments, **options)

    monkeypatch.setattr(loop, "train", short_of_memory)
    planned = plan_of(SMALL, "resources={default: {memory_gb: 1.5}}", "treatments=[base]")
    events = Events()
    run_inline(Run.open(planned, store, events))
    columns = ["memory_raises", "retries", "memory_bytes", "outcome"]
    rows = store.table("trials", columns).sort_by([("memory_raises", "descending")]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        (2, 2, 6_000_000_000, "complete"),
        (0, 0, 1_500_000_000, "complete"),
    ]
    assert [ending for _, ending in events.endings].count(Ending.OUT_OF_MEMORY) == 2


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("times", [2, 1000])
def test_a_full_disk_is_waited_for_and_then_ends_the_run_and_no_trial(
    times: int, plan_of: PlanOf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, left = whole_file.write, [times]

    def full(path: Path, data: bytes) -> None:
        if "/rows/" in str(path) and store.names("rows") and left[0]:
            left[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    planned = plan_of(SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(whole_file, "write", full)
        events = Events()
        run = Run.open(planned, store, events)
        run_inline(run)
    if times == 2:
        assert (run.store_failure, run.tally()["complete"]) == ("", 6)
    else:
        [ended] = [name for name, ending in events.endings if ending is Ending.STORE_FAILED]
        path = store.path("rows", ids(planned)[ended])
        assert run.store_failure.startswith(f"cannot write {path}-complete-")
        assert run.store_failure.endswith(".json: No space left on device")
        assert {ending for _, ending in events.endings} == {Ending.COMPLETE, Ending.STORE_FAILED}
        assert len(store.names("rows")) == 1
        assert carry_out(planned, store)[1] == {"complete": 6}
    assert {row["retries"] for row in store.table("trials").to_pylist()} == {0}


@pytest.mark.usefixtures("hurried")
def test_a_store_that_is_removed_ends_the_run_and_is_not_made_again(
    plan_of: PlanOf,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    layerwise: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
) -> None:
    """A folder that is made again could be on another disk, below the point of a mount."""
    plan_of(SMALL)
    put = Store.put

    def removing(self: Store, path: str, data: bytes) -> None:
        put(self, path, data)
        if "/rows/" in path:
            Path(store.root).rename(tmp_path / "away")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", removing)
        line = ["run", str(tmp_path / "sweep.yaml"), "--store", store.root, "--inline"]
        code, out, err = layerwise(*line)
    assert code == 1
    assert out.splitlines()[-1] == (
        f"the store failed: cannot find the store: the folder {store.root} is gone; "
        "stopped with 1 of 6 trials complete; the same command goes on from here"
    )
    assert "Traceback" not in out + err
    assert not Path(store.root).exists()
    (tmp_path / "away").rename(store.root)
    code, out, _ = layerwise(*line, "--no-report")
    assert (code, out.splitlines()[0]) == (
        0,
        f"{tmp_path / 'sweep.yaml'}: 6 trials, 1 complete in {store.root}",
    )


@pytest.mark.parametrize("table", ["trials", "curves", "classes"])
def test_damaged_files_are_set_aside_and_trained_again(
    table: str, plan_of: PlanOf, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A store of version 1 has a file of each kind per trial."""
    planned = plan_of(SMALL)
    carry_out(planned, store)
    to_version_1(store)
    before = store.table("trials", result_columns("trials")).sort_by("id")
    name = ids(planned)["A s0"]
    folder = Path(store.root, *(("trials", "complete") if table == "trials" else (table,)))
    [path] = folder.glob(f"{name}*")
    path.write_bytes(bytes(path.stat().st_size))
    events, tally = carry_out(planned, Store(store.root))
    assert (events.begun, tally) == (["A s0"], {"complete": 6})
    assert caplog.messages == [
        f"{path} is damaged and left out: it is no whole Parquet file of this table",
        f"1 file is set aside in {store.root}/damaged; what it held is trained again",
    ]
    assert store.table("trials", result_columns("trials")).sort_by("id") == before
    assert store.table("curves").num_rows == 6 * 3
    assert not carry_out(planned, Store(store.root))[0].begun


@pytest.mark.parametrize("is_compact", [False, True])
def test_a_file_of_zeros_stops_no_run(
    is_compact: bool, plan_of: PlanOf, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a row file, or of all rows."""
    planned = plan_of(SMALL)
    carry_out(planned, store)
    before = store.table("trials", result_columns("trials")).sort_by("id")
    if is_compact:
        [path] = Path(store.root, "trials").glob("part-*")
    else:
        loosen(store)
        path = Path(row_file(store, ids(planned)["A1B s0"]))
    path.write_bytes(bytes(path.stat().st_size))
    events, tally = carry_out(planned, Store(store.root))
    assert tally == {"complete": 6}
    assert len(events.begun) == (6 if is_compact else 1)
    assert caplog.messages[0].startswith(f"{path} is damaged and left out: its content is not")
    after = Store(store.root).table("trials", result_columns("trials")).sort_by("id")
    assert after == before
    assert Path(store.root, "damaged", path.parent.name, path.name).exists()


def test_a_flipped_bit_in_a_part_costs_no_trial_that_is_proven(
    plan_of: PlanOf, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    planned = plan_of(SMALL)
    carry_out(planned, store)
    before = store.table("trials").sort_by("id")
    [path] = Path(store.root, "trials").glob("part-*")
    data = bytearray(path.read_bytes())
    data[-20] ^= 1  # in the footer, in the name of the program that wrote it
    path.write_bytes(data)
    events, tally = carry_out(planned, Store(store.root))
    assert tally == {"complete": 6}
    assert f"{6 - len(events.begun)} trials are recovered from {path}" in caplog.messages
    after = {row["id"]: row for row in Store(store.root).table("trials").to_pylist()}
    begun = {ids(planned)[name] for name in events.begun}
    assert all(after[row["id"]] == row for row in before.to_pylist() if row["id"] not in begun)
