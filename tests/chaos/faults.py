"""Faults of clusters. A fault is a function of a scene and a random generator.

It returns whether it happened: without a worker there is none to kill. Each fault leaves the same
number of living nodes, and a store that works.
"""

from __future__ import annotations

import contextlib
import random as generators
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.chaos.machines import send, wait_for
from tests.chaos.scene import Scene

Random = generators.Random
Fault = Callable[[Scene, Random], bool]


def kill_worker(scene: Scene, random: Random) -> bool:
    """Kill a worker process, as a segmentation fault does."""
    pids = [pid for node in scene.machines.nodes for pid in node.workers()]
    return bool(pids) and send(random.choice(pids), signal.SIGKILL)


def kill_raylet(scene: Scene, random: Random) -> bool:
    """Kill the raylet of a node. Another node takes its place."""
    node = random.choice(scene.machines.nodes)
    killed = send(node.raylet, signal.SIGKILL)
    scene.machines.lose(node)
    return killed


def lose_node(scene: Scene, random: Random) -> bool:
    """Kill all processes of a node at once. Another node takes its place."""
    node = random.choice(scene.machines.nodes)
    node.signal(signal.SIGKILL)
    scene.machines.lose(node)
    return True


def freeze_node(scene: Scene, random: Random) -> bool:
    """Stop a node until Ray declares it dead, and wake it after its trials were tried again."""
    node = random.choice(scene.machines.nodes)
    frozen = node.processes()
    for pid in frozen:
        send(pid, signal.SIGSTOP)
    wait_for(lambda: not scene.machines.alive(node), "death of a frozen node")
    scene.machines.add()
    time.sleep(random.uniform(0.0, 6.0))
    for pid in frozen:
        send(pid, signal.SIGCONT)
    time.sleep(random.uniform(0.5, 2.0))  # the node that woke must do no harm now
    scene.machines.forget(node)
    return True


def drain_node(scene: Scene, random: Random) -> bool:
    """Announce the end of a node some seconds ahead, as for a spot node, then kill it."""
    node, seconds = random.choice(scene.machines.nodes), random.randint(2, 5)
    scene.machines.drain(node, seconds)
    time.sleep(seconds)
    node.signal(signal.SIGKILL)
    scene.machines.lose(node)
    return True


def kill_driver(scene: Scene, random: Random) -> bool:  # noqa: ARG001
    """Kill the driver."""
    killed = [send(driver.pid, signal.SIGKILL) for driver in scene.drivers]
    return any(killed)


def kill_head(scene: Scene, random: Random) -> bool:  # noqa: ARG001
    """Kill the head. The driver must notice and end; then start a new cluster."""
    scene.machines.kill_head()
    wait_for(lambda: not scene.running, "end of a driver without a head")
    scene.machines.stop()
    scene.machines.start()
    return True


def damage_snapshots(scene: Scene, random: Random) -> bool:
    """Truncate, change or delete the newest snapshots, and kill a worker."""
    folders = Path(scene.store.path("progress")).glob("*")
    newest = [max(folder.glob("*.safetensors"), default=None) for folder in folders]
    damaged = [_damage(scene, path, random) for path in newest if path]
    return any(damaged) and kill_worker(scene, random)


def damage_base(scene: Scene, random: Random) -> bool:
    """Damage the weights of a base while other trials begin from them, and kill a worker."""
    paths = sorted(Path(scene.store.path("checkpoints")).glob("*/*.safetensors"))
    if not paths or not _damage(scene, random.choice(paths), random):
        return False
    return kill_worker(scene, random)


def _damage(scene: Scene, path: Path, random: Random) -> bool:
    """Truncate a file, change 8 bytes of it, or delete it. Return whether it was there."""
    scene.reader.spoilt.add(str(path))
    with contextlib.suppress(FileNotFoundError):
        size = path.stat().st_size
        with path.open("r+b") as file:
            match random.randrange(3):
                case 0:
                    file.truncate(random.randrange(size))
                case 1:
                    file.seek(random.randrange(size - 8))
                    file.write(random.randbytes(8))
                case _:
                    path.unlink()
        return True
    return False


def fill_disk(scene: Scene, random: Random) -> bool:
    """Fill the disk of the store for 2 to 10 seconds."""
    filler = Path(scene.store.root, "filler")
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    time.sleep(random.uniform(2.0, 10.0))
    filler.unlink()
    return True


def fail_store(scene: Scene, random: Random) -> bool:  # noqa: ARG001
    """Let the object store answer every request with 503, for 30 seconds."""
    with _answers(scene, lambda _: True):
        time.sleep(30.0)
    return True


def slow_store(scene: Scene, random: Random) -> bool:
    """Delay every answer of the object store by up to two seconds, for 30 seconds."""

    def late(asked: str) -> bool:  # noqa: ARG001
        time.sleep(random.uniform(0.0, 2.0))
        return False

    with _answers(scene, late):
        time.sleep(30.0)
    return True


def deny_writes(scene: Scene, random: Random) -> bool:
    """Let the object store forbid writing for 2 to 10 seconds."""
    assert scene.server is not None
    scene.server.deny = lambda asked: not asked.startswith(("GET", "HEAD"))
    time.sleep(random.uniform(2.0, 10.0))
    scene.server.deny = lambda _: False
    return True


@contextlib.contextmanager
def _answers(scene: Scene, refuse: Callable[[str], bool]) -> Iterator[None]:
    assert scene.server is not None
    scene.server.refuse = refuse
    try:
        yield
    finally:
        scene.server.refuse = lambda _: False
