"""`Observer`: the state of a sweep in its store, read again and again while others write it.

A look lists names, as `status --follow` does. Files are opened for four things: the record of the
sweep when it changed, the rows of failures that are new, what workers say of trials under way, and
the newest snapshots of these, which hold their curves.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.errors import StoreError
from orchestrator.report.follow import Follower
from orchestrator.states import BAD_OUTCOMES, State
from orchestrator.stats.measurements import ARMS, WITHOUT_LAYERS, arm
from orchestrator.store.files import Entry
from orchestrator.store.leases import leases
from orchestrator.store.names import SnapshotFile, SweepFile
from orchestrator.store.ownership import refuse_newer_store
from orchestrator.store.store import Store
from orchestrator.store.under_way import UnderWay, under_way
from orchestrator.watch import sentences

MOST_RUNNING = 12  # trials under way whose curves are shown
MOST_FAILURES = 500  # trials whose reasons are read
MOST_REASONS = 30  # different ones that are shown

Place = tuple[str, int]  # arm, and number of layers that are copied or random


@dataclass
class Cell:
    """Counts of the trials of one treatment with one number of layers."""

    total: int = 0
    complete: int = 0
    bad: int = 0
    """Failed, lost or skipped."""
    running: int = 0
    """Begun: a worker trains it, or it has a snapshot that a run may go on from."""


@dataclass(frozen=True)
class Running:
    """A trial under way, as its worker or its newest snapshot says."""

    name: str
    step: int
    curve: Sequence[tuple[int, float]]
    """Step, and validation top-1 (mAP of a detector) as a fraction."""


@dataclass(frozen=True)
class Failure:
    """A reason for which trials ended without a result."""

    outcome: str
    step: int | None
    """Of the first of these trials."""
    reason: str
    names: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Observation:
    """State of a sweep at one moment, as its store has it."""

    sweep: str
    """Empty as long as the store has none."""
    sweeps: Sequence[str] = ()
    """All sweeps of the store."""
    waits: str = ""
    """Reason for which there is nothing to show yet; empty if there is something."""
    problem: str = ""
    """Why the store cannot be read; what else is here is then of an earlier look."""
    layers: Sequence[int] = ()
    rows: Mapping[str, Mapping[int, Cell]] = field(default_factory=dict)
    """Cells by arm and number of layers, which is 0 for networks that copy none."""
    whole: Cell = field(default_factory=Cell)
    """All trials together."""
    facts: Sequence[tuple[str, str]] = ()
    """Names and values, such as `time left` and `1:05`."""
    sentence: str = ""
    """Sentence on the run that is writing, or on why none is."""
    is_live: bool = False
    """True if a run is writing."""
    running: Sequence[Running] = ()
    more_running: int = 0
    failures: Sequence[Failure] = ()
    more_failures: int = 0
    content: tuple[Any, ...] = ()
    """Equal as long as the same networks are complete: then the figure is the same."""


class Observer:
    """Looks at one sweep of a store. What cannot change is read once."""

    def __init__(self, place: str, sweep: str):
        """`place` is the store; `sweep` may not be recorded yet. An empty name takes any."""
        self.place, self.sweep = place, sweep
        self.record: Entry | None = None
        self.follower: Follower | None = None
        self.names: dict[str, str] = {}
        self.places: dict[str, Place] = {}
        self.reasons: dict[str, tuple[str, int | None, str]] = {}
        self.snapshots: dict[str, tuple[SnapshotFile, Sequence[tuple[int, float]]]] = {}
        self.last = Observation(sweep=sweep, waits=sentences.BEING_READ)

    def look(self, seconds: Mapping[Place, float] | None = None) -> Observation:
        """Return what the store says now. `seconds` are median times of complete trials.

        If the store cannot be read, the last observation is returned with the problem.
        """
        try:
            self.last = self._look(seconds or {})
        except StoreError as error:
            self.record = None
            return with_problem(self.last, str(error))
        return self.last

    def _look(self, seconds: Mapping[Place, float]) -> Observation:
        # A new store: a file that was half copied at the last look may be whole by now.
        store = Store(self.place)
        store.damage.is_quiet = True
        if not store.exists():
            self.record = None
            return Observation(sweep=self.sweep, waits=sentences.no_store(self.place))
        records = _records(store)
        sweep = self.sweep or _chosen(store, records)
        if sweep not in records:
            self.record = None
            waits = sentences.no_record(self.place, sweep)
            return Observation(sweep=sweep, sweeps=sorted(records), waits=waits)
        if self.follower is None or records[sweep] != self.record:
            refuse_newer_store(store.files)
            self._read_members(store, sweep)
            self.record = records[sweep]
        else:
            self.follower.store = store
            self.follower.look()
        return self._observed(store, sweep, sorted(records), seconds)

    def _read_members(self, store: Store, sweep: str) -> None:
        columns = ["id", "name", "treatment", "n", "frozen"]
        rows = store.members(sweep).select(columns).to_pylist()
        self.names = {row["id"]: row["name"] or row["id"][:8] for row in rows}
        self.places = {row["id"]: _place(row) for row in rows}
        self.follower = Follower(store, sweep)

    def _observed(
        self, store: Store, sweep: str, sweeps: Sequence[str], seconds: Mapping[Place, float]
    ) -> Observation:
        follower = self.follower
        assert follower is not None
        open_ones = self.names.keys() - follower.ended.keys()
        trained = under_way(store, open_ones) if follower.runs else {}
        begun = [id for id in self.names if id in trained]  # before those that wait
        begun += [id for id in self.names if id in follower.under_way - trained.keys()]
        bad = [id for id in self.names if follower.ended.get(id) in BAD_OUTCOMES]
        cells = self._cells(follower.ended, set(begun))
        complete = frozenset(id for id, x in follower.ended.items() if x == State.COMPLETE)
        rows = {name: _of_arm(cells, name) for name in _arms(cells)}
        failures = self._failed(store, bad[:MOST_FAILURES], follower.ended)[:MOST_REASONS]
        return Observation(
            sweep=sweep,
            sweeps=sweeps,
            layers=sorted({n for _, n in cells} - {0}),
            rows=rows,
            whole=_sum(cells.values()),
            facts=sentences.facts(follower, _work_left(cells, seconds)),
            sentence=sentences.on_runs(follower),
            is_live=bool(follower.runs),
            running=self._running(store, begun[:MOST_RUNNING], trained),
            more_running=max(0, len(begun) - MOST_RUNNING),
            failures=failures,
            more_failures=len(bad) - sum(len(one.names) for one in failures),
            content=(self.record, hash(complete)),
        )

    def _cells(self, ended: Mapping[str, str], under_way: Collection[str]) -> dict[Place, Cell]:
        cells: dict[Place, Cell] = {}
        for id, place in self.places.items():
            cell = cells.setdefault(place, Cell())
            cell.total += 1
            outcome = ended.get(id)
            if outcome == State.COMPLETE:
                cell.complete += 1
            elif outcome is not None:
                cell.bad += 1
            elif id in under_way:
                cell.running += 1
        return cells

    def _running(
        self, store: Store, ids: Sequence[str], trained: Mapping[str, UnderWay]
    ) -> list[Running]:
        """Return these trials with their curves: up to the snapshot, and as the worker goes on."""
        self._read_snapshots(store, ids)
        shown = []
        for id in ids:
            now, snapshot = trained.get(id), self.snapshots.get(id)
            if now is None and snapshot is None:
                continue
            step, before = (snapshot[0].step, snapshot[1]) if snapshot else (0, ())
            later = now.curve if now else []
            start = later[0][0] if later else math.inf
            curve = [*(point for point in before if point[0] < start), *later]
            shown.append(Running(self.names[id], max(step, now.step if now else 0), curve))
        return shown

    def _read_snapshots(self, store: Store, ids: Sequence[str]) -> None:
        """Read the newest snapshots of these trials, of which only new ones are opened."""
        before, self.snapshots = self.snapshots, {}
        assert self.follower is not None
        for id in ids:
            has_any = id in self.follower.under_way
            if not has_any or (file := store.latest_snapshot(id)) is None:
                continue
            known = before.get(id)
            if known is None or known[0] != file:
                meta = store.snapshot_meta(id, file) or {}
                known = file, _curve(meta.get("curve"))
            self.snapshots[id] = known

    def _failed(self, store: Store, ids: Sequence[str], ended: Mapping[str, str]) -> list[Failure]:
        """Return the reasons of these trials, of which only new ones are read."""
        known = {id: self.reasons.get(id) for id in ids}
        new = [id for id, x in known.items() if x is None or x[0] != ended[id]]
        for outcome in sorted({ended[id] for id in new}):
            for row in store.rows([id for id in new if ended[id] == outcome], outcome):
                reason = row["error_message"] or row["error_type"] or ""
                known[row["id"]] = outcome, row["error_step"], reason
        self.reasons = {id: x for id, x in known.items() if x is not None}
        alike: dict[tuple[str, str], list[str]] = {}
        for id, (outcome, _, reason) in self.reasons.items():
            alike.setdefault((outcome, reason), []).append(id)
        return [
            Failure(outcome, self.reasons[group[0]][1], reason, [self.names[id] for id in group])
            for (outcome, reason), group in alike.items()
        ]


def with_problem(last: Observation, problem: str) -> Observation:
    """Return an observation with a reason for which there is no newer one."""
    return replace(last, problem=problem)


def _records(store: Store) -> dict[str, Entry]:
    """Return the files of the sweeps in a store, by the sweep's name."""
    entries = store.files.entries(store.path("sweeps"))
    parsed = ((SweepFile.parse(entry.path.rpartition("/")[2]), entry) for entry in entries)
    return {file.sweep: entry for file, entry in parsed if file}


