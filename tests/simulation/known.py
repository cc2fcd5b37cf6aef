"""Dangers that are known by name: each is a scenario, with what must hold beside equal tables.

Some of them were faults of this project once; `mutants.py` brings these back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orchestrator.errors import LayerwiseError
from orchestrator.states import Ending, State
from orchestrator.store.cleanup import Choice, Cleaner
from orchestrator.store.store import Store
from tests.simulation import faults
from tests.simulation.cluster import Driver, Worker
from tests.simulation.disk import Folder
from tests.simulation.scene import TRIALS, Scene, outcome_of, plan
from tests.simulation.training import STEPS

ALL = TRIALS * STEPS  # steps of a sweep without faults
Scenario = Callable[[Scene], None]


def base() -> str:
    """Return the id of a base that other trials copy from."""
    parents = {parent for trial in plan().trials.values() for parent in trial.parents}
    return next(id for id in plan().trials if id in parents)


def worker_of(scene: Scene, item: str) -> tuple[Driver, Worker] | None:
    """Return the worker that now trains an item, if one does."""
    pairs = [(d, w) for d in scene.running for w in d.workers if w.attempt.item == item]
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


# Scenarios ----------------------------------------------------------------------------------------


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

    def kill() -> None:
        if pair := worker_of(scene, victim):
            pair[0].kill_worker(pair[1])

    on_write(scene, f"/{victim}/", kill, 3)
    scene.carry_out()
    at_most(scene, ALL + 3)
    in_one_run(scene)


def late_death(scene: Scene) -> None:
    """A worker dies when it has trained, before it writes the weights. One step is taken again."""
    victim = base()

    def kill() -> None:
        if pair := worker_of(scene, victim):
            pair[0].kill_worker(pair[1])

    on_write(scene, f"/checkpoints/{victim}/", kill)
    scene.carry_out()
    at_most(scene, ALL + 1)
    in_one_run(scene)
    row = Store(scene.root).row(victim)
    require(scene, row is not None and row["retries"] == 1, "the row has other retries")


def dies_before_the_row(scene: Scene) -> None:
    """A worker dies just before the row appears. Its snapshots are still there."""
    victim = base()

    def kill() -> None:
        if pair := worker_of(scene, victim):
            pair[0].kill_worker(pair[1])

    on_write(scene, f"/rows/{victim}", kill)
    scene.carry_out()
    at_most(scene, ALL + 1)
    in_one_run(scene)


def four_deaths(scene: Scene) -> None:
    """It dies four times: the trial is lost, its children are skipped, and the next run has all."""
    victim = base()
    seen: list[dict[str, str]] = []

    def kill() -> None:
        if pair := worker_of(scene, victim):
            pair[0].kill_worker(pair[1])

    on_write(scene, f"/{victim}/", kill, 4)
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

    def take() -> None:
        if pair := worker_of(scene, victim):
            pair[0].kill_worker(pair[1], Ending.OUT_OF_MEMORY)

    on_write(scene, f"/{victim}/", take, 3)
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

    def kill(what: str, path: str, changes: bool) -> None:  # noqa: ARG001
        if scene.world.writes > at_write + 1 and what != "fsync" and late.alive:
            scene.world.kill(late)

    scene.world.before = kill
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
    victim = base()
    children = [id for id, trial in plan().trials.items() if victim in trial.parents]
    harmed: list[str] = []

    def harm(what: str, path: str, changes: bool) -> None:  # noqa: ARG001
        weights = faults.paths_in(scene, f"checkpoints/{victim}/")
        if not harmed and weights and any(worker_of(scene, child) for child in children):
            harmed.append(weights[0])
            faults.spoil(scene, weights[0])

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
            cleaner = Cleaner(Store(scene.root), Choice())
            cleaner.remove(cleaner.waste)
        except LayerwiseError:
            pass  # no row can be read yet
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
    try:
        cleaner = Cleaner(Store(scene.root), Choice())
        waste = cleaner.waste
        scene.carry_out()
        cleaner.remove(waste)
    except LayerwiseError:  # no row was written yet
        pass
    scene.carry_out()
    at_most(scene, ALL + 4)


def read_meanwhile(scene: Scene) -> None:
    """Others read the store all the time, also while rows move to parts."""
    at(scene, list(range(40, 3000, 12)), lambda: faults.read(scene))
    scene.carry_out()
    at_most(scene, ALL)
    in_one_run(scene)


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


def two_drivers(scene: Scene) -> None:
    """Two drivers share the store from the first moment. Each ends in good order."""
    scene.carry_out(drivers=2)
    require(scene, scene.started == 3, f"{scene.started - 1} commands were needed")


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


def cut_uploads(scene: Scene) -> None:
    """An object store loses the end of some uploads and says nothing."""
    scene.room.objects.cuts = 0.2
    scene.weather = True
    scene.carry_out()


def damaged_cache(scene: Scene) -> None:
    """Files in the cache of a node are damaged. The store is read instead."""

    def harm() -> None:
        for path, file in scene.room.disk.files("/nodes"):
            if not path.endswith(".lock") and file.data:
                file.data = file.durable = file.data[:-1] + b"?"

    at(scene, list(range(60, 900, 20)), harm)
    scene.carry_out()
    at_most(scene, ALL)


def killed_driver(scene: Scene) -> None:
    """The driver dies with its workers, again and again. Each death costs a step of a worker."""
    at(scene, [150, 300, 450, 600, 750], lambda: faults.kill_driver(scene))
    scene.carry_out()
    at_most(scene, ALL + 5 * 4)


def maker_dies(scene: Scene) -> None:
    """Whoever makes the folder of rows dies before it is flushed. Then the power fails."""
    killed: list[str] = []
    lost: list[str] = []

    def hook(what: str, path: str, changes: bool) -> None:  # noqa: ARG001
        process, rows = scene.world.current, f"{scene.reader.base}rows"
        if not killed and scene.is_local and scene.room.disk.find(rows):
            killed.append(path)
            for driver in scene.running:
                for worker in [one for one in driver.workers if one.process is process]:
                    driver.kill_worker(worker)
        if killed and not lost and any(driver.complete for driver in scene.drivers):
            lost.append(path)
            scene.lose_power()

    scene.world.before = hook
    scene.carry_out()


def several_drivers(scene: Scene) -> None:
    """Five drivers share the store from the first moment."""
    scene.carry_out(drivers=5)
    require(scene, scene.started == 6, f"{scene.started - 1} commands were needed")


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
    at(scene, [360], lambda: taken.append(scene.room.disk.detach(scene.root)))
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
    at_most(scene, ALL)
    in_one_run(scene)


def power_losses(scene: Scene) -> None:
    """The machine loses its power again and again."""
    at(scene, [150, 300, 450, 600, 750], lambda: faults.lose_power(scene))
    scene.carry_out()
    at_most(scene, ALL + 5 * 4)


SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        nothing,
        drained,
        node_leaves,
        three_deaths,
        late_death,
        dies_before_the_row,
        four_deaths,
        lost_nodes,
        no_memory,
        woken,
        woken_and_trained_on,
        damaged_snapshot,
        damaged_weights,
        damaged_later,
        gone_later,
        short_of_disk,
        full_disk,
        cut_off,
        driver_cut_off,
        refused,
        cleaned,
        cleaned_at_each_row,
        cleaned_by_a_slow_one,
        read_meanwhile,
        damaged_rows,
        record_goes,
        two_drivers,
        failing,
        cut_uploads,
        damaged_cache,
        killed_driver,
        power_losses,
        maker_dies,
        several_drivers,
        folder_goes,
        store_goes,
        broken_disk,
    )
}


def outcomes(kinds: tuple[str, ...] = ("folder", "s3")) -> Iterator[tuple[str, list[str]]]:
    """Yield each scenario in a folder and in an object store, with its problems."""
    for name, scenario in SCENARIOS.items():
        for kind in kinds:
            problems, _ = outcome_of(f"known {name}", kind, scenario)
            yield f"{name} ({kind})", problems
