"""Exact resuming: from any step, and after the process was killed."""

from __future__ import annotations

import dataclasses
import itertools
import math
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.execution import worker
from orchestrator.execution.assignment import Assignment
from orchestrator.states import Ending
from orchestrator.store.schemas import result_columns
from orchestrator.store.store import Store
from tests.trainers.runs import FakeScores, assert_equal, assignment, parent_of
from tests.trainings import BATCH_NORM, result, rows, training
from trainers import checkpoint
from trainers.checkpoint import CheckpointError
from trainers.config import Training
from trainers.loop import train
from trainers.recipe import Schedule
from trainers.results import Result, Runtime, Snapshot

# Snapshots --------------------------------------------------------------------------------------


def test_a_snapshot_of_another_training_is_refused() -> None:
    snapshots = (r for r in rows(training(), checkpoint_seconds=0.0) if isinstance(r, Snapshot))
    data = next(snapshots).data
    other = training(seed=1)
    with pytest.raises(CheckpointError, match=f"^the snapshot is not of trial {other.id}$"):
        next(train(other, resume=data))


def test_a_snapshot_after_every_step_but_the_last() -> None:
    steps = [r.step for r in rows(training(), checkpoint_seconds=0.0) if isinstance(r, Snapshot)]
    assert steps == list(range(1, 20))
    assert not any(isinstance(r, Snapshot) for r in rows(training()))


@pytest.mark.parametrize("steps", [1, 7, 19])
def test_a_training_that_is_asked_to_stop_ends_with_a_snapshot_that_goes_on(steps: int) -> None:
    asked = itertools.count(1)
    *_, last = train(training(), stop=lambda: next(asked) >= steps)
    assert isinstance(last, Snapshot)
    assert last.step == steps
    *_, end = train(training(), resume=last.data)
    assert_equal(end, result(training()), resumes=1)


def test_a_training_in_its_last_step_is_not_stopped() -> None:
    *_, last = train(training(), stop=itertools.chain([False] * 19, [True]).__next__)
    assert isinstance(last, Result)


PHASES = {"copied_rate": 0.5, "layer_decay": 0.5, "fresh_first": 0.4}
PHASED = ({"network": BATCH_NORM}, {"optimiser": "adamw", "rate": 0.01})
DROPS = Schedule(family="step", every=9)
RESUMED = [
    training(steps=23),
    training("transfer", 2, steps=23),
    training("selffer", 4, steps=23, dropout=0.4, optimiser="adam", rate=0.01),
    training("transfer", 1, steps=23, fine_tuned=True, network=BATCH_NORM, momentum=0.5),
    training("random", 1, steps=23, network=BATCH_NORM, precision="bfloat16"),
    training(steps=23, dropout=0.2, optimiser="adamw", rate=0.01, precision="float64"),
    training("selffer", 1, steps=23, optimiser="caffe_sgd", schedule=DROPS),
    training("transfer", 1, steps=23, crop=10, mirror=True, pixels="mean_image", dropout=0.2),
    *(training("transfer", 2, steps=23, fine_tuned=True, **PHASES, **own) for own in PHASED),
]


@pytest.mark.parametrize("one", RESUMED)
def test_resuming_from_any_step_is_bit_identical(one: Training) -> None:
    """One process resumes from every snapshot, and from snapshots of a resumed training."""
    parent = parent_of(one)
    all_rows = rows(one, parent, checkpoint_seconds=0.0)
    expected = all_rows[-1]
    assert isinstance(expected, Result)
    snapshots = [row for row in all_rows if isinstance(row, Snapshot)]
    for snapshot in snapshots[::3]:
        last = list(train(one, parent=parent, resume=snapshot.data))[-1]
        assert_equal(last, expected, resumes=1)
    row: Any = None
    resumes = -1
    while not isinstance(row, Result):  # each attempt ends after four steps
        resume = row.data if row else None
        again = train(one, parent=parent, resume=resume, runtime=Runtime(checkpoint_seconds=0.0))
        steps = (r for r in again if isinstance(r, Snapshot | Result))
        *_, row = itertools.islice(steps, 4)
        resumes += 1
    assert resumes == 5
    assert_equal(row, expected, resumes=5)


def test_resuming_under_other_settings_is_flagged_for_good() -> None:
    def first(row_type: type, **options: Any) -> Any:
        runtime = Runtime(checkpoint_seconds=0.0, threads=options.pop("threads", 1))
        all_rows = train(training(), runtime=runtime, **options)
        return next(row for row in all_rows if isinstance(row, row_type))

    start = first(Snapshot).data
    assert first(Result, resume=start).exact
    other = first(Snapshot, resume=start, threads=2).data
    assert not first(Result, resume=other, threads=2).exact
    assert not first(Result, resume=other).exact


def test_seconds_are_of_all_attempts() -> None:
    snapshot = next(r for r in rows(training(), checkpoint_seconds=0.0) if isinstance(r, Snapshot))
    tensors, meta = checkpoint.unpack(snapshot.data)
    meta["seconds"] = {"data": 10.0, "train": 100.0, "evaluate": 1000.0}
    resumed = train(training(), resume=checkpoint.pack(tensors, meta))
    *_, last = resumed
    assert isinstance(last, Result)
    assert 10 < last.seconds.data < 20
    assert 100 < last.seconds.train < 200
    assert 1000 < last.seconds.evaluate < 1100
    assert last.curve[0].seconds > 100


