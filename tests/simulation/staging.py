"""What scenarios of known dangers are made of: moments, actions, and requirements."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.cluster import Driver, Worker
from tests.simulation.scene import TRIALS, Scene, plan
from tests.simulation.training import STEPS

ALL = TRIALS * STEPS  # steps of a sweep without faults
Scenario = Callable[[Scene], None]


def base() -> str:
    """Return the id of a base that other trials copy from."""
    parents = {parent for trial in plan().trials.values() for parent in trial.parents}
    return next(id for id in plan().trials if id in parents)


def worker_of(scene: Scene, item: str) -> tuple[Driver, Worker] | None:
    """Return the worker that now trains an item, if one does."""
    pairs = [(d, w) for d in scene.running for w in d.workers if item in w.items]
    return pairs[0] if pairs else None


def on_write(scene: Scene, part: str, action: Callable[[], object], times: int = 1) -> None:
    """Do something just before a file whose path contains `part` appears."""
    before, left = scene.world.before, [times]

    def hook(what: str, path: str, changes: bool) -> None:
        before(what, path, changes)
        if left[0] and what in ("rename", "put") and part in path and "/nodes/" not in path:
            left[0] -= 1
            action()

    scene.world.before = hook


def at(scene: Scene, operations: list[int], action: Callable[[], object]) -> None:
    """Do something at these operations of the world."""
    before, left = scene.world.before, list(operations)

    def hook(what: str, path: str, changes: bool) -> None:
        before(what, path, changes)
        if left and scene.world.operations >= left[0]:
            left.pop(0)
            action()

    scene.world.before = hook


def require(scene: Scene, condition: bool, problem: str) -> None:
    if not condition:
        scene.problems.append(problem)


def at_most(scene: Scene, steps: int) -> None:
    taken = scene.steps.total()
    require(scene, taken <= steps, f"{taken} steps were taken, not {steps} at most")


def in_one_run(scene: Scene) -> None:
    """Require that the first command was enough. The second finds nothing to do."""
    require(scene, scene.started == 2, f"{scene.started - 1} commands were needed")
