"""Trials that workers train now, and their curves so far: for those who watch a sweep.

`running/<token>.json` is of one worker. It is renewed every few seconds and removed when the work
ends; that of a worker that was killed expires. Nothing else depends on these files, and a worker
that cannot write its own trains on.
"""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field

from orchestrator.errors import StoreError
from orchestrator.store.names import RunningFile
from orchestrator.store.store import Store

FOLDER = "running"
NEAR, FAR = 2.0, 15.0  # seconds between two versions, in a folder and in an object store
RENEWED = 30.0  # seconds after which a version is written though nothing is new
HOLDS = 90.0  # seconds for which a version holds
MOST_POINTS = 60  # of a curve; of longer ones every other point is left out

Point = tuple[int, float]


@dataclass
class UnderWay:
    """A trial that is being trained."""

    trial: str
    step: int = 0
    """Steps done at the last evaluation of this attempt; 0 before it."""
    curve: list[Point] = field(default_factory=list)
    """Steps of this attempt, and validation top-1 (mAP of a detector) as a fraction."""

    def add(self, step: int, height: float) -> None:
        """Add a point of the curve."""
        self.step = step
        if math.isfinite(height):
            self.curve.append((step, height))
        if len(self.curve) > MOST_POINTS:
            del self.curve[-2::-2]  # the last one stays


class Announcement:
    """The trials of one worker. Threads may add to it while it is written."""

    def __init__(self, trials: Sequence[str]):
        """`trials` are the ids of all that the worker has begun."""
        self.lock = threading.Lock()
        self.trials = {id: UnderWay(id) for id in trials}

    def evaluated(self, trial: str, step: int, height: float) -> None:
        with self.lock:
            if trial in self.trials:
                self.trials[trial].add(step, height)

    def ended(self, trial: str) -> None:
        with self.lock:
            self.trials.pop(trial, None)

    def to_json(self) -> list[dict[str, object]]:
        with self.lock:
            return [asdict(trial) for trial in self.trials.values()]


@contextlib.contextmanager
def announced(store: Store, trials: Sequence[str]) -> Iterator[Announcement]:
    """Keep a file of the store about these trials, for as long as the context lasts.

    Work that ends within the first seconds is never announced.
    """
    announcement, ended = Announcement(trials), threading.Event()
    path = store.path(FOLDER, RunningFile(secrets.token_hex(8)).name)
    every = FAR if store.is_remote else NEAR

    def write() -> None:
        last: list[dict[str, object]] | None = None
        due = 0.0
        while not ended.wait(every):
            now = announcement.to_json()
            if now == last and time.monotonic() < due:
                continue
            content = {"written": time.time(), "trials": now}
            with contextlib.suppress(StoreError), store.files.once():
                store.put(path, json.dumps(content).encode())
                last, due = now, time.monotonic() + RENEWED
        if last is not None:
            with contextlib.suppress(StoreError), store.files.once():
                store.delete(path)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield announcement
    finally:
        ended.set()
        thread.join(timeout=10.0)  # then the file expires


def under_way(store: Store, wanted: Collection[str]) -> dict[str, UnderWay]:
    """Return the trials among `wanted` that workers train now, by id."""
    found: dict[str, UnderWay] = {}
    for name in store.names(FOLDER):
        trials = _read(store, name) if RunningFile.parse(name) else None
        found |= {one.trial: one for one in trials or () if one.trial in wanted}
    return found


def expired(store: Store) -> list[str]:
    """Return the paths of files that workers left behind when they were killed."""
    names = [name for name in store.names(FOLDER) if RunningFile.parse(name)]
    return [store.path(FOLDER, name) for name in names if _read(store, name) is None]


def _trial(trial: str, step: int, curve: Sequence[Point]) -> UnderWay:
    return UnderWay(str(trial), int(step), [(int(at), float(height)) for at, height in curve])


def _read(store: Store, name: str) -> list[UnderWay] | None:
    """Return the trials of one worker; None if the file has expired, is gone, or is no such."""
    try:
        content = json.loads(store.get(store.path(FOLDER, name)))
        if time.time() > content["written"] + HOLDS:
            return None
        return [_trial(**one) for one in content["trials"]]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