# Killed processes -------------------------------------------------------------------------------

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "orchestrator.execution.worker",
        "trainers.loop",
        "sklearn.datasets",
        "torch._dynamo",
    ]  # slow imports
)

KILLED = [
    training("transfer", 2, steps=201),
    training(
        *("selffer", 4), steps=201, dropout=0.4, optimiser="adam", rate=0.01, crop=10, mirror=True
    ),
    training("transfer", 1, steps=201, fine_tuned=True, network=BATCH_NORM),
]


def test_a_stopped_trial_keeps_its_snapshot_and_has_no_row(tmp_path: Path) -> None:
    store, one = Store(tmp_path), training()
    given = dataclasses.replace(assignment(one, store, None), checkpoint_seconds=1000.0)
    report = worker.run(given, stop=lambda: True)
    assert (report.ending, report.checkpoint) == (Ending.STOPPED, None)
    assert store.outcomes() == {}
    assert len(store.names("progress", one.id)) == 1
    assert worker.run(given).ending is Ending.COMPLETE
    row = store.row(one.id)
    assert row is not None
    assert (row["resumes"], row["exact"], store.names("progress")) == (1, True, [])


def test_a_snapshot_that_cannot_be_restored_is_dropped(tmp_path: Path) -> None:
    """The snapshot is complete and belongs to another trial."""
    store, one = Store(tmp_path), training()
    given = assignment(one, store, None)
    store.put_progress(one.id, "a0b1c2d3", 3, checkpoint.pack({}, {"trial": "another"}))
    report = worker.run(given)
    assert report.ending is Ending.WORKER_DIED
    restart = "the training starts again from step 0"
    assert report.message == f"the snapshot is not of trial {one.id}; {restart}"
    assert store.names("progress") == []
    assert worker.run(given).ending is Ending.COMPLETE


def run_and_die(given: Assignment, step: int, seconds: float) -> None:
    """Train, and kill this process some time after the snapshot of `step`.

    A row reaches `watch` before the store. At the second snapshot the store holds the first.
    """

    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
    seen = itertools.count(1)

    def watch(_: str, row: Any) -> None:
        late = isinstance(row, Snapshot) and next(seen) > 1 and row.step >= step
        if late and not timer.is_alive():
            timer.start()

    worker.run(given, watch=watch)


def exit_code(run: Callable[..., Any], *arguments: Any) -> int | None:
    process = CONTEXT.Process(target=run, args=arguments)
    process.start()
    process.join()
    return process.exitcode


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store]:
    whole, killed = Store(tmp_path / "whole"), Store(tmp_path / "killed")
    whole.make()
    killed.make()
    return whole, killed


@pytest.mark.parametrize("one", KILLED)
def test_a_killed_process_resumes_bit_identically(
    one: Training, stores: tuple[Store, Store]
) -> None:
    """After SIGKILL at random moments, row, curve, classes and checkpoint are the same."""
    plain, killed = stores
    parent = parent_of(one)
    moments = random.Random(one.id)
    steps = itertools.accumulate(moments.sample(range(2, 21), 3))  # after a first snapshot
    for step in steps:
        seconds = moments.uniform(0, 0.02)
        assert exit_code(run_and_die, assignment(one, killed, parent), step, seconds) == -9
    assert exit_code(worker.run, assignment(one, killed, parent)) == 0
    worker.run(assignment(one, plain, parent))

    for table in ("trials", "curves", "classes"):
        columns = result_columns(table)
        expected, actual = plain.table(table).select(columns), killed.table(table).select(columns)
        assert actual.to_pylist() == expected.to_pylist(), table
        assert expected.num_rows > 0
    for store, resumes in ((plain, 0), (killed, 3)):
        row = store.row(one.id)
        assert row is not None
        assert (row["outcome"], row["resumes"], row["exact"]) == ("complete", resumes, True)
        assert store.names("progress") == []
    names = plain.names("checkpoints", one.id)
    assert names == killed.names("checkpoints", one.id)
    paths = [store.path("checkpoints", one.id, names[0]) for store in stores]
    assert plain.get(paths[0]) == killed.get(paths[1])


def test_a_failed_trial_keeps_the_curve_from_before_it_was_resumed(
    stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, store = training(steps=12, evaluate_every=4), stores[0]
    given = assignment(one, store, None)
    losses = [1.0] * 10 + [math.nan] * 2
    FakeScores(losses, [1, 2, 3] * 9, [1, 2, 3] * 9).install(monkeypatch)

    class Killed(BaseException):
        pass

    def watch(_: str, row: Any) -> None:
        if isinstance(row, Snapshot) and row.step == 7:
            raise Killed

    with pytest.raises(Killed):
        worker.run(given, watch=watch)
    report = worker.run(given)
    assert report.message.startswith(f"trial {one.id} (A2B s0) failed: loss is nan at step 10; ")
    row = store.row(one.id)
    assert row is not None
    assert (row["outcome"], row["error_type"], row["error_step"]) == ("failed", "LossNotFinite", 10)
    assert store.table("curves").sort_by("step")["step"].to_pylist() == [4, 8]
