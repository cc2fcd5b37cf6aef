"""Trials that fail in training, and their children: rows, messages, second runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.plan.plan import Plan
from orchestrator.states import Ending, State
from orchestrator.store.store import Store
from tests.execution.runs import SMALL, Events, PlanOf, carry_out, ids
from tests.sweep_files import forget_own_code
from trainers.frames import refuse_breakpoint

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


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan_of: PlanOf) -> Plan:
    """A sweep whose half A cannot be trained on, because its pixels overflow in the network."""
    (tmp_path / "broken.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    return plan_of(HALF_BROKEN)


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
