"""Runs of a small sweep through real Ray, as a user starts them, and ways to disturb them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from orchestrator.store.store import Store
from tests.processes import descendants, environment

SMALL = ("splits.random=[0]", "layers=[1, 7]", "recipe.steps=100", "recipe.evaluate_every=50")
TRIALS = 2 * (2 + 5 * 2)
PATIENCE = 240.0
PF_EXITING = 0x4  # flag of a Linux process that is being torn down; include/linux/sched.h
T = TypeVar("T")


def command(store: Path, *more: str, sweep: str = "digits") -> list[str]:
    named = (f"name={Path(sweep).stem}", *SMALL)  # else the changes would be part of the name
    changes = [part for change in named for part in ("--set", change)]
    module = [sys.executable, "-m", "orchestrator", "run", sweep]
    return [*module, "--store", str(store), "--no-report", *changes, *more]


def run(store: Path, *more: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(store, *more),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(**variables),
        check=False,
    )


def started(store: Path, *more: str, **variables: str) -> subprocess.Popen[str]:
    """Start a run, to be disturbed."""
    return subprocess.Popen(
        command(store, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    )


def wait_for(happened: Callable[[], T], process: subprocess.Popen[str]) -> T:
    deadline = time.monotonic() + PATIENCE
    while not (result := happened()):
        assert process.poll() is None, "the run ended before it could be disturbed"
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.01)
    return result


def wait_for_rows(store: Path, count: int, process: subprocess.Popen[str]) -> None:
    wait_for(lambda: len(Store(store).outcomes()) >= count, process)


def training(process: subprocess.Popen[str]) -> set[int]:
    """Return the ids of the workers that are in a trial, by the titles that Ray gives them."""
    return {pid for pid, line in descendants(process.pid).items() if "Trainable.train" in line}


def worker_that_begins(process: subprocess.Popen[str]) -> int:
    """Wait until a worker begins a trial, so that most of the trial is left. Return its id."""
    seen = [training(process)]

    def begun() -> set[int]:
        seen.append(training(process))
        return seen[-1] - seen[-2]

    return wait_for(begun, process).pop()


def alive(processes: set[int]) -> set[int]:
    """Return those of these processes that run; a zombie and one that is being torn down do not."""
    running = set()
    for pid in processes:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if fields[0] not in "ZX" and not int(fields[6]) & PF_EXITING:
                running.add(pid)
    return running
