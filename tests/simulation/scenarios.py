"""Sweeps under faults: every crash point one after the other, and random faults by a seed."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.simulation.faults import FAULTS
from tests.simulation.scene import RUNS, TRIALS, Scene, outcome_of
from tests.simulation.training import LANES, STEPS

Trace = Callable[[str], None]
EACH = 30  # random faults in a sweep
GAP = 22.0  # operations between two random faults, on average


@dataclass
class Outcome:
    """Problems of one sweep, and its size."""

    label: str
    problems: list[str]
    faults: int
    operations: int
    seconds: float
    cpu_seconds: float = 0.0
    kinds: dict[str, int] = field(default_factory=dict)


def at_random(
    seed: int, kind: str | None = None, faults: int = EACH, trace: Trace | None = None
) -> Outcome:
    """Carry out a sweep under random faults. The seed alone decides what happens.

    Every other pair of seeds trains packs.
    """
    began = time.process_time()
    kind = kind or ("folder", "s3")[seed % 2]
    lanes = LANES if seed % 4 > 1 else 1

    def act(scene: Scene) -> None:
        random, world = scene.world.random, scene.world
        scene.is_hasty = True
        world.trace = trace
        names = list(FAULTS)
        next_at = random.expovariate(1 / GAP)

        def before(*_: object) -> None:
            nonlocal next_at
            if world.operations < next_at:
                return
            next_at = world.operations + 1 + random.expovariate(1 / GAP)
            if scene.faults.total() == faults:
                next_at = math.inf
                return
            name = random.choice(names)
            scene.faults[name] += 1
            happened = False
            try:
                happened = FAULTS[name](scene)
                if world.trace:
                    world.trace(f"{world.now:9.3f} {'FAULT':22} {name} {happened}")
            except BaseException:
                happened = True  # it ended the process under way
                if world.trace:
                    world.trace(f"{world.now:9.3f} {'FAULT':22} {name} to this process")
                raise
            finally:
                scene.faults[name] -= not happened

        world.before = before
        scene.carry_out(runs=max(RUNS, 3 * faults))

    problems, scene = outcome_of(seed, kind, act, lanes)
    each = "" if faults == EACH else f" --each {faults}"
    return Outcome(
        label=f"seed {seed}{each} ({kind}{', packs' if lanes > 1 else ''})",
        problems=problems,
        faults=scene.faults.total(),
        operations=scene.world.operations,
        seconds=scene.world.now,
        cpu_seconds=time.process_time() - began,
        kinds=dict(scene.faults),
    )


def one_of_many(seed: int, faults: int) -> Outcome:
    """Carry out a sweep as `at_random` does, with one collection of garbage, before it.

    Collections would otherwise look at all answers that are remembered, again and again.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        return at_random(seed, faults=faults)
    finally:
        gc.enable()


CRASHES = ("process", "everything")


def crash(point: int, kind: str, drivers: int, whom: str, lanes: int = 1) -> Outcome:
    """Carry out a sweep with a crash before its write number `point`, counted from 1."""

    def act(scene: Scene) -> None:
        world = scene.world

        def before(what: str, path: str, changes: bool) -> None:  # noqa: ARG001
            if changes and world.writes == point and not scene.faults:
                scene.faults[whom] += 1
                process = world.current
                scene.room.objects.tears = point % 2 == 1
                if whom == "everything":
                    scene.lose_power()
                    return
                for driver in scene.running:
                    for worker in driver.workers:
                        if worker.process is process:
                            driver.kill_worker(worker)
                    if process is driver.process or process in driver.process.below:
                        driver.kill()

        world.before = before
        scene.carry_out(drivers)
        most = TRIALS * STEPS + 4 * lanes * len(scene.faults)
        if drivers == 1 and scene.steps.total() > most:
            scene.problems.append(f"{scene.steps.total()} steps were taken, not {most} at most")

    problems, scene = outcome_of(f"crash {drivers}", kind, act, lanes)
    label = f"{whom} before write {point} ({kind}, {drivers} drivers, {lanes} lanes)"
    return Outcome(label, problems, scene.faults.total(), scene.world.operations, scene.world.now)


def crashes(
    kind: str, drivers: int, whom: str, every: int = 1, lanes: int = 1
) -> Iterator[Outcome]:
    """Yield the outcomes of a crash before each write of a sweep, until there are no more."""
    point = 1
    while True:
        one = crash(point, kind, drivers, whom, lanes)
        if not one.faults:
            return
        yield one
        point += every
