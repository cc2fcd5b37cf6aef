"""Dangers of disks and object stores: they are full, away, broken, slow, or lose their power."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.states import State
from orchestrator.store.store import Store
from tests.simulation import faults
from tests.simulation.disk import Folder
from tests.simulation.scene import Scene
from tests.simulation.staging import (
    ALL,
    at,
    at_most,
    base,
    in_one_run,
    on_write,
    require,
    worker_of,
)


def short_of_disk(scene: Scene) -> None:
    """The store refuses for three seconds, as a full disk does. The run waits."""
    _weather(scene, 3.0)
    scene.carry_out()
    at_most(scene, ALL)
    in_one_run(scene)


def full_disk(scene: Scene) -> None:
    """The disk stays full. The run ends within two minutes, and no trial counts as failed."""
    _weather(scene, 1e9)
    scene.start()
    scene.until_ended()
    require(scene, scene.world.now < 120.0, f"it waited for {scene.world.now:.0f} seconds")
    scene.room.disk.full = scene.room.objects.unavailable = False
    outcomes = Store(scene.root).outcomes()
    require(scene, set(outcomes.values()) <= {State.COMPLETE}, f"outcomes are {outcomes}")
    scene.carry_out()
    retries = [row["retries"] for row in Store(scene.root).table("trials").to_pylist()]
    require(scene, not any(retries), "a failure of the store counts as one of a trial")


def _weather(scene: Scene, seconds: float) -> None:
    def begin() -> None:
        scene.weather = True
        scene.room.disk.full = scene.is_local
        scene.room.objects.unavailable = not scene.is_local

        def body() -> None:
            scene.world.pause(seconds)
            scene.room.disk.full = scene.room.objects.unavailable = False

        if seconds < 1e6:
            scene.world.spawn("weather", body, node="sky")

    at(scene, [300], begin)


def cut_off(scene: Scene) -> None:
    """A node does not reach the store. That ends the run, and counts for no trial."""
    scene.weather = True
    victim = base()

    def cut() -> None:
        if pair := worker_of(scene, victim):
            scene.world.cut_off.add(pair[1].node)

    on_write(scene, f"/progress/{victim}/", cut)
    driver = scene.start()
    scene.until_ended()
    require(scene, bool(driver.failure), "the run went on")
    scene.world.cut_off.clear()
    outcomes = Store(scene.root).outcomes()
    require(scene, set(outcomes.values()) <= {State.COMPLETE}, f"outcomes are {outcomes}")
    scene.carry_out()


def driver_cut_off(scene: Scene) -> None:
    """The driver does not reach the store, and its workers do. The run ends and says so."""
    scene.weather = True
    at(scene, [300], lambda: scene.world.cut_off.add("head"))
    driver = scene.start()
    scene.until_ended()
    require(scene, bool(driver.failure), "the run went on")
    scene.world.cut_off.clear()
    scene.carry_out()


def refused(scene: Scene) -> None:
    """Writing is forbidden. An object store says so, and the run ends at once."""
    scene.weather = True

    def deny() -> None:
        scene.room.objects.denied = True

    at(scene, [250], deny)
    scene.start()
    scene.until_ended()
    require(scene, scene.world.now < 40.0, f"it waited for {scene.world.now:.0f} seconds")
    scene.room.objects.denied = False
    scene.carry_out()


def cut_uploads(scene: Scene) -> None:
    """An object store loses the end of some uploads and says nothing."""
    scene.room.objects.cuts = 0.2
    scene.weather = True
    scene.carry_out()


def folder_goes(scene: Scene) -> None:
    """A folder is dropped by another process before the first file in it is made."""
    victim = base()
    gone: list[str] = []

    def drop(what: str, path: str, changes: bool) -> None:  # noqa: ARG001
        folder, _, name = path.rpartition("/")
        if what == "create" and folder.endswith(f"/progress/{victim}") and not gone:
            gone.append(name)
            disk = scene.room.disk
            disk.parent(folder)[0].change(**{victim: None})
            del disk.folders[folder]

    scene.world.before = drop
    scene.carry_out()
    at_most(scene, ALL)
    in_one_run(scene)


OF_WRITES = {"stat", "mkdir", "create", "write", "fsync", "rename"}  # after which one goes on


def store_goes(scene: Scene) -> None:
    """The folder of the store goes away, as a disk that is unmounted. It is not made again.

    It goes when no worker is between its look for the folder and its write: such a worker would
    make the folder again.
    """
    if not scene.is_local:
        scene.carry_out()
        return
    scene.weather = True
    taken: list[Folder] = []
    last: dict[object, str] = {}

    def hook(what: str, path: str, changes: bool) -> None:  # noqa: ARG001
        is_apart = set(last.values()).isdisjoint(OF_WRITES)
        if not taken and scene.world.operations >= 360 and is_apart:
            taken.append(scene.room.disk.detach(scene.root))
        last[scene.world.current] = what

    scene.world.before = hook
    scene.start()
    scene.until_ended()
    scene.settle()
    require(scene, scene.room.disk.find(scene.root) is None, "the store was made again")
    scene.reader.problems.clear()
    scene.room.disk.attach(scene.root, taken[0])
    scene.carry_out()


def broken_disk(scene: Scene) -> None:
    """Every operation of a disk fails for three seconds, again and again. No run ends by it."""
    scene.weather = True

    def begin() -> None:
        scene.room.disk.broken = scene.is_local
        scene.room.objects.unavailable = not scene.is_local

        def body() -> None:
            scene.world.pause(3.0)
            scene.room.disk.broken = scene.room.objects.unavailable = False

        scene.world.spawn("weather", body, node="sky")

    victim, begun = base(), []

    def hook(what: str, path: str, changes: bool) -> None:  # noqa: ARG001
        of_victim = what == "list" and path.endswith(f"/progress/{victim}")
        if of_victim and victim in scene.reader.rows and not begun:
            begun.append(path)  # its snapshots are about to be dropped
            begin()

    scene.world.before = hook
    at(scene, [60, 250, 500, 750], begin)
    scene.carry_out()
    dead = [driver.deaths for driver in scene.ended if driver.deaths]
    require(scene, not dead, f"a failing disk counts as the death of a worker: {dead}")
    at_most(scene, ALL)
    in_one_run(scene)


def power_losses(scene: Scene) -> None:
    """The machine loses its power again and again."""
    at(scene, [150, 300, 450, 600, 750], lambda: faults.lose_power(scene))
    scene.carry_out()
    at_most(scene, ALL + 5 * 4)


def maker_dies(scene: Scene) -> None:
    """Whoever makes the folder of rows dies before it is flushed. Then the power fails."""
    rows = f"{scene.reader.base}rows"
    _dies_and_power_fails(scene, lambda *_: scene.room.disk.find(rows) is not None)


def writer_dies(scene: Scene) -> None:
    """A worker dies before it flushes the name of its row. Its retry reports, then power fails."""
    moment = ("fsync", f"{scene.reader.base}rows")
    _dies_and_power_fails(scene, lambda *done: done == moment)


def writer_and_driver_die(scene: Scene) -> None:
    """Its driver dies with it, and the next one finds the row."""
    moment = ("fsync", f"{scene.reader.base}rows")
    _dies_and_power_fails(scene, lambda *done: done == moment, of_driver=True)


Moment = Callable[[str, str], bool]


def _dies_and_power_fails(scene: Scene, moment: Moment, *, of_driver: bool = False) -> None:
    """Kill the worker that is about to do what is the `moment` (what, path), or all of its run.

    The power fails as soon as a driver knows of a complete trial.
    """
    killed: list[str] = []
    lost: list[str] = []

    def hook(what: str, path: str, changes: bool) -> None:  # noqa: ARG001
        process = scene.world.current
        if not killed and scene.is_local and moment(what, path):
            killed.append(path)
            for driver in scene.running:
                for worker in [one for one in driver.workers if one.process is process]:
                    if of_driver:
                        driver.kill()  # which ends this process too
                    driver.kill_worker(worker)
        if killed and not lost and any(driver.complete for driver in scene.drivers):
            lost.append(path)
            scene.lose_power(wholly=True)

    scene.world.before = hook
    scene.carry_out()
