"""Stores in the states that `layerwise watch` may meet, for its tests in and out of a browser."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from orchestrator.store import kinds, parts
from orchestrator.store.leases import Lease
from orchestrator.store.names import MARKER
from orchestrator.store.schemas import to_table
from orchestrator.store.store import Store
from orchestrator.store.under_way import UnderWay
from tests import stores, synthetic
from trainers import checkpoint

SPLITS = tuple(f"s{number}" for number in range(6))
NAN = {"outcome": "failed", "top1": None, "val_top1": None}


def lease(store: Store, sweep: str, running: int = 4, left: float | None = 754.0) -> None:
    """Write the lease of a run that has an hour to renew it."""
    now = time.time()
    run = Lease(
        sweep=sweep,
        host="node-3",
        pid=1,
        began=now - 700.0,
        written=now + 3600.0,
        running=running,
        seconds_left=left,
    )
    store.put(store.path("leases", f"{sweep}-0123456789abcdef.json"), _json(asdict(run)))


def unlease(store: Store) -> None:
    """Remove the lease of the run of `demo`, as its end does."""
    store.delete(store.path("leases", "demo-0123456789abcdef.json"))


def announce(store: Store, trials: Sequence[UnderWay]) -> None:
    """Write what a worker trains, with an hour to write it again."""
    content = {"written": time.time() + 3600.0, "trials": [asdict(one) for one in trials]}
    store.put(store.path("running", "0123456789abcdef.json"), _json(content))


def snapshot(store: Store, id: str, heights: Mapping[int, float]) -> None:
    """Write a snapshot with these heights of the curve by step."""
    step = max(heights)
    points = [{"step": at, "val_top1": height} for at, height in heights.items()]
    data = checkpoint.pack({"w": torch.zeros(2)}, {"trial": id, "step": step, "curve": points})
    store.put_progress(id, "aaaaaaaa", step, data)


def sweep(part: float, failed: int = 0, **options: Any) -> synthetic.Synthetic:
    """Return a sweep whose bases are complete, and a part of whose other trials has ended.

    `failed` of these have a loss that is not a number.
    """
    made = synthetic.digits(**{"splits": SPLITS} | options)
    draw = random.Random(3)
    bases = [row for row in made.trials if row["treatment"] in ("base", "base_long")]
    others = [row for row in made.trials if row["treatment"] not in ("base", "base_long")]
    draw.shuffle(others)
    ended = others[: int(part * len(others))]
    for number, row in enumerate(ended[:failed]):
        step = 200 + number
        reason = {"error_type": "LossNotFinite", "error_message": f"loss is nan at step {step}"}
        ended[number] = {**row, **NAN, "error_step": step, **reason}
    made.trials = [{**row, "seconds_total": 60.0} for row in bases + ended]
    ids = {row["id"] for row in made.trials}
    made.curves = [row for row in made.curves if row["id"] in ids]
    return made


def empty(store: Store) -> None:
    store.make()


def one_trial(store: Store) -> None:
    made = sweep(0.0)
    made.trials, made.curves = made.trials[:1], []
    made.write(store)
    lease(store, "demo", running=1, left=None)


def running(store: Store) -> None:
    made = sweep(0.6, failed=3)
    made.write(store)
    ids = {row["id"] for row in made.trials}
    open_ones = [row["id"] for row in made.members if row["id"] not in ids]
    for number, id in enumerate(open_ones[:4]):
        pace, last = 80 + 30 * number, 300 + 40 * number
        heights = {at: 0.9 - 0.7 * 2.7 ** (-at / pace) for at in range(25, last, 25)}
        snapshot(store, id, heights)
    lease(store, "demo")


def stopped(store: Store) -> None:
    running(store)
    unlease(store)


def complete(store: Store) -> None:
    sweep(1.0).write(store)


def all_failed(store: Store) -> None:
    made = sweep(1.0, splits=("s0", "s1"))
    reason = {"error_type": "KeyError", "error_message": "KeyError: 'images' in load (own.py:7)"}
    made.trials = [{**row, **NAN, "error_step": 0, **reason} for row in made.trials]
    made.curves = []
    made.write(store)


def nan(store: Store) -> None:
    """Curves and results with numbers that are none."""
    made = sweep(1.0, failed=20, splits=("s0", "s1"))
    made.trials = [
        {**row, "val_top1": float("nan"), "loss": float("nan")} if number % 3 else row
        for number, row in enumerate(made.trials)
    ]
    left = made.trials.pop()
    made.curves = [
        {**row, "val_top1": float("nan")} if number % 5 == 0 else row
        for number, row in enumerate(made.curves)
        if row["id"] != left["id"]
    ]
    made.write(store)
    snapshot(store, left["id"], {25: float("nan"), 50: 0.4, 75: float("inf"), 100: 0.5})
    lease(store, "demo", running=1)


def half_copied(store: Store) -> None:
    """A copy that broke off: of some files the first half is there."""
    running(store)
    paths = sorted(entry.path for entry in store.files.walk(store.path("rows")))
    paths += sorted(entry.path for entry in store.files.walk(store.path("progress")))[:2]
    for path in [*paths[:9], *paths[-2:]]:
        data = Path(path).read_bytes()
        Path(path).write_bytes(data[: len(data) // 2])


def foreign(store: Store) -> None:
    running(store)
    for name in ("rows/notes.txt", "trials/report.docx", "sweeps/plan (copy).parquet", "a.csv"):
        Path(store.root, name).parent.mkdir(exist_ok=True)
        Path(store.root, name).write_text("nothing of layerwise's")


def older(store: Store) -> None:
    sweep(0.7, failed=2, splits=("s0",)).write(store)
    store.make()
    stores.to_version_1(store)


def hostile(store: Store) -> None:
    """Names and reasons that would be markup or script, were they not escaped."""
    made = sweep(0.5, failed=2, splits=("s0", "s1"))
    text = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}"
    made.members = [{**row, "name": f"{row['name']} {text}"} for row in made.members]
    made.trials = [
        {**row, "error_message": text} if row["outcome"] == "failed" else row for row in made.trials
    ]
    made.write(store)


def several(store: Store) -> None:
    """Three sweeps, one of which runs."""
    for name in ("first", "second", "third"):
        made = sweep(0.4, splits=("s0", "s1"), name=name)
        made.write(store)
    lease(store, "second", running=2)


def one_more(store: Store) -> None:
    """Complete the last trial of `stopped` that has neither a row nor a snapshot."""
    ended = store.outcomes().keys() | set(store.names("progress"))
    store.write_row(next(row for row in sweep(1.0).trials[::-1] if row["id"] not in ended))


def large(store: Store) -> None:
    """Ten thousand trials, of which seven in ten are complete, as a compaction left them."""
    made = synthetic.digits(splits=[f"s{number}" for number in range(136)])
    store.make()
    store.write_sweep(made.name, made.members, "name: demo\n")
    draw = random.Random(5)
    kept = [{**row, "seconds_total": 60.0} for row in made.trials if draw.random() < 0.7]
    kept.sort(key=lambda row: str(row["id"]))
    trials = to_table("trials", kept)
    digests = pa.array(["0" * 16] * len(kept), pa.string())
    empty_ones = {name: to_table(name, []) for name in ("curves", "classes")}
    proven = {"trials": trials.append_column(parts.DIGEST, digests)}
    parts.write(store.files, kinds.TRIALS, proven | empty_ones)
    lease(store, "demo", running=64, left=9000.0)


def newer(store: Store) -> None:
    complete(store)
    store.put(store.path(MARKER), _json({"layerwise_store": 99}))


STATES: dict[str, Callable[[Store], None]] = {
    "empty": empty,
    "one trial": one_trial,
    "running": running,
    "stopped": stopped,
    "complete": complete,
    "all failed": all_failed,
    "nan": nan,
    "half copied": half_copied,
    "foreign": foreign,
    "older": older,
    "hostile": hostile,
    "several": several,
}


class Built:
    """Stores of states, each of which is made once, below one folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, state: str) -> Path:
        """Return the folder of a state's store; that of `missing` does not exist."""
        path = self.folder / state.replace(" ", "_")
        if not path.exists() and state != "missing":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "fsync", lambda _: None)  # of a thousand files
                (STATES | {"large": large})[state](Store(path))
        return path


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
