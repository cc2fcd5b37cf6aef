"""Dangers of those who clean or read a store while others use it."""

from __future__ import annotations

import contextlib

from orchestrator.errors import LayerwiseError
from orchestrator.store.cleanup import Choice, Cleaner
from orchestrator.store.store import Store
from tests.simulation import faults
from tests.simulation.scene import TRIALS, Scene, plan
from tests.simulation.staging import ALL, at, at_most, in_one_run, on_write, require


def cleaned(scene: Scene) -> None:
    """The store is cleaned again and again while a run uses it. No step is taken again."""
    at(scene, list(range(60, 900, 35)), lambda: faults.clean(scene))
    scene.carry_out()
    at_most(scene, ALL)
    in_one_run(scene)


def cleaned_at_each_row(scene: Scene) -> None:
    """The store is cleaned whenever a row is about to be written, and what it names is there."""

    def clean() -> None:
        before, scene.world.current = scene.world.current, None
        try:
            with contextlib.suppress(LayerwiseError):  # refused as long as no row can be read
                cleaner = Cleaner(Store(scene.root), Choice())
                cleaner.remove(cleaner.waste)
        finally:
            scene.world.current = before

    on_write(scene, "/rows/", clean, TRIALS)
    scene.carry_out()
    at_most(scene, ALL)
    in_one_run(scene)


def cleaned_by_a_slow_one(scene: Scene) -> None:
    """A cleaner looks when no run uses the store, and removes when one has begun and ended.

    The run that was killed had written weights, and not yet their row.
    """
    victim = [id for id in plan().trials if plan().trials[id].keep_checkpoint][-1]
    on_write(scene, f"/rows/{victim}", lambda: faults.kill_driver(scene))
    scene.start()
    scene.until_ended()
    scene.world.now += 10_000.0
    with contextlib.suppress(LayerwiseError):  # refused as long as no row was written
        cleaner = Cleaner(Store(scene.root), Choice())
        waste = cleaner.waste
        scene.carry_out()
        cleaner.remove(waste)
    scene.carry_out()
    at_most(scene, ALL + 4)


def cleaned_while_frozen(scene: Scene) -> None:
    """A run is frozen until its lease has expired, and wakes. A cleaner has seen it in between."""
    world = scene.world

    def freeze(what: str, path: str, changes: bool) -> None:  # noqa: ARG001
        if len(scene.reader.rows) == 5:
            world.before = lambda *_: None
            for process in world.processes:
                world.freeze(process)

    world.before = freeze
    scene.start()
    world.run(lambda: not scene.running)
    world.now += 10_000.0
    cleaner = Cleaner(Store(scene.root), Choice())
    waste = cleaner.waste
    require(scene, any("/leases/" in item.path for item in waste), "no lease has expired")
    for process in world.processes:
        world.wake(process)
    user = world.spawn("user", lambda: world.pause(0.5), node="sky")
    world.run(lambda: not user.alive)
    cleaner.remove(waste)
    require(scene, bool(Store(scene.root).names("leases")), "the lease of a run was removed")
    scene.until_ended()
    scene.carry_out()
    at_most(scene, ALL)


def read_meanwhile(scene: Scene) -> None:
    """Others read the store all the time, also while rows move to parts."""
    at(scene, list(range(40, 3000, 12)), lambda: faults.read(scene))
    scene.carry_out()
    at_most(scene, ALL)
    in_one_run(scene)
