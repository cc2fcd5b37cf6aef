"""Faults of a simulated room. A fault is a function of a scene; it returns whether it happened.

A fault happens in the middle of an operation of some process, before the operation has an effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.errors import LayerwiseError
from orchestrator.states import Ending
from orchestrator.store.cleanup import Choice, Cleaner
from orchestrator.store.names import ids, is_half
from orchestrator.store.store import Store
from tests.simulation.cluster import Driver, Worker
from tests.simulation.scene import Scene

Fault = Callable[[Scene], bool]


def _worker(scene: Scene) -> tuple[Driver, Worker] | None:
    pairs = [(driver, worker) for driver in scene.running for worker in driver.workers]
    pairs = [(driver, worker) for driver, worker in pairs if worker.process.alive]
    return scene.world.random.choice(pairs) if pairs else None


def _node(scene: Scene) -> tuple[Driver, str] | None:
    pairs = [(driver, node) for driver in scene.running for node in driver.nodes]
    return scene.world.random.choice(pairs) if pairs else None


def _for_a_while(scene: Scene, begin: Callable[[], Any], end: Callable[[], Any]) -> bool:
    """Begin something that ends by itself."""
    begin()
    scene.weather = True

    def body() -> None:
        scene.world.pause(scene.world.random.choice([0.5, 5.0, 30.0, 90.0]))
        end()

    scene.world.spawn("weather", body, node="sky")
    return True


def kill_worker(scene: Scene) -> bool:
    """Kill a worker, as a segmentation fault does."""
    if chosen := _worker(scene):
        chosen[0].kill_worker(chosen[1])
    return bool(chosen)


def take_memory(scene: Scene) -> bool:
    """Let a worker run out of memory."""
    if chosen := _worker(scene):
        chosen[0].kill_worker(chosen[1], Ending.OUT_OF_MEMORY)
    return bool(chosen)


def kill_stray(scene: Scene) -> bool:
    """Kill a worker that no driver hears."""
    heard = {worker.process for driver in scene.running for worker in driver.workers}
    strays = [one for one in scene.world.processes if one.items and one.alive and one not in heard]
    if strays:
        scene.world.kill(scene.world.random.choice(strays))
    return bool(strays)


def lose_node(scene: Scene) -> bool:
    """Kill all workers of a node."""
    if chosen := _node(scene):
        chosen[0].lose(chosen[1])
    return bool(chosen)


def freeze_node(scene: Scene) -> bool:
    """Stop a node until its trials were tried again, and wake it then."""
    chosen = _node(scene)
    if chosen is None:
        return False
    driver, node = chosen
    frozen = [worker.process for worker in driver.workers if worker.node == node]
    driver.lose(node, frozen=True)

    def body() -> None:
        scene.world.pause(scene.world.random.choice([0.1, 1.0, 5.0, 20.0]))
        for process in frozen:
            scene.world.wake(process)

    scene.world.spawn("clock", body, node="sky")
    return True


def drain_node(scene: Scene) -> bool:
    """Announce the end of a node, and take it away some seconds later."""
    if chosen := _node(scene):
        chosen[0].leave(chosen[1])
    return bool(chosen)


def drain_run(scene: Scene) -> bool:
    """Ask a run to end with snapshots."""
    running = scene.running
    if running:
        scene.world.random.choice(running).draining = True
    return bool(running)


def kill_driver(scene: Scene) -> bool:
    """Kill a driver with its workers."""
    if running := scene.running:
        scene.world.random.choice(running).kill()
    return bool(running)


def orphan_workers(scene: Scene) -> bool:
    """Kill a driver. Its workers go on, and nobody hears them."""
    if running := scene.running:
        scene.world.random.choice(running).kill(with_workers=False)
    return bool(running)


def second_driver(scene: Scene) -> bool:
    """Give the command once more, while a run goes on."""
    if len(scene.running) != 1:
        return False
    scene.start()
    return True


def lose_power(scene: Scene) -> bool:
    """Let the machine with the disk lose its power; an object store loses its users."""
    scene.lose_power()
    return True


def fill_disk(scene: Scene) -> bool:
    """Fill the disk for a while; an object store answers nothing."""
    disk, objects = scene.room.disk, scene.room.objects

    def set_to(value: bool) -> None:
        if scene.is_local:
            disk.full = value
        else:
            objects.unavailable = value

    return _for_a_while(scene, lambda: set_to(True), lambda: set_to(False))


def break_disk(scene: Scene) -> bool:
    """Let a disk fail, or an object store be away, at every operation for a while."""
    disk, objects = scene.room.disk, scene.room.objects

    def set_to(value: bool) -> None:
        if scene.is_local:
            disk.broken = value
        else:
            objects.unavailable = value

    return _for_a_while(scene, lambda: set_to(True), lambda: set_to(False))


def deny_writes(scene: Scene) -> bool:
    """Make the disk read-only, or forbid uploads, for a while."""
    disk, objects = scene.room.disk, scene.room.objects

    def set_to(value: bool) -> None:
        if scene.is_local:
            disk.read_only = value
        else:
            objects.denied = value

    return _for_a_while(scene, lambda: set_to(True), lambda: set_to(False))


def slow_down(scene: Scene) -> bool:
    """Let each operation take up to seconds."""

    def set_to(value: float) -> None:
        scene.world.slowness = value

    return _for_a_while(scene, lambda: set_to(200.0), lambda: set_to(1.0))


def lag(scene: Scene) -> bool:
    """Let listings of an object store show what was there a while ago."""
    objects = scene.room.objects

    def set_to(value: float) -> None:
        objects.lag = value

    if scene.is_local:
        return False
    return _for_a_while(scene, lambda: set_to(3.0), lambda: set_to(0.0))


def tear(scene: Scene) -> bool:
    """Let uploads of processes that die leave half an object, for a while, and kill a worker."""
    objects = scene.room.objects
    if scene.is_local:
        return False
    objects.tears = scene.weather = True
    return kill_worker(scene)


def spoil(scene: Scene, path: str, how: str = "") -> None:
    """Cut a file short, change a byte, fill it with zeros, or remove it; by default any of it."""
    random = scene.world.random
    data = scene.reader.content(path)
    assert data
    place = random.randrange(len(data))
    flipped = data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]
    ways = {"cut": data[:place], "changed": flipped, "zeros": bytes(len(data)), "gone": None}
    put(scene, path, ways[how or random.choice(list(ways))])


def put(scene: Scene, path: str, new: bytes | None) -> None:
    """Give a file a content, on purpose; None removes it."""
    world = scene.world
    scene.reader.spoilt.add(path)
    scene.reader.spoilt_once.add(path)
    name = path.removeprefix(scene.reader.base)
    scene.reader.excused |= scene.reader.in_part(name) if "/part-" in name else ids(path)
    before, world.current = world.current, None
    if scene.is_local:
        if new is None:
            scene.room.disk.unlink(path)
        else:
            scene.room.disk.give(path, new)
    elif new is None:
        scene.room.objects.remove(path)
    else:
        scene.room.objects.put(path, new)
    world.current = before


def _spoil_one(scene: Scene, paths: list[str]) -> bool:
    if paths:
        spoil(scene, scene.world.random.choice(sorted(paths)))
    return bool(paths)


def paths_in(scene: Scene, folder: str) -> list[str]:
    """Return the paths of the files whose path in the store begins so."""
    top = f"{scene.reader.base}{folder}"
    if scene.is_local:
        files = scene.room.disk.files(top.rstrip("/"))
        return [path for path, file in files if file.data and not is_half(path)]
    objects = scene.room.objects.objects.items()
    return [key for key, (data, _) in objects if key.startswith(top) and data]


def damage_table(scene: Scene) -> bool:
    """Damage a row, a curve, the counts of a trial or the record of the sweep."""
    folders = ("rows", "trials", "curves", "classes", "sweeps")
    return _spoil_one(scene, [path for folder in folders for path in paths_in(scene, folder)])


def damage_snapshot(scene: Scene) -> bool:
    """Damage a snapshot, and kill a worker."""
    return _spoil_one(scene, paths_in(scene, "progress")) and kill_worker(scene)


def damage_weights(scene: Scene) -> bool:
    """Damage the weights of a base."""
    return _spoil_one(scene, paths_in(scene, "checkpoints"))


def clean(scene: Scene) -> bool:
    """Clean the store while others use it."""

    def body() -> None:
        try:
            cleaner = Cleaner(Store(scene.root), Choice())
            cleaner.remove(cleaner.waste)
        except LayerwiseError:
            return

    scene.world.spawn("clean", body)
    return True


def read(scene: Scene) -> bool:
    """Read the store while others use it: no fault, but whoever reads must not notice any."""
    scene.world.spawn("reader", scene.reader.read, node="far")
    return True


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        kill_worker,
        take_memory,
        kill_stray,
        lose_node,
        freeze_node,
        drain_node,
        drain_run,
        kill_driver,
        orphan_workers,
        second_driver,
        lose_power,
        fill_disk,
        break_disk,
        deny_writes,
        slow_down,
        lag,
        tear,
        damage_table,
        damage_snapshot,
        damage_weights,
        clean,
        read,
    )
}
