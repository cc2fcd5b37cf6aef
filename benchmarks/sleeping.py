"""Trials that sleep in a worker, and note when they began and ended. Needs Ray alone.

The folder of a program holds `settings.json`. Its trials write `spans/<id>`. Workers that began
together write `there/<pid>`, workers that started later `late/<pid>`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

LOOK, PATIENCE = 0.5, 900.0  # seconds: between looks for other workers, and until an error
HEAD_START = 2.0  # seconds from the last arrival until all workers begin


@functools.lru_cache(maxsize=4)
def settings(folder: Path) -> dict[str, Any]:
    """Read `seconds` by trial, and the number of workers that `meet` before the first begins."""
    values: dict[str, Any] = json.loads((folder / "settings.json").read_text())
    return values


@contextlib.contextmanager
def span(folder: Path, id: str) -> Iterator[None]:
    """Let the worker meet the others, and write when the body of `with` began and ended."""
    if count := settings(folder)["meet"]:
        meet(folder, count)
    began = time.time()
    yield
    spans = folder / "spans"
    spans.mkdir(exist_ok=True)
    (spans / id).write_text(json.dumps([began, time.time()]))


def note_job(folder: Path, trials: int, times: Sequence[float]) -> None:
    """Note a job of so many `trials` in this worker.

    `times` are those at which the job came, the sleep began and ended, and all was written.
    """
    jobs = folder / "jobs"
    jobs.mkdir(exist_ok=True)
    with (jobs / str(os.getpid())).open("a") as file:
        file.write(json.dumps({"trials": trials, "times": list(times)}) + "\n")


def meet(folder: Path, count: int) -> None:
    """Wait for `count` workers and begin with them, so that no span includes a start.

    A worker that starts later begins at once. Raises `TimeoutError` after `PATIENCE`.
    """
    go, there, me = folder / "go", folder / "there", str(os.getpid())
    if go.exists() and (there / me).exists():
        return
    arrivals = folder / "late" if go.exists() else there
    arrivals.mkdir(exist_ok=True)
    (arrivals / me).touch()
    deadline = time.monotonic() + PATIENCE
    while not go.exists():
        if len(list(there.iterdir())) >= count:
            mine = folder / f"go-{me}"
            mine.write_text(repr(time.time() + HEAD_START))
            with contextlib.suppress(FileExistsError):
                os.link(mine, go)  # the first of several wins
        elif time.monotonic() > deadline:
            raise TimeoutError(f"{len(list(there.iterdir()))} of {count} workers arrived")
        else:
            time.sleep(LOOK)
    time.sleep(max(0.0, float(go.read_text()) - time.time()))


def plain(config: dict[str, Any]) -> None:
    """Sleep, as a trial that a user of plain Tune writes."""
    from ray import tune

    folder = Path(config["folder"])
    with span(folder, config["id"]):
        time.sleep(settings(folder)["seconds"][config["id"]])
    tune.report({"top1": 0.5})
