"""Sweeps carried out in this process: what is trained, what is not trained again, and why."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.execution.inline import run_inline
from orchestrator.execution.items import Item
from orchestrator.execution.run import Run
from orchestrator.plan.plan import Plan
from orchestrator.states import Ending, State
from orchestrator.store.schemas import result_columns
from orchestrator.store.store import Store
from tests.pictures import write_folder
from tests.sweep_files import forget_own_code
from trainers import whole_file
from trainers.frames import refuse_breakpoint

PlanOf = Callable[..., Plan]

SMALL = """\
name: small
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {random: [0]}
treatments: [base, selffer, transfer]
layers: [1]
recipe: {rate: 0.03, steps: 3, batch: 8}
"""
HALF_BROKEN = """\
name: half-broken
dataset: broken:half
network: broken:build
splits: {named: {x: {A: [0, 1], B: [2, 3]}}}
treatments: [base, selffer, transfer]
layers: [1]
recipe: {rate: 0.03, steps: 3, batch: 4}
"""
BROKEN = """\
import numpy as np
import torch
from torch import nn


class Overflow(nn.Flatten):
    def forward(self, x):
        return super().forward(torch.where(x > 5, torch.nan, x))


def build(*, classes, shape):
    return [nn.Sequential(Overflow(), nn.Linear(64, 4), nn.ReLU()), nn.Linear(4, classes)]


def half():
    labels = np.arange(4).repeat(4)
    images = np.random.RandomState(0).rand(3, 16, 8, 8)
    images[:, labels == 0, 0, 0] = 1e4
    return {s: (images[i], labels) for i, s in enumerate(("train", "validation", "test"))}
