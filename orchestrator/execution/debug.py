"""One trial in this process, so that pdb and print work. Nothing is written unless requested."""

from __future__ import annotations

import pdb
import tempfile
from collections.abc import Callable
from typing import Any

from orchestrator.errors import LayerwiseError
from orchestrator.execution import worker
from orchestrator.execution.assignment import Assignment, Report
from orchestrator.execution.inline import require_gpu
from orchestrator.execution.items import Bench
from orchestrator.execution.study_run import StudyRun
from orchestrator.plan.filter import find
from orchestrator.plan.plan import Plan
from orchestrator.plan.trial import Trial
from orchestrator.states import Ending, State
from orchestrator.store.store import Store
from trainers.checkpoint import CheckpointError
from trainers.frames import lines_below, raised
from trainers.recipe import Recipe
from trainers.results import Evaluation

Echo = Callable[[str], Any]


def debug_trial(plan: Plan, name: str, store: Store, *, record: bool, echo: Echo) -> Report:
    """Train the trial with this name or beginning of an id, and print its learning curve.

    The bases are read from the store. If one is missing there, it is trained first: into the store
    with `record`, else into a temporary folder. Raises whatever the training raises.
    """
    trial = find(plan, name)
    require_gpu([(trial.name, trial.request)])
    if record:
        store.make()
    with tempfile.TemporaryDirectory(prefix="layerwise-") as scratch:
        held = {id: _checkpoint(id, store) for id in trial.parents}
        source = store if record or all(held.values()) else Store(scratch)
        checkpoints = {
            id: sha256 if sha256 and source is store else _provide(plan, id, store, source, echo)
            for id, sha256 in held.items()
        }
        schedule = _schedule(plan, trial, store)
        assignment = Assignment.of(
            trial, plan.sweep, source, checkpoints=checkpoints, schedule=schedule
        )
        return _train(assignment, trial, record=record, echo=echo)


def post_mortem(error: Exception, echo: Echo) -> bool:
    """Open pdb at the user's line behind an error. Return False if the error has no such line.

    An error of planning names its cause: the exception that a user's function raised.
    """
    cause: BaseException | None = error
    while cause is not None and lines_below(cause.__traceback__) is None:
        cause = cause.__cause__
    if cause is None:
        return False
    echo(str(error) if isinstance(error, LayerwiseError) else raised(error))
    debugger = pdb.Pdb()
    debugger.reset()
    if below := lines_below(cause.__traceback__):
        debugger.rcLines.append(f"up {below}")
    debugger.interaction(None, cause.__traceback__)
    return True


def _provide(plan: Plan, id: str, store: Store, source: Store, echo: Echo) -> str:
    """Put a parent's checkpoint into `source`, and return its SHA-256. Raises `LayerwiseError`.

    It is copied from the store, or is that of a file of weights, or is trained.
    """
    source.make()
    if sha256 := _checkpoint(id, store):
        return source.put_checkpoint(id, store.get_checkpoint(id, sha256))
    if weights := plan.weights.get(id):
        return source.put_checkpoint(id, weights.data)
    return _train_base(plan, plan.trials[id], source, echo)


def _train_base(plan: Plan, base: Trial, store: Store, echo: Echo) -> str:
    """Train a base into a store; the SHA-256 of its checkpoint. Raises `LayerwiseError`."""
    echo(f"its base {base.name} is not in the store and is trained first")
    assignment = Assignment.of(base, plan.sweep, store, checkpoints={})
    report = _train(assignment, base, record=True, echo=echo)
    if report.ending is not Ending.COMPLETE:
        raise LayerwiseError(f"its base {base.name} {report.ending.value}: {report.message}")
    assert report.checkpoint is not None
    return report.checkpoint


def _train(assignment: Assignment, trial: Trial, *, record: bool, echo: Echo) -> Report:
    echo(f"trial {trial.id} ({trial.name}): {trial.training.recipe.steps} steps")

    def watch(_: str, row: Any) -> None:
        if isinstance(row, Evaluation):
            score = "top-1" if row.val_map50 is None else "mAP"
            echo(
                f"  step {row.step:6d}  rate {row.rate:.5f}  train loss {row.train_loss:.4f}  "
                f"validation loss {row.val_loss:.4f}  {score} {row.goal:.4f}"
            )

    report = worker.run(assignment, record=record, raises=True, watch=watch)
    for score, value in (("top-1", report.top1), ("mAP", report.map50)):
        if value is not None:
            echo(f"  test {score} {value:.4f} in {report.seconds:.1f} s")
    return report


def _schedule(plan: Plan, trial: Trial, store: Store) -> tuple[Recipe, int] | None:
    """The schedule that a search chose for a trial, if it waits for one."""
    for study in plan.studies:
        if study.id == trial.training.schedule_from:
            study_run = StudyRun(study, plan, Bench(plan.sweep, store))
            if study_run.choice() is None:
                raise LayerwiseError(
                    f"the schedule of {trial.name} is searched, and the search has not chosen "
                    f"one; run it with: layerwise search {trial.argument}"
                )
            return study_run.schedule_of(trial)()
    return None


def _checkpoint(base: str, store: Store) -> str | None:
    """The SHA-256 of a base's checkpoint, if it is there and undamaged."""
    row = store.row(base)
    if row is None or row["outcome"] != State.COMPLETE:
        return None
    try:
        store.get_checkpoint(base, row["checkpoint"])
    except CheckpointError:
        return None
    return str(row["checkpoint"])
