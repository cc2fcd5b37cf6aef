"""Dangers of packs: trials that are trained together in one process."""

from __future__ import annotations

from orchestrator.states import Ending
from orchestrator.store.names import ids
from orchestrator.store.store import Store
from tests.simulation.cluster import Driver, Worker
from tests.simulation.scene import Scene, plan
from tests.simulation.staging import ALL, at_most, base, in_one_run, require, worker_of
from tests.simulation.training import LANES, STEPS


def _acting(scene: Scene) -> tuple[Driver, Worker] | None:
    """Return the worker of the process that acts now, if it trains a pack."""
    pairs = [(d, w) for d in scene.running for w in d.workers if len(w.items) > 1]
    return next((pair for pair in pairs if pair[1].process is scene.world.current), None)


def pack_dies(scene: Scene) -> None:
    """A worker dies between the rows of two of its lanes. The one that is complete stays so."""
    complete: list[str] = []

    def kill(what: str, path: str, changes: bool) -> None:  # noqa: ARG001
        if complete or what not in ("rename", "put") or "/rows/" not in path:
            return
        if (pair := _acting(scene)) and (done := set(pair[1].items) & scene.reader.rows.keys()):
            complete.extend(done)
            pair[0].kill_worker(pair[1])

    scene.world.before = kill
    scene.carry_out()
    require(scene, bool(complete), "no worker was killed")
    taken = {id: sum(scene.steps[id, step] for step in range(STEPS)) for id in complete}
    require(scene, set(taken.values()) == {STEPS}, f"steps of complete trials: {taken}")
    at_most(scene, ALL + LANES - 1)
    in_one_run(scene)


def pack_without_memory(scene: Scene) -> None:
    """A pack runs out of memory twice. It is halved each time, and no request is raised."""
    victim, taken = base(), [0]
    child = next(id for id, trial in plan().trials.items() if victim in trial.parents)

    def take(what: str, path: str, changes: bool) -> None:  # noqa: ARG001
        pair = worker_of(scene, child)
        if pair and len(pair[1].items) > 1 and "/progress/" in path and child in ids(path):
            taken[0] += 1
            pair[0].kill_worker(pair[1], Ending.OUT_OF_MEMORY)

    scene.world.before = take
    scene.carry_out()
    require(scene, taken[0] == 2, f"it ran out of memory {taken[0]} times")
    row = Store(scene.root).row(child)
    require(scene, row is not None and row["lanes"] == 1, "it was not trained alone")
    require(scene, row is not None and not row["memory_raises"], "its request was raised")
    in_one_run(scene)


def pack_fails(scene: Scene) -> None:
    """The joint step of a pack fails. Its trials are repeated in smaller ones, and none fails."""
    failed: list[str] = []

    def fail(what: str, path: str, changes: bool) -> None:  # noqa: ARG001
        if (pair := _acting(scene)) and len(scene.reader.rows) > 4 and not failed:
            failed.extend(pair[1].items)
            raise RuntimeError("CUDA error: out of memory")

    scene.world.before = fail
    scene.carry_out()
    require(scene, bool(failed), "no pack failed")
    rows = Store(scene.root).rows(failed)
    sizes = {row["lanes"] for row in rows if row["retries"]}
    require(scene, all(size <= LANES // 2 for size in sizes), f"sizes are {sizes}")
    in_one_run(scene)