"""


@dataclass
class Events:
    """The `Progress` that notes the events of a run, by the names of its items."""

    begun: list[str] = field(default_factory=list)
    endings: list[tuple[str, Ending]] = field(default_factory=list)
    gave_up: list[tuple[str, State, str]] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    def started(self, item: Item) -> None:
        self.begun.append(item.name)

    def ended(self, item: Item, ending: Ending, message: str, *_: object) -> None:  # noqa: ARG002
        self.endings.append((item.name, ending))

    def given_up(self, item: Item, state: State, reason: str) -> None:
        self.gave_up.append((item.name, state, reason))

    def again(self, item: Item) -> None:
        self.repeated.append(item.name)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan_of: PlanOf) -> Plan:
    """A sweep whose half A cannot be trained on, because its pixels overflow in the network."""
    (tmp_path / "broken.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    return plan_of(HALF_BROKEN)


def carry_out(plan: Plan, store: Store, **options: Any) -> tuple[Events, dict[str, int]]:
    """Run a plan. Returns the events, and the number of trials in each state."""
    events = Events()
    run = Run.open(plan, store, events, **options)
    run_inline(run)
    assert run.done
    return events, {state: count for state, count in run.tally().items() if count}


def ids(plan: Plan) -> dict[str, str]:
    return {trial.name: trial.id for trial in plan.members}


ALL = ["A s0", "B s0", "A1A s0", "B1A s0", "B1B s0", "A1B s0"]


# A run ------------------------------------------------------------------------------------------


def test_a_run_and_a_second_one(plan_of: PlanOf, store: Store) -> None:
    planned = plan_of(SMALL)
    events, tally = carry_out(planned, store)
    assert tally == {"complete": 6}
    assert events.begun == ALL
    assert events.endings == [(name, Ending.COMPLETE) for name in ALL]
    assert events.gave_up == []
    first = store.table("trials")
    again, tally = carry_out(planned, store)
    assert tally == {"complete": 6}
    assert (again.begun, again.endings, again.gave_up) == ([], [], [])
    assert store.table("trials") == first


def test_a_run_stores_trials_curves_and_counts_per_class(plan_of: PlanOf, store: Store) -> None:
    planned = plan_of(SMALL)
    carry_out(planned, store)
    id_of = ids(planned)
    rows = {row["name"]: row for row in store.table("trials").to_pylist()}
    assert sorted(rows) == sorted(ALL)
    for name, row in rows.items():
        assert row["id"] == id_of[name]
        assert (row["outcome"], row["steps"], row["images"]) == ("complete", 3, 24)
        assert (row["total"], row["classes"], row["retries"]) == (15, 5, 0)
        assert row["top5"] is None
        assert row["error_message"] is None
        assert row["frozen_proven"] is (True if row["frozen"] else None)
        assert row["ended"] > row["started"]
    for child, parent in (("A1A s0", "A s0"), ("B1A s0", "B s0"), ("A1B s0", "A s0")):
        assert rows[child]["parent"] == id_of[parent]
        assert rows[child]["parent_checkpoint"] == rows[parent]["checkpoint"]
    curves = store.table("curves").to_pylist()
    assert sorted(row["step"] for row in curves) == sorted([1, 2, 3] * 6)
    classes = store.table("classes")
    assert classes.num_rows == 6 * 2 * 5
    test = [row for row in classes.to_pylist() if row["subset"] == "test"]
    assert sum(row["correct"] for row in test) == sum(row["correct"] for row in rows.values())
    assert store.names("checkpoints") == sorted([id_of["A s0"], id_of["B s0"]])
    assert store.names("progress") == []
    assert store.members("small")["id"].to_pylist() == [id_of[name] for name in ALL]


def test_the_same_numbers_in_another_store(plan_of: PlanOf, store: Store, tmp_path: Path) -> None:
    from orchestrator.store.schemas import result_columns

    other = Store(tmp_path / "other")
    carry_out(plan_of(SMALL), store)
    carry_out(plan_of(SMALL), other)
    for table in ("trials", "curves", "classes"):
        columns = result_columns(table)
        one, two = (
            s.table(table, columns).sort_by([(c, "ascending") for c in columns])
            for s in (store, other)
        )
        assert one == two, table


def test_a_part_of_a_sweep_and_its_bases(plan_of: PlanOf, store: Store) -> None:
    planned = plan_of(SMALL)
    events, tally = carry_out(planned, store, only=[ids(planned)["B1A s0"]])
    assert (events.begun, tally) == (["B s0", "B1A s0"], {"complete": 2})
    events, tally = carry_out(planned, store)
    assert events.begun == ["A s0", "A1A s0", "B1B s0", "A1B s0"]
    assert tally == {"complete": 6}


def test_more_layers_train_only_the_new_ones(plan_of: PlanOf, store: Store) -> None:
    carry_out(plan_of(SMALL), store)
    before = store.table("trials").to_pylist()
    events, tally = carry_out(plan_of(SMALL, "layers=[1, 2]"), store)
    assert events.begun == ["A2A s0", "B2A s0", "B2B s0", "A2B s0"]
    assert tally == {"complete": 10}
    after = {row["id"]: row for row in store.table("trials").to_pylist()}
    assert [after[row["id"]] for row in before] == before


def test_sweeps_that_share_bases_train_them_once(plan_of: PlanOf, store: Store) -> None:
    carry_out(plan_of(SMALL), store)
    events, tally = carry_out(plan_of(SMALL, "name=other", "treatments=[base, transfer+]"), store)
    assert events.begun == ["B1A+ s0", "A1B+ s0"]
    assert tally == {"complete": 4}
    sweeps = {row["name"]: row["first_sweep"] for row in store.table("trials").to_pylist()}
    assert (sweeps["A s0"], sweeps["A1B+ s0"]) == ("small", "other")
    assert store.names("sweeps") == ["other.parquet", "small.parquet"]


# Checkpoints of bases ---------------------------------------------------------------------------


def test_no_checkpoint_stays_with_keep_none(plan_of: PlanOf, store: Store) -> None:
    events, tally = carry_out(plan_of(SMALL, "keep=none"), store)
    assert (events.begun, tally) == (ALL, {"complete": 6})
    assert store.names("checkpoints") == []
    again, _ = carry_out(plan_of(SMALL, "keep=none"), store)
    assert again.begun == []
    more, tally = carry_out(plan_of(SMALL, "keep=none", "layers=[1, 2]"), store)
    assert more.begun[:2] == ["A s0", "B s0"]
    assert (len(more.begun), tally) == (6, {"complete": 10})
    assert store.names("checkpoints") == []


def test_every_checkpoint_stays_with_keep_all(plan_of: PlanOf, store: Store) -> None:
    planned = plan_of(SMALL, "keep=all")
    carry_out(planned, store)
    assert store.names("checkpoints") == sorted(planned.trials)


def missing(path: Path) -> None:
    path.unlink()


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize("harm", [missing, damaged])
def test_a_base_whose_checkpoint_is_gone_is_trained_again(
    harm: Callable[[Path], None], plan_of: PlanOf, store: Store
) -> None:
    planned = plan_of(SMALL)
    carry_out(planned, store, only=[ids(planned)[name] for name in ("A1A s0", "B s0")])
    base = ids(planned)["A s0"]
    row = store.row(base)
    assert row is not None
    path = Path(store.checkpoint_path(base, row["checkpoint"]))
    weights = path.read_bytes()
    harm(path)
    events, tally = carry_out(planned, store)
    assert events.begun == ["A s0", "B1A s0", "B1B s0", "A1B s0"]
    assert tally == {"complete": 6}
    assert path.read_bytes() == weights


@pytest.mark.parametrize("harm", [missing, damaged])
def test_a_base_whose_checkpoint_goes_during_the_run_is_trained_again(
    harm: Callable[[Path], None],
    plan_of: PlanOf,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planned, harmed = plan_of(SMALL), []
    write_row = Store.write_row

    def harming(self: Store, row: dict[str, Any]) -> None:
        write_row(self, row)
        if row["name"] in ("A s0", "B s0") and row["name"] not in harmed:
            harmed.append(row["name"])
            harm(Path(store.checkpoint_path(row["id"], row["checkpoint"])))

    monkeypatch.setattr(Store, "write_row", harming)
    events, tally = carry_out(planned, store)
    assert tally == {"complete": 6}
    assert (harmed, events.repeated) == (["A s0", "B s0"], ["A s0", "B s0"])
    assert [e for _, e in events.endings].count(Ending.BASE_DAMAGED) == 2
    assert [events.begun.count(name) for name in ("A s0", "B s0")] == [2, 2]
    assert store.table("trials").num_rows == 6
    for id in (ids(planned)["A s0"], ids(planned)["B s0"]):
        row = store.row(id)
        assert row is not None
        store.get_checkpoint(id, row["checkpoint"])


def test_a_snapshot_that_comes_after_the_row_goes(plan_of: PlanOf, store: Store) -> None:
    """A worker that was frozen writes it when it wakes, after another one has trained its trial."""
    planned = plan_of(SMALL)
    carry_out(planned, store)
    store.put_progress(ids(planned)["A s0"], "a0b1c2d3", 3, b"late")
    store.put_progress("0123456789abcdef", "a0b1c2d3", 3, b"of another sweep")
    events, tally = carry_out(planned, store)
    assert (events.begun, tally) == ([], {"complete": 6})
    assert store.names("progress") == ["0123456789abcdef"]


def test_a_worker_that_was_taken_for_dead_ends_when_it_wakes(
    plan_of: PlanOf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run has trained its trial. It leaves no snapshot and reports the other result."""
    planned, events = plan_of(f"{SMALL}checkpoint_seconds: 0.000001\n"), []
    put = Store.put_progress

    def frozen(self: Store, trial: str, attempt: str, step: int, data: bytes) -> None:
        monkeypatch.setattr(Store, "put_progress", put)
        events.append(carry_out(planned, store))
        events.append(store.row(trial))
        put(self, trial, attempt, step, data)

    monkeypatch.setattr(Store, "put_progress", frozen)
    waking, tally = carry_out(planned, store)
    (others, _), row = events
    assert others.begun[0] == "A s0"
    assert (waking.endings[0], tally) == (("A s0", Ending.COMPLETE), {"complete": 6})
    assert store.row(row["id"]) == row  # not trained to the end a second time
    assert store.names("progress") == []


