"""Dangers of files: they are damaged, or go away."""

from __future__ import annotations

from orchestrator.states import State
from orchestrator.store.names import RowFile
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
from tests.simulation.stand_ins import GROUP
from tests.simulation.training import STEPS


def damaged_snapshot(scene: Scene) -> None:
    """A worker dies after its last step, and the newest snapshot is damaged: the one before serves.

    Two steps of three are taken again.
    """
    victim = base()
    harmed: list[str] = []

    def harm() -> None:
        pair = worker_of(scene, victim)
        assert pair
        harmed.append(max(faults.paths_in(scene, f"progress/{victim}/")))
        faults.spoil(scene, harmed[0], "changed")
        pair[0].kill_worker(pair[1])

    on_write(scene, f"/checkpoints/{victim}/", harm)
    scene.carry_out()
    require(scene, bool(harmed), "no snapshot was damaged")
    at_most(scene, ALL + 2)
    in_one_run(scene)


def damaged_weights(scene: Scene) -> None:
    """The weights of a base are damaged before its children begin. One run puts that right."""
    _spoil_weights(scene, "changed")


def gone_weights(scene: Scene) -> None:
    """The weights of a base are gone before its children begin. One run puts that right."""
    _spoil_weights(scene, "gone")


def _spoil_weights(scene: Scene, how: str) -> None:
    victim = base()
    children = [id for id, trial in plan().trials.items() if victim in trial.parents]
    harmed: list[str] = []

    def harm(what: str, path: str, changes: bool) -> None:  # noqa: ARG001
        weights = faults.paths_in(scene, f"checkpoints/{victim}/")
        if not harmed and weights and any(worker_of(scene, child) for child in children):
            harmed.append(weights[0])
            faults.spoil(scene, weights[0], how)

    scene.world.before = harm
    scene.carry_out()
    require(scene, bool(harmed), "no weights were damaged")
    at_most(scene, ALL + STEPS)
    in_one_run(scene)


def damaged_later(scene: Scene) -> None:
    """Files of the tables are damaged after the sweep. The next run trains again what they held."""
    scene.carry_out()
    for folder in ("rows", "trials", "curves", "classes"):
        for path in sorted(faults.paths_in(scene, f"{folder}/"))[:1]:
            faults.spoil(scene, path, "changed")
    scene.carry_out()


def gone_later(scene: Scene) -> None:
    """Files of the tables, and weights that are needed again, go away after the sweep."""
    scene.carry_out()
    for folder in ("rows", "trials", "curves", "classes", "checkpoints"):
        for path in sorted(faults.paths_in(scene, f"{folder}/"))[-1:]:
            faults.spoil(scene, path, "gone")
    scene.carry_out()


def damaged_rows(scene: Scene) -> None:
    """A byte of some rows is changed before they move to a part, and the driver dies."""
    harmed: list[str] = []

    def harm(what: str, path: str, changes: bool) -> None:  # noqa: ARG001
        rows = faults.paths_in(scene, "rows/")
        if len(rows) > 4 and not harmed:
            harmed.extend(rows)
            for row in rows:
                faults.spoil(scene, row, "changed")
            faults.kill_driver(scene)

    scene.world.before = harm
    scene.carry_out()
    require(scene, bool(harmed), "no row was damaged")


def damaged_while_it_opens(scene: Scene) -> None:
    """A run has read the rows that are there. One is damaged then, and half of another appears.

    The run trains both trials: a row of which it has read no more than the name does not count.
    """
    parents = {parent for trial in plan().trials.values() for parent in trial.parents}
    harmed: list[str] = []

    def rows(of_parents: bool) -> list[str]:
        names = faults.paths_in(scene, "rows/")
        return [name for name in names if any(id in name for id in parents) is of_parents]

    def kill(what: str, path: str, changes: bool) -> None:  # noqa: ARG001
        if rows(of_parents=True) and rows(of_parents=False):  # its weights are looked at later
            faults.kill_driver(scene)

    def harm(what: str, path: str, changes: bool) -> None:  # noqa: ARG001
        if what == "list" and path.endswith("/studies") and not harmed:
            harmed.append(rows(of_parents=False)[0])
            there = "".join(faults.paths_in(scene, "rows/"))
            lacking = next(id for id in plan().trials if id not in there)
            half = RowFile(lacking, State.COMPLETE, "0" * 8, "0" * 16)
            faults.spoil(scene, harmed[0], "changed")
            faults.put(scene, f"{scene.reader.base}rows/{half.name}", b"half a row")

    scene.world.before = kill
    scene.start()
    scene.until_ended()
    scene.world.before = harm
    scene.carry_out()
    require(scene, bool(harmed), "no row was damaged")
    require(scene, scene.started == 3, f"{scene.started - 2} commands were needed after it")


def damaged_cache(scene: Scene) -> None:
    """Files in the cache of a node are damaged. The store is read instead."""

    def harm() -> None:
        for path, file in scene.room.disk.files("/nodes"):
            if not path.endswith(".lock") and file.data:
                file.data = file.durable = file.data[:-1] + b"?"

    at(scene, list(range(60, 900, 20)), harm)
    scene.carry_out()
    at_most(scene, ALL)


def damaged_group(scene: Scene) -> None:
    """A byte of a part is changed. Only the trials of its group of rows are trained again."""
    scene.carry_out()
    [part] = [path for path in faults.paths_in(scene, "trials/") if "/part-" in path]
    data = scene.reader.content(part)
    assert data
    place = data.index(next(iter(plan().trials)).encode())
    faults.put(scene, part, data[:place] + b"?" + data[place + 1 :])
    scene.carry_out()
    at_most(scene, ALL + GROUP["trials"] * STEPS)


def damaged_between_runs(scene: Scene) -> None:
    """Weights of a base are damaged before its children begin, in another run. None meets them."""
    victim = base()
    children = [id for id, trial in plan().trials.items() if victim in trial.parents]

    def drain(what: str, path: str, changes: bool) -> None:  # noqa: ARG001
        for driver in scene.running:
            driver.draining |= victim in driver.complete

    scene.world.before = drain
    scene.start()
    scene.until_ended()
    scene.world.before = lambda *_: None
    faults.spoil(scene, faults.paths_in(scene, f"checkpoints/{victim}/")[0], "changed")
    stopped = {id for id in children if scene.steps[id, 0]}
    scene.carry_out()
    rows = Store(scene.root).rows(children)
    vain = [row["id"] for row in rows if row["retries"] and row["id"] not in stopped]
    require(scene, stopped != set(children), "all children had begun")
    require(scene, not vain, f"began with damaged weights: {vain}")


def record_goes(scene: Scene) -> None:
    """The record of the sweep goes away when a run, and `clean`, have listed it."""
    scene.carry_out()
    for act in (scene.start, lambda: faults.clean(scene)):
        gone: list[str] = []

        def go(what: str, path: str, changes: bool, gone: list[str] = gone) -> None:  # noqa: ARG001
            if what in ("read", "get") and "/sweeps/" in path and not gone:
                gone.append(path)
                faults.spoil(scene, path, "gone")

        scene.world.before = go
        act()
        scene.settle()
        require(scene, bool(gone), "nobody read the record")
        scene.world.before = lambda *_: None
        scene.carry_out()