def _chosen(store: Store, records: Mapping[str, Entry]) -> str:
    """Return the sweep of the latest run that is writing; without one, the latest recorded."""
    runs = [run for run in leases(store) if run.sweep in records]
    if runs:
        return max(runs, key=lambda run: run.began).sweep
    return max(records, key=lambda name: (records[name].written, name), default="")


def _place(row: Mapping[str, Any]) -> Place:
    treatment, n = row["treatment"] or "", row["n"] or 0
    try:
        return arm(treatment, bool(row["frozen"])), n
    except KeyError:  # of a later version
        return treatment, n


def _arms(cells: Collection[Place]) -> list[str]:
    known = {name for name, _ in cells}
    return [*(name for name in ARMS if name in known), *sorted(known.difference(ARMS))]


def _of_arm(cells: Mapping[Place, Cell], name: str) -> dict[int, Cell]:
    of_arm = {n: cell for (arm_name, n), cell in sorted(cells.items()) if arm_name == name}
    return {0: _sum(of_arm.values())} if name in WITHOUT_LAYERS else of_arm


def _sum(cells: Collection[Cell]) -> Cell:
    numbers = Counter[str]()
    for cell in cells:
        numbers.update(vars(cell))
    return Cell(**numbers)


def _work_left(cells: Mapping[Place, Cell], seconds: Mapping[Place, float]) -> float:
    """Return the seconds of one slot that the open trials take, by medians of complete ones.

    A place without one takes the mean of all; trials under way count as open.
    """
    if not seconds:
        return 0.0
    mean = sum(seconds.values()) / len(seconds)
    open_ones = ((place, cell.total - cell.complete - cell.bad) for place, cell in cells.items())
    return sum(number * seconds.get(place, mean) for place, number in open_ones)


def _curve(points: Any) -> list[tuple[int, float]]:
    """Return steps and heights of the points of a snapshot; what is no number is left out."""
    heights = []
    for point in points if isinstance(points, list) else ():
        step, value = (point.get(name) for name in ("step", "val_top1"))
        value = point.get("val_map50") if value is None else value
        if isinstance(step, int) and isinstance(value, int | float) and math.isfinite(value):
            heights.append((step, float(value)))
    return heights