def test_a_trial_that_is_trained_again_is_not_ended_by_its_own_row(
    plan_of: PlanOf, store: Store
) -> None:
    planned = plan_of(f"{SMALL}checkpoint_seconds: 0.000001\n")
    carry_out(planned, store)
    base = ids(planned)["A s0"]
    before = store.row(base)
    store.drop_checkpoints(base)
    child = ids(planned)["A1A s0"]
    store.delete(store.row_path("complete", child))
    events, tally = carry_out(planned, store)
    assert (events.begun, tally) == (["A s0", "A1A s0"], {"complete": 6})
    after = store.row(base)
    assert before is not None
    assert after is not None
    assert after["attempt"] != before["attempt"]
    assert after["checkpoint"] == before["checkpoint"]


def test_a_checkpoint_that_nobody_needs_may_be_gone(plan_of: PlanOf, store: Store) -> None:
    planned = plan_of(SMALL)
    carry_out(planned, store)
    for id in planned.trials:
        store.drop_checkpoints(id)
    events, _ = carry_out(planned, store)
    assert events.begun == []


# What fails -------------------------------------------------------------------------------------


def failure(plan: Plan, name: str) -> str:
    id = ids(plan)[name]
    return (
        f"trial {id} ({name}) failed: loss is nan at step 0; "
        f"run it alone with: layerwise debug {plan.source.command} {id[:8]}"
    )


