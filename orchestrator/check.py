"""`layerwise check`: a sweep's layers and cut points, and two steps of every treatment."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator import plan as planning
from orchestrator import sweep_file
from orchestrator.errors import LayerwiseError
from orchestrator.experiment import examine, find_data, shorten
from orchestrator.frontier import Ending, State
from orchestrator.inline import run_inline
from orchestrator.plan import Trial
from orchestrator.run import Run
from orchestrator.status import treatment_name
from orchestrator.store import Store

if TYPE_CHECKING:
    from rich.console import Console

STEPS = 2


def check_sweep(name: str, changes: Sequence[str], console: Console) -> None:
    """Print what a sweep names; raise `LayerwiseError` if a treatment cannot be trained.

    Two steps of every treatment and layer of one target of every division, in a store that is
    thrown away.
    """
    from rich.table import Table

    sweep, source = sweep_file.load(name, changes)
    experiment = examine(sweep, source)
    find_data(sweep, experiment.dataset, source)
    data, layers = experiment.data, experiment.layers
    console.print(
        f"dataset {sweep.dataset.name}: {len(data.classes)} classes, images {_by(data.shape)}, "
        f"{sum(data.train)} for training, {sum(data.validation)} for validation, "
        f"{sum(data.test)} for test; fingerprint {data.fingerprint}",
        soft_wrap=True,
    )
    table = Table("layer", "output", "parameters", "multiply-adds", "cut after it")
    copied = {n for grid, _ in experiment.parts for n in grid.layers or range(1, layers.depth)}
    for number in range(1, layers.depth + 1):
        shape, parameters = layers.shapes[number - 1], layers.parameters[number - 1]
        cut = f"n = {number}" if number in copied else ""
        table.add_row(
            str(number), _by(shape), f"{parameters:,}", f"{layers.macs[number - 1]:,}", cut
        )
    console.print(table)

    planning.plan(experiment)  # a search may not fit, and what is shortened has none
    shortened = shorten(sweep, STEPS)
    plan = planning.plan(examine(shortened, source))
    first: dict[tuple[object, ...], str] = {}
    for trial in plan.members:
        first.setdefault((trial.division, trial.training.treatment), trial.id)
    some = plan.with_parents(first.values())
    troubles = _Troubles()
    with tempfile.TemporaryDirectory(prefix="layerwise-") as scratch:
        run_inline(Run(plan, Store(scratch), troubles, only=some))
    if troubles.found:
        raise LayerwiseError("\n".join(troubles.found))
    kinds = sorted({treatment_name(plan.trials[id]) for id in some})
    console.print(f"{len(some)} trainings of {STEPS} steps went well: {', '.join(kinds)}")


class _Troubles:
    """Collects what went wrong."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def started(self, trial: Trial) -> None: ...

    def ended(self, trial: Trial, ending: Ending, message: str) -> None:
        if ending is Ending.FAILED:
            self.found.append(f"{trial.name}: {message}")

    def given_up(self, trial: Trial, state: State, reason: str) -> None:
        if state is State.LOST:
            self.found.append(f"{trial.name}: {reason}")

    def again(self, trial: Trial) -> None: ...


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
