"""Dangers of workers, nodes and drivers: they die, are frozen, run out of memory, are drained."""

from __future__ import annotations

from orchestrator.states import Ending, State
from orchestrator.store.store import Store
from tests.simulation import faults
from tests.simulation.scene import Scene, plan
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


def kill(scene: Scene, item: str, ending: Ending = Ending.WORKER_DIED) -> None:
    """Kill the worker that now trains an item, if one does."""
    if pair := worker_of(scene, item):
        pair[0].kill_worker(pair[1], ending)


def nothing(scene: Scene) -> None:
    """Nothing happens: each step is taken once."""
    scene.carry_out()
    at_most(scene, ALL)
    in_one_run(scene)


def drained(scene: Scene) -> None:
    """A run is asked to end with snapshots, twice. No step is taken again."""

    def drain() -> None:
        for driver in scene.running:
            driver.draining = True

    at(scene, [90, 400], drain)
    scene.carry_out()
    at_most(scene, ALL)
    require(scene, scene.started >= 3, "the run did not end when it was asked to")


def node_leaves(scene: Scene) -> None:
    """Nodes are announced to leave. No step is taken again, and no trial loses a chance."""
    at(scene, list(range(80, 700, 60)), lambda: faults.drain_node(scene))
    scene.carry_out()
    at_most(scene, ALL)
    in_one_run(scene)


def three_deaths(scene: Scene) -> None:
    """The worker of a trial dies three times. The trial completes, from its snapshots."""
    victim = base()

    on_write(scene, f"/{victim}/", lambda: kill(scene, victim), 3)
    scene.carry_out()
    at_most(scene, ALL + 3)
    in_one_run(scene)


def late_death(scene: Scene) -> None:
    """A worker dies when it has trained, before it writes the weights. One step is taken again."""
    victim = base()

    on_write(scene, f"/checkpoints/{victim}/", lambda: kill(scene, victim))
    scene.carry_out()
    at_most(scene, ALL + 1)
    in_one_run(scene)
    row = Store(scene.root).row(victim)
    require(scene, row is not None and row["retries"] == 1, "the row has other retries")


def dies_before_the_row(scene: Scene) -> None:
    """A worker dies just before the row appears. Its snapshots are still there."""
    victim = base()

    on_write(scene, f"/rows/{victim}", lambda: kill(scene, victim))
    scene.carry_out()
    at_most(scene, ALL + 1)
    in_one_run(scene)


def four_deaths(scene: Scene) -> None:
    """It dies four times: the trial is lost, its children are skipped, and the next run has all."""
    victim = base()
    seen: list[dict[str, str]] = []

    on_write(scene, f"/{victim}/", lambda: kill(scene, victim), 4)
    scene.start()
    scene.until_ended()
    seen.append(Store(scene.root).outcomes())
    children = {id for id, trial in plan().trials.items() if victim in trial.parents}
    lost = {id for id, outcome in seen[0].items() if outcome == State.LOST}
    skipped = {id for id, outcome in seen[0].items() if outcome == State.SKIPPED}
    require(scene, lost == {victim}, f"lost are {lost}")
    require(scene, skipped == children, f"skipped are {skipped}")
    scene.carry_out()
    at_most(scene, ALL + 4)


def lost_nodes(scene: Scene) -> None:
    """The node of a trial is lost six times. That costs the trial none of its chances."""
    victim = base()

    def lose() -> None:
        if pair := worker_of(scene, victim):
            pair[0].lose(pair[1].node)

    on_write(scene, f"/{victim}/", lose, 6)
    scene.carry_out()
    at_most(scene, ALL + 6 * 2)
    in_one_run(scene)


def no_memory(scene: Scene) -> None:
    """A trial runs out of memory three times, and completes with more."""
    victim = base()

    on_write(scene, f"/{victim}/", lambda: kill(scene, victim, Ending.OUT_OF_MEMORY), 3)
    scene.carry_out()
    in_one_run(scene)
    row = Store(scene.root).row(victim)
    require(scene, row is not None and row["memory_raises"] == 3, "the row has other raises")
    require(scene, row is not None and row["memory_bytes"] == 8e9, "it had other memory")


def woken(scene: Scene) -> None:
    """A worker is frozen just before it writes a snapshot, and wakes when all is complete.

    Its run is over then, and it is killed as soon as it has written.
    """
    victim, frozen = base(), []

    def freeze() -> None:
        pair = worker_of(scene, victim)
        if pair and not frozen:
            frozen.append(pair[1].process)
            pair[0].lose(pair[1].node, frozen=True)

    on_write(scene, f"/progress/{victim}/", freeze)
    scene.start()
    scene.until_ended()
    taken = scene.steps.total()
    [late] = frozen
    at_write = scene.world.writes

    def kill_late(what: str, path: str, changes: bool) -> None:  # noqa: ARG001
        if scene.world.writes > at_write + 1 and what != "fsync" and late.alive:
            scene.world.kill(late)

    scene.world.before = kill_late
    scene.world.wake(late)
    scene.world.run(lambda: not late.alive)
    require(scene, scene.steps.total() == taken, "it trained on after the trial was complete")
    scene.carry_out()


def woken_and_trained_on(scene: Scene) -> None:
    """As before, and nobody kills it: it ends by itself, without another step."""
    victim, frozen = base(), []

    def freeze() -> None:
        pair = worker_of(scene, victim)
        if pair and not frozen:
            frozen.append(pair[1].process)
            pair[0].lose(pair[1].node, frozen=True)

    on_write(scene, f"/progress/{victim}/", freeze)
    scene.start()
    scene.until_ended()
    taken = {key: count for key, count in scene.steps.items() if key[0] == victim}
    scene.settle()
    after = {key: count for key, count in scene.steps.items() if key[0] == victim}
    require(scene, after == taken, "it trained on after the trial was complete")
    require(scene, not Store(scene.root).names("progress"), "it left a snapshot")
    scene.carry_out()


def failing(scene: Scene) -> None:
    """A training fails. It is an outcome: not repeated, and what depends on it is skipped."""
    victim = base()
    scene.failing.add(victim)
    scene.start()
    scene.until_ended()
    outcomes = Store(scene.root).outcomes()
    children = {id for id, trial in plan().trials.items() if victim in trial.parents}
    failed = {id for id, outcome in outcomes.items() if outcome == State.FAILED}
    skipped = {id for id, outcome in outcomes.items() if outcome == State.SKIPPED}
    require(scene, failed == {victim}, f"failed are {failed}")
    require(scene, skipped == children, f"skipped are {skipped}")
    taken = scene.steps.total()
    scene.start()
    scene.until_ended()
    require(scene, scene.steps.total() == taken, "a failed training was repeated")
    scene.failing.clear()
    scene.start(retry_failed=True)
    scene.until_ended()
    scene.carry_out()


def killed_driver(scene: Scene) -> None:
    """The driver dies with its workers, again and again. Each death costs a step of a worker."""
    at(scene, [150, 300, 450, 600, 750], lambda: faults.kill_driver(scene))
    scene.carry_out()
    at_most(scene, ALL + 5 * 4)


def two_drivers(scene: Scene) -> None:
    """Two drivers share the store from the first moment. Each ends in good order."""
    scene.carry_out(drivers=2)
    require(scene, scene.started == 3, f"{scene.started - 1} commands were needed")


def several_drivers(scene: Scene) -> None:
    """Five drivers share the store from the first moment."""
    scene.carry_out(drivers=5)
    require(scene, scene.started == 6, f"{scene.started - 1} commands were needed")