def test_a_failed_base_skips_its_children_and_the_rest_goes_on(broken: Plan, store: Store) -> None:
    events, tally = carry_out(broken, store)
    assert tally == {"complete": 2, "failed": 2, "skipped": 2}
    outcomes = {row["name"]: row["outcome"] for row in store.table("trials").to_pylist()}
    assert outcomes == {
        "A x": "failed",
        "B x": "complete",
        "A1A x": "skipped",
        "B1A x": "failed",
        "B1B x": "complete",
        "A1B x": "skipped",
    }
    reason = f"its parent {ids(broken)['A x']} failed: {failure(broken, 'A x')}"
    assert sorted(events.gave_up) == [
        ("A1A x", State.SKIPPED, reason),
        ("A1B x", State.SKIPPED, reason),
    ]
    base, child = (store.row(ids(broken)[name]) for name in ("A x", "A1B x"))
    assert base is not None
    assert child is not None
    assert base["error_message"] == failure(broken, "A x")
    assert (base["error_type"], base["error_step"]) == ("LossNotFinite", 0)
    assert (child["error_type"], child["error_message"]) == ("skipped", reason)
    assert (child["outcome"], child["top1"], child["recipe"]) == ("skipped", None, base["recipe"])


def test_failed_trials_run_again_only_with_retry_failed(broken: Plan, store: Store) -> None:
    carry_out(broken, store)
    rows = store.table("trials")
    again, tally = carry_out(broken, store)
    assert again == Events()
    assert tally == {"complete": 2, "failed": 2, "skipped": 2}
    assert store.table("trials") == rows
    retried, tally = carry_out(broken, store, retry_failed=True)
    assert retried.begun == ["A x", "B1A x"]
    assert [name for name, *_ in retried.gave_up] == ["A1B x", "A1A x"]
    assert tally == {"complete": 2, "failed": 2, "skipped": 2}


def test_a_failed_child_does_not_bring_its_base_back(broken: Plan, store: Store) -> None:
    carry_out(broken, store)
    store.drop_checkpoints(ids(broken)["B x"])  # as `keep: none` does
    again, _ = carry_out(broken, store)
    assert again.begun == []


