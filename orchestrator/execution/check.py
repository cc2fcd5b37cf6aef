"""Two steps of every treatment of a sweep, to see whether they can be trained."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

from orchestrator.errors import LayerwiseError
from orchestrator.execution.feature_parts import free_bytes
from orchestrator.execution.inline import run_inline
from orchestrator.execution.items import Item
from orchestrator.execution.run import Run
from orchestrator.plan.descriptions import as_mistakes
from orchestrator.plan.extraction import extractions_of
from orchestrator.plan.feature_size import feature_bytes
from orchestrator.plan.packs import packs_of
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.resolve import ResolvedSweep, resolve
from orchestrator.plan.trial import Trial
from orchestrator.states import Ending, State
from orchestrator.store.store import Store
from orchestrator.sweep.schema import FineTune, Grid, Sweep
from trainers.recipe import Recipe

STEPS = 2


def try_treatments(resolved: ResolvedSweep) -> list[Trial]:
    """Train every treatment and layer of one target of each division for two steps.

    Returns the trained trials. Their store is thrown away. Raises `LayerwiseError` with the reasons
    if one cannot be trained, and before any training for features that the disk cannot hold.
    """
    _require_disk(make_plan(resolved))  # checks the searches too: the shortened sweep has none
    plan = make_plan(resolve(shorten(resolved.sweep, STEPS), resolved.source))
    first: dict[tuple[object, ...], str] = {}
    for trial in plan.members:
        first.setdefault((trial.division, trial.training.treatment), trial.id)
    chosen = plan.with_parents(first.values())
    problems = _Problems()
    with tempfile.TemporaryDirectory(prefix="layerwise-") as scratch:
        store = Store(scratch)
        run_inline(Run.open(plan, store, problems, only=chosen))
        rows = store.table("trials", ["name", "frozen_proven"]).to_pylist()
    problems.lines += [
        f"{row['name']}: its frozen layers changed all the same; their modules may change their "
        "buffers only while `self.training` is true"
        for row in rows
        if row["frozen_proven"] is False
    ]
    if problems.lines:
        raise LayerwiseError("\n".join(problems.lines))
    return [plan.trials[id] for id in chosen]


def _require_disk(plan: Plan) -> None:
    """Raise `LayerwiseError` for a classifier whose features fit neither memory nor this disk.

    Only here, since the disk of a worker may be another one. A worker refuses them itself.
    """
    from trainers.feature_classifier import MOST_BYTES

    sizes = {id: feature_bytes(plan, trial) for id, trial in plan.trials.items()}
    largest = max(sizes, key=lambda id: sizes[id])
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if sizes[largest] > max(MOST_BYTES, free):
        raise LayerwiseError(
            f"{plan.trials[largest].name}: its features are {sizes[largest] / 1e9:.1f} GB, and "
            f"{folder} has {free / 1e9:.1f} GB free: pool them (recipe.classifier.pool), choose "
            "other layers or fewer images, or set TMPDIR to a larger disk"
        )


def check_features(plan: Plan, store: Store) -> None:
    """Raise `LayerwiseError` for features that the disk of a local store cannot hold.

    Raises `SweepError` for layers, networks or tasks that the sweep does not have.
    """
    needed = sum(extraction.bytes(plan) for extraction in extractions_of(plan).values())
    if store.is_remote or not needed:
        return
    free, place = free_bytes(Path(store.root))
    if needed > free:
        raise LayerwiseError(
            f"the features of the sweep are {needed / 1e9:.1f} GB, and {place} has "
            f"{free / 1e9:.1f} GB free: pool them (features.*.pool), limit them (most), name fewer "
            "layers, or name a store on a larger disk with --store"
        )


def check_own_code(resolved: ResolvedSweep) -> list[str]:
    """Call a user's functions a second time, and return a line on the first weights per network.

    Raises `SweepError` for a function that gives other data or weights with equal seeds.
    """
    from trainers import repeats

    sweep, source = resolved.sweep, resolved.source
    for path, component in sweep.datasets.items():
        if component.is_own:
            dataset = resolved.refs[path]
            with as_mistakes(path, component, source):
                repeats.check_dataset(dataset, dataset.fingerprint)
    lines = []
    recipes = [recipe for grid, _ in resolved.parts for recipe in grid.recipes]
    classes, shape = resolved.classes, resolved.shape
    for field, ref in (("network", resolved.network), ("target_network", resolved.target)):
        component = getattr(sweep, field)
        if component is None or not component.is_own:
            continue
        with as_mistakes((field,), component, source):
            is_drawn = repeats.check_network(ref, classes, shape)
            filled = repeats.filled_layers(ref, classes, shape)
        inits = sorted({i for r in recipes for i in (r.init, r.init_random) if i})
        lines += [_first_weights(ref.name, init, is_drawn, filled) for init in inits]
    return lines


def lane_by_lane(resolved: ResolvedSweep) -> list[str]:
    """Return a line per network of lanes that has modules without a joined form."""
    from trainers.lanes.forward import unjoined
    from trainers.networks import build

    plan = make_plan(resolved)
    packs = packs_of(plan)
    networks = {trial.training.network for id, trial in plan.trials.items() if id in packs}
    lines = []
    for ref in sorted(networks, key=lambda ref: ref.name):
        if kinds := unjoined(build(ref, resolved.classes, resolved.shape)):
            listed = ", ".join(kinds)
            lines.append(f"{ref.name} trains in lanes; {listed}: lane by lane, which saves less")
    return lines


def _first_weights(name: str, init: str, is_drawn: bool, filled: list[int]) -> str:
    """Return one line on the first weights of a user's network."""
    start = f"first weights of {name} (init: {init}): "
    if init != "network":
        return f"{start}layerwise sets them, and replaces those that the function sets"
    by_function = f"; layers {filled} by fill_parameters()" if filled else ""
    drawn = "drawn anew for every seed and task" if is_drawn else "the same for every seed and task"
    return f"{start}as the function returns them, {drawn}{by_function}"


def shorten(sweep: Sweep, steps: int) -> Sweep:
    """Return the sweep with `steps` steps per training, without its searches and features."""

    def short(recipe: Recipe) -> Recipe:
        return dataclasses.replace(recipe, steps=steps, epochs=None, evaluate_every=steps)

    def shortened(grid: Grid) -> dict[str, Any]:
        fine_tune = short(grid.fine_tune.recipe) if grid.fine_tune.recipe else None
        return {"recipe": short(grid.recipe), "fine_tune": FineTune(recipe=fine_tune)}

    grids = {name: grid.model_copy(update=shortened(grid)) for name, grid in sweep.grids.items()}
    return sweep.model_copy(update={**shortened(sweep), "grids": grids, "features": {}})


class _Problems:
    """The `Progress` that keeps a line for each trial that failed or was lost."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def started(self, item: Item) -> None: ...

    def ended(
        self,
        item: Item,
        ending: Ending,
        message: str,
        accuracy: float | None = None,  # noqa: ARG002
    ) -> None:
        if ending is Ending.FAILED:  # `debug` knows the names of these trials, not their ids
            reason, how, command = message.partition("; run it alone with: ")
            command = command.replace(item.id[:8], shlex.quote(item.name))
            self.lines.append(f"{item.name}: {reason}{how}{command}")

    def given_up(self, item: Item, state: State, reason: str) -> None:
        if state is State.LOST:
            self.lines.append(f"{item.name}: {reason}")

    def again(self, item: Item) -> None: ...
