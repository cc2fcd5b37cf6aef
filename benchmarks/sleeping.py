"""Trials that sleep, in a worker: how long, from when on, from when to when. Needs Ray alone.

A program's folder holds `settings.json`, and what its trials leave: `spans/<id>`, `there/<pid>` of
workers that began together, `late/<pid>` of those that were started afterwards.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOOK, PATIENCE = 0.5, 900.0  # seconds: between looks at who is there, and until it is hopeless
HEAD_START = 2.0  # seconds from the last arrival until all of them begin


@functools.lru_cache(maxsize=4)
def settings(folder: Path) -> dict[str, Any]:
    """`seconds` of each trial; how many workers are to `meet` before the first ones begin."""
    found: dict[str, Any] = json.loads((folder / "settings.json").read_text())
    return found


@contextlib.contextmanager
def span(folder: Path, id: str) -> Iterator[None]:
    """What a trial does, after its worker has met the others; leaves when it began and ended."""
    if count := settings(folder)["meet"]:
        meet(folder, count)
    began = time.time()
    yield
    spans = folder / "spans"
    spans.mkdir(exist_ok=True)
    (spans / id).write_text(json.dumps([began, time.time()]))


def meet(folder: Path, count: int) -> None:
    """Wait until this many workers are there, and begin with them: their start is no trial's time.

    A worker that comes later begins at once.
    """
    go, there, me = folder / "go", folder / "there", str(os.getpid())
    if go.exists() and (there / me).exists():
        return
    came = folder / "late" if go.exists() else there
    came.mkdir(exist_ok=True)
    (came / me).touch()
    deadline = time.monotonic() + PATIENCE
    while not go.exists():
        if len(list(there.iterdir())) >= count:
            mine = folder / f"go-{me}"
            mine.write_text(repr(time.time() + HEAD_START))
            with contextlib.suppress(FileExistsError):
                os.link(mine, go)  # the first of several wins
        elif time.monotonic() > deadline:
            raise TimeoutError(f"{len(list(there.iterdir()))} of {count} workers came")
        else:
            time.sleep(LOOK)
    time.sleep(max(0.0, float(go.read_text()) - time.time()))


def plain(config: dict[str, Any]) -> None:
    """A trial as a user of plain Tune writes it."""
    from ray import tune

    folder = Path(config["folder"])
    with span(folder, config["id"]):
        time.sleep(settings(folder)["seconds"][config["id"]])
    tune.report({"top1": 0.5})