def test_exit_code_and_summary_of_a_run_with_failures(
    broken: Plan, store: Store, tmp_path: Path, layerwise: Callable[..., Any]
) -> None:
    sweep, folder = str(tmp_path / "sweep.yaml"), ["--store", store.root]
    code, out, err = layerwise("run", sweep, *folder, "--inline", "--no-report")
    assert (code, err) == (1, "")
    assert failure(broken, "A x") in out
    assert out.splitlines()[-1] == (
        "2 failed, 2 skipped of 6 trials (failed trials run again with --retry-failed); "
        f"why: layerwise status {sweep}"
    )
    code, out, _ = layerwise("run", sweep, *folder, "--inline", "--no-report")
    assert code == 1
    assert failure(broken, "A x") not in out


RAISING = """\
from torch import nn


class Gate(nn.Linear):
    def forward(self, x):
        if self.training and len(x) > 2:  # more than planning tries
            raise {error}
        return super().forward(x)


def build(*, classes, shape):
    return [nn.Sequential(nn.Flatten(), nn.Linear(144, 4)), Gate(4, classes)]
"""


def raising(folder: Path, error: str, plan_of: PlanOf) -> Plan:
    """The plan of `SMALL` with a network that raises in its second layer when it is trained."""
    forget_own_code("raising")
    (folder / "raising.py").write_text(RAISING.format(error=error))
    return plan_of(SMALL.replace("{conv: [2, 2], pool: [1, 2], fc: [4]}", "raising:build"))


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ("KeyError('gate')", "KeyError: 'gate'"),
        ("RuntimeError('no gate' + chr(10) + 'more')", "RuntimeError: no gate"),
        ("FileNotFoundError(2, 'none', 'x')", "FileNotFoundError: [Errno 2] none: 'x'"),
    ],
)
def test_an_exception_in_a_network_is_a_failure_once(
    error: str,
    shown: str,
    folder: Path,
    plan_of: PlanOf,
    store: Store,
    layerwise: Callable[..., Any],
) -> None:
    planned = raising(folder, error, plan_of)
    events, tally = carry_out(planned, store)
    assert tally == {"failed": 2, "skipped": 4}
    assert [ending for _, ending in events.endings] == [Ending.FAILED] * 2
    row = store.row(id := ids(planned)["A s0"])
    assert row is not None
    assert (row["error_type"], row["retries"]) == (shown.partition(":")[0], 0)
    assert row["error_message"] == (
        f"trial {id} (A s0) failed: {shown} ({folder}/raising.py:7); "
        f"run it alone with: layerwise debug {folder}/sweep.yaml {id[:8]} --pdb"
    )
    assert row["error_traceback"].startswith("Traceback (most recent call last):\n")
    assert f'File "{folder}/raising.py", line 7, in forward' in row["error_traceback"]
    out = layerwise("status", f"{folder}/sweep.yaml", "--store", store.root).out
    assert f"failed: {row['error_message']}" in out
    assert out.count("    Traceback (most recent call last):") == 1
    err = layerwise("check", f"{folder}/sweep.yaml").err
    assert f"failed: {shown} ({folder}/raising.py:7); run it alone with: " in err
    assert f"layerwise debug {folder}/sweep.yaml 'A s0' --pdb\n" in err


