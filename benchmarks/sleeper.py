"""Worker of layerwise whose trials sleep instead of training, and write the usual files."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.sleeping import note_job, settings, span
from orchestrator.cluster.actor import Worker
from orchestrator.execution.assignment import Assignment, Report, Work
from orchestrator.execution.pack import PackAssignment
from orchestrator.execution.provenance import versions
from orchestrator.execution.rows import EMPTY_ROW
from orchestrator.execution.worker import Stop
from orchestrator.states import Ending, State
from orchestrator.store.schemas import first_labels
from orchestrator.store.store import Store
from orchestrator.sweep.records import training_from
from trainers.config import Training

CHECKPOINT = bytes(100_000)  # as large as that of a network for digits
ATTEMPT = "5eebed00"


class Sleeper(Worker):
    """Sleeps for the seconds in `settings.json` of the store's parent folder. Imports no torch."""

    def prepare(self) -> None:
        """Do nothing: there is no data to load."""

    def carry_out(self, assignment: Work, stop: Stop) -> list[Report]:  # noqa: ARG002 - short
        """Sleep for the sum of the seconds of all trials. Note four times in `jobs/<pid>`."""
        together = isinstance(assignment, PackAssignment)
        trials = assignment.assignments if together else (assignment,)
        folder = Path(trials[0].store).parent
        seconds = [settings(folder)["seconds"][trial.labels["id"]] for trial in trials]
        with contextlib.ExitStack() as context:
            pool = context.enter_context(ThreadPoolExecutor(len(trials)))
            for trial in trials:
                context.enter_context(span(folder, trial.labels["id"]))
            times = [time.time()]
            list(pool.map(read, trials))
            times.append(time.time())
            time.sleep(sum(seconds))
            times.append(time.time())
            reports = list(pool.map(write, trials, seconds))
            times.append(time.time())
        note_job(folder, len(trials), times)
        return reports


def read(assignment: Assignment) -> None:
    """Read the files of a trial as a worker does before it trains."""
    store, training = Store(assignment.store), training_from(assignment.training)
    store.row(training.id, (State.COMPLETE,))
    for parent, sha256 in assignment.checkpoints.items():
        store.get_checkpoint(parent, sha256, cached=True)
    next(store.progress(training.id), None)


def write(assignment: Assignment, seconds: float) -> Report:
    """Write and drop the files of a trial as a worker does after `seconds` of training."""
    store, training = Store(assignment.store), training_from(assignment.training)
    checkpoint = None
    if assignment.keep_checkpoint:
        checkpoint = store.put_checkpoint(training.id, CHECKPOINT)
    row = (
        EMPTY_ROW
        | first_labels(assignment.labels)
        | {"training": assignment.training, "versions": versions()}
    )
    ended = datetime.now(UTC)
    row |= {"outcome": "complete", "attempt": ATTEMPT, "checkpoint": checkpoint, "top1": 0.5}
    row |= {"seconds_total": seconds, "started": ended - timedelta(seconds=seconds), "ended": ended}
    store.write_row(row, curve(training), classes(training))
    store.drop_progress(training.id)
    return Report(training.id, Ending.COMPLETE, "", checkpoint, seconds, 0.5, 0.5)


def curve(training: Training) -> list[dict[str, Any]]:
    """Return an evaluation every `evaluate_every` steps, or ten in all."""
    steps = training.recipe.steps or 0
    every = training.recipe.evaluate_every or max(1, steps // 10)
    values = {"rate": 0.1, "train_loss": 1.0, "val_loss": 1.0, "val_top1": 0.5, "val_top5": 0.9}
    values |= {"val_map50": None}
    return [
        {"id": training.id, "attempt": ATTEMPT, "step": step, "images": step, "seconds": 1.0}
        | values
        for step in range(every, steps + 1, every)
    ]


def classes(training: Training) -> list[dict[str, Any]]:
    return [
        {"id": training.id, "attempt": ATTEMPT, "subset": subset}
        | {"class_index": index, "correct": 25, "total": 50, "average_precision": None}
        for subset in ("validation", "test")
        for index in training.target.labels
    ]
