"""One trial in this process, so that pdb and print work; nothing is written unless asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

from orchestrator import worker
from orchestrator.errors import LayerwiseError
from orchestrator.frontier import Ending
from orchestrator.inline import require_gpu
from orchestrator.plan import Plan, Trial
from orchestrator.search.carrying import CarriedStudy
from orchestrator.status import find
from orchestrator.store import Store
from orchestrator.worker import Assignment, Report
from trainers.checkpoint import CheckpointError
from trainers.config import Recipe
from trainers.loop import Evaluation

Echo = Callable[[str], Any]


def debug_trial(plan: Plan, text: str, store: Store, *, record: bool, echo: Echo) -> Report:
    """Train the trial that `text` names and print its curve.

    Its base is read from the store; if it is not there it is trained first, into the store with
    `record`, into a temporary folder without. Raises whatever the training raises.
    """
    trial = find(plan, text)
    require_gpu([trial])
    with tempfile.TemporaryDirectory(prefix="layerwise-") as scratch:
        parent = None
        source = store
        if trial.parent is not None:
            parent = _checkpoint(trial.parent, store)
            if parent is None:
                source = store if record else Store(scratch)
                base = plan.trials[trial.parent]
                echo(f"its base {base.name} is not in the store and is trained first")
                report = _train(plan, base, source, None, record=True, echo=echo)
                if report.ending is not Ending.COMPLETE:
                    raise LayerwiseError(
                        f"its base {base.name} {report.ending.value}: {report.message}"
                    )
                parent = report.checkpoint
        schedule = _schedule(plan, trial, store)
        return _train(plan, trial, source, parent, record=record, echo=echo, schedule=schedule)


def _schedule(plan: Plan, trial: Trial, store: Store) -> tuple[Recipe, int] | None:
    """The schedule that a search chose for a trial, if one does."""
    for study in plan.studies:
        if study.id == trial.training.schedule_from:
            carried = CarriedStudy(study, plan, store)
            if carried.choice() is None:
                raise LayerwiseError(
                    f"the schedule of {trial.name} is searched, and the search has not chosen "
                    f"one; run it with: layerwise search {trial.argument}"
                )
            return carried.schedule(trial.training.recipe)
    return None


def _checkpoint(base: str, store: Store) -> str | None:
    """The hash of a base's checkpoint, if it is there and whole."""
    row = store.row(base)
    if row is None or row["outcome"] != "complete":
        return None
    try:
        store.get_checkpoint(base, row["checkpoint"])
    except CheckpointError:
        return None
    return str(row["checkpoint"])


def _train(
    plan: Plan,
    trial: Trial,
    store: Store,
    parent: str | None,
    *,
    record: bool,
    echo: Echo,
    schedule: tuple[Recipe, int] | None = None,
) -> Report:
    echo(f"trial {trial.id} ({trial.name}): {trial.training.recipe.steps} steps")

    def watch(row: Any) -> None:
        if isinstance(row, Evaluation):
            echo(
                f"  step {row.step:6d}  rate {row.rate:.5f}  train loss {row.train_loss:.4f}  "
                f"validation loss {row.val_loss:.4f}  top-1 {row.val_top1:.4f}"
            )

    assignment = Assignment.of(
        trial, plan.sweep, store, parent_checkpoint=parent, schedule=schedule
    )
    report = worker.run(assignment, record=record, watch=watch)
    if report.top1 is not None:
        echo(f"  test top-1 {report.top1:.4f} in {report.seconds:.1f} s")
    return report