def test_a_breakpoint_on_a_worker_is_a_failure(
    folder: Path, plan_of: PlanOf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.breakpointhook", refuse_breakpoint)  # as `cluster.actor` does
    planned = raising(folder, "breakpoint()", plan_of)
    assert carry_out(planned, store)[1] == {"failed": 2, "skipped": 4}
    row = store.row(ids(planned)["A s0"])
    assert row is not None
    reason = "RuntimeError: breakpoint() needs a terminal: train this trial with layerwise debug"
    assert f"failed: {reason} ({folder}/raising.py:7); run it" in row["error_message"]


@pytest.mark.parametrize(
    ("error", "endings"),
    [
        ("RuntimeError('CUDA error: device-side assert triggered')", {Ending.WORKER_DIED}),
        ("OSError(28, 'No space left on device')", {Ending.WORKER_DIED}),
        ("MemoryError()", {Ending.OUT_OF_MEMORY}),
        (
            'RuntimeError("[enforce fail] DefaultCPUAllocator: can\'t allocate memory")',
            {Ending.OUT_OF_MEMORY},
        ),
    ],
)
def test_an_exception_of_the_machine_is_no_failure(
    error: str, endings: set[Ending], folder: Path, plan_of: PlanOf, store: Store
) -> None:
    events, tally = carry_out(raising(folder, error, plan_of), store)
    assert tally == {"lost": 2, "skipped": 4}
    assert {ending for _, ending in events.endings} == endings


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
    assert store.names("trials", "lost") == store.names("trials", "skipped") == []


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("times", [2, 1000])
def test_a_full_disk_is_waited_for_and_then_ends_the_run_and_no_trial(
    times: int, plan_of: PlanOf, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, left = whole_file.write, [times]

    def full(path: Path, data: bytes) -> None:
        if "/trials/" in str(path) and store.names("trials", "complete") and left[0]:
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
        path = store.row_path("complete", ids(planned)[ended])
        assert run.store_failure == f"cannot write {path}: No space left on device"
        assert {ending for _, ending in events.endings} == {Ending.COMPLETE, Ending.STORE_FAILED}
        assert store.names("trials") == ["complete"]
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
        if "/trials/" in path:
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
    planned = plan_of(SMALL)
    carry_out(planned, store)
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


FOUR = {"train": dict.fromkeys(("ant", "bee", "cat", "dog"), 4)}
FOUR["val"] = dict.fromkeys(FOUR["train"], 2)
PETS = """\
name: pets
dataset: {name: image_folder, root: $PETS/pets, size: 8, held_out: 2}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {named: {x: {A: [ant, bee], B: [cat, dog]}}}
treatments: [base]
recipe: {rate: 0.03, steps: 2, batch: 2}
"""


def test_each_machine_looks_for_the_data_where_the_root_says(
    plan_of: PlanOf, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "here" / "pets", FOUR)
    monkeypatch.setenv("PETS", str(tmp_path / "here"))
    planned = plan_of(PETS)
    (tmp_path / "here").rename(tmp_path / "there")
    _, tally = carry_out(planned, store)
    assert tally == {"failed": 2}
    row = store.row(ids(planned)["A x"])
    assert row is not None
    assert f"no folder train in {tmp_path}/here/pets" in row["error_message"]
    monkeypatch.setenv("PETS", str(tmp_path / "there"))
    _, tally = carry_out(planned, store, retry_failed=True)
    assert tally == {"complete": 2}
    monkeypatch.chdir(tmp_path)
    elsewhere = plan_of(PETS, "dataset.root=there/pets")
    assert ids(elsewhere) == ids(planned)
    [_, assignments] = Run.open(elsewhere, Store(tmp_path / "new"), Events()).take() or (None, [])
    assert assignments[0].data_root == str(tmp_path / "there" / "pets")


def test_a_node_with_other_files_fails_and_says_so(
    plan_of: PlanOf,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fresh_data: Callable[[], None],
) -> None:
    folder = write_folder(tmp_path / "pets", FOUR)
    monkeypatch.setenv("PETS", str(tmp_path))
    planned = plan_of(PETS)
    (folder / "train" / "cat" / "cat_0.JPEG").unlink()
    fresh_data()  # as on another node
    _, tally = carry_out(planned, store)
    assert tally == {"failed": 2}
    row = store.row(ids(planned)["B x"])
    assert row is not None
    assert row["error_type"] == "DataError"
    assert "image_folder: the data or its code differs from what the" in row["error_message"]


def test_data_that_changed_after_planning_fails_by_name(
    plan_of: PlanOf,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    fresh_data: Callable[[], None],
) -> None:
    planned = plan_of(SMALL, "treatments=[base]", "dataset.noise=0.3")
    fresh_data()
    monkeypatch.setattr("trainers.datasets.digits.DIGITS_HASH", "another")
    _, tally = carry_out(planned, store)
    assert tally == {"failed": 2}
    row = store.row(ids(planned)["A s0"])
    assert row is not None
    assert row["error_type"] == "DataError"
    assert "scikit-learn's digits have changed" in row["error_message"]


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
