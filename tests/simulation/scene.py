"""A sweep of 24 trials in a simulated room, with drivers, faults, and a reader at every step."""

from __future__ import annotations

import atexit
import functools
import gc
import logging
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.states import State
from orchestrator.store.schemas import result_columns
from orchestrator.store.store import Store
from orchestrator.sweep.load import load_sweep
from tests.simulation.cluster import Driver
from tests.simulation.reader import Reader
from tests.simulation.stand_ins import Room, simulated
from tests.simulation.training import STEPS, trainers
from tests.simulation.world import EndlessError, World

SWEEP = """\
name: small
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {random: [0]}
layers: [1, 2]
recipe: {rate: 0.03, steps: 3, batch: 8}
checkpoint_seconds: 0.000001
resources: {default: {memory_gb: 1}}
lanes: LANES
"""
TRIALS = 24
RUNS = 300  # commands that complete a sweep at the latest
ROOTS = {"folder": "/disk/store", "s3": "s3://bucket/store"}
Tables = dict[str, pa.Table]
KEYS = {"trials": ["id"], "curves": ["id", "step"], "classes": ["id", "subset", "class_index"]}


@functools.cache
def plan(lanes: int = 1) -> Plan:
    """Return the plan of the sweep, whose trials are trained alone or in packs of `lanes`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "small.yaml")
        path.write_text(SWEEP.replace("LANES", str(lanes)))
        sweep, source = load_sweep(str(path), ())
        made = make_plan(resolve(sweep, source))
    assert len(made.trials) == TRIALS
    gc.freeze()  # what was imported is no garbage: looks at it took a tenth of the time
    atexit.register(gc.unfreeze)
    return made


def tables(root: str) -> Tables:
    """Return the result columns of all tables of trials, in an order of their own."""
    store, read = Store(root), {}
    for name, keys in KEYS.items():
        table = store.table(name).select(result_columns(name))
        read[name] = table.sort_by([(key, "ascending") for key in keys])
    return read


@dataclass
class Scene:
    """One sweep with its store, from an empty one to its end."""

    world: World
    room: Room
    kind: str
    lanes: int = 1
    drivers: list[Driver] = field(default_factory=list)
    ended: list[Driver] = field(default_factory=list)
    started: int = 0
    failing: set[str] = field(default_factory=set)
    """Trials whose training fails."""
    is_hasty: bool = False
    """The reader of all rows looks at every fifth step only."""
    weather: bool = False
    """The store failed, was slow, or lagged behind."""
    faults: Counter[str] = field(default_factory=Counter)
    steps: Counter[tuple[str, int]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root = ROOTS[self.kind]
        self.is_local = self.kind == "folder"
        self.reader = Reader(self)

    def start(self, *, retry_failed: bool = False) -> Driver:
        """Give the command."""
        self.started += 1
        name = f"run{self.started}"
        driver = Driver(self.world, plan(self.lanes), self.root, name, retry_failed=retry_failed)
        self.drivers.append(driver)
        return driver

    @property
    def running(self) -> list[Driver]:
        return [driver for driver in self.drivers if driver.alive]

    def wait(self) -> None:
        """Let time pass until the user gives the command again."""
        pause = self.world.random.expovariate(1 / 5.0)
        user = self.world.spawn("user", lambda: self.world.pause(pause), node="sky")
        self.world.run(lambda: not user.alive)

    def until_ended(self) -> None:
        """Let everything happen until no driver runs."""
        self.world.run(lambda: not self.running)
        for driver in self.drivers:
            self.reader.acknowledged |= driver.complete
            self.problems += driver.miscounted()
            if (why := driver.failure) and not self.weather:
                self.problems.append(f"a run ended, though the store never failed: {why}")
        self.reader.look_for_acknowledged()
        self.ended += self.drivers
        self.drivers.clear()

    def settle(self) -> None:
        """Wake who is frozen and let all processes end."""
        for process in self.world.processes:
            self.world.wake(process)
        self.world.run(lambda: not any(one.alive for one in self.world.processes))

    def lose_power(self, *, wholly: bool = False) -> None:
        """End everything at once, and lose what was not flushed: a part of it, or all."""
        for driver in self.drivers:
            self.reader.acknowledged |= driver.complete
        if self.is_local:
            self.room.disk.lose_power(wholly=wholly)
            self.reader.after_power_loss()
        self.world.kill(*(one for one in self.world.processes if one.node != "sky"))

    def is_complete(self) -> bool:
        """Return whether every trial has a row of its end."""
        outcomes = self.reader.outcomes()
        return len(outcomes) == TRIALS and set(outcomes.values()) == {State.COMPLETE}

    def carry_out(self, drivers: int = 1, runs: int = RUNS) -> None:
        """Give the command again and again until the sweep is complete; then once more."""
        for _ in range(runs):
            for _ in range(drivers):
                self.start()
            self.until_ended()
            if self.is_complete():
                break
            self.wait()
        else:
            self.problems.append(f"not complete after {runs} runs")
        self.world.before = lambda *_: None
        self.settle()
        self.start()
        self.until_ended()
        self.settle()

    def finish(self, expected: Tables | None) -> list[str]:
        """Return the problems, after the end of the sweep."""
        if expected is None:
            return [*self.problems, *self.reader.problems]
        store = Store(self.root)
        for name, table in tables(self.root).items():
            if table.num_rows != expected[name].num_rows:
                self.problems.append(
                    f"{table.num_rows} rows of {name}, not {expected[name].num_rows}"
                )
            elif table != expected[name]:
                self.problems.append(f"other values in {name}")
        self.problems += self.reader.damaged()
        if left := store.names("progress"):
            self.problems.append(f"snapshots are left of {', '.join(left)}")
        if left := store.names("leases"):
            self.problems += self._live(left)
        self.problems += self.reader.problems
        return list(dict.fromkeys(self.problems))

    def _live(self, names: list[str]) -> list[str]:
        from orchestrator.store.leases import leases

        return ["a lease is left"] if len(leases(Store(self.root))) > len(names) else []


@contextmanager
def quiet() -> Iterator[None]:
    """Log nothing meanwhile."""
    loggers = [logging.getLogger(name) for name in ("layerwise", "orchestrator")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def scene(seed: int | str, kind: str, lanes: int = 1) -> Iterator[Scene]:
    """Make a room with an empty store."""
    world = World(seed)
    room = Room(world)
    room.disk.make("/disk")
    room.disk.folders[""].flush()
    made = Scene(world, room, kind, lanes)
    plan(lanes)  # on the real disk
    made_trainers = trainers(world, made.steps, made.failing)
    world.after = made.reader.look_at
    with quiet(), simulated(room, made_trainers):
        try:
            yield made
        finally:
            world.after = lambda _: None
            world.kill(*world.processes)


@functools.cache
def undisturbed(kind: str) -> Tables:
    """Return the tables of a sweep without faults."""
    with scene(0, kind) as one:
        one.start()
        one.until_ended()
        assert one.is_complete()
        assert not one.problems, one.problems
        assert one.steps.total() == TRIALS * STEPS
        return tables(one.root)


Outcome = tuple[list[str], Scene]


def outcome_of(seed: int | str, kind: str, act: Callable[[Scene], Any], lanes: int = 1) -> Outcome:
    """Carry out a sweep, and return its problems."""
    expected = undisturbed(kind)
    with scene(seed, kind, lanes) as one:
        try:
            act(one)
            problems = one.finish(expected)
        except EndlessError as error:
            problems = [*one.problems, *one.reader.problems, str(error)]
        except Exception as error:
            problems = [
                *one.problems,
                *one.reader.problems,
                *traceback.format_exception(error)[-1:],
            ]
            if world_trace := one.world.trace:
                world_trace("".join(traceback.format_exception(error)))
        return problems, one
