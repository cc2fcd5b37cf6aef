"""What a worker does with a trial: read the parent, train, write checkpoint, curve and row.

The same code runs in a Ray worker (`launch/`) and in this process (`inline.py`).
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from typing import Any

from orchestrator.frontier import Ending, Job
from orchestrator.placement import resources_json
from orchestrator.plan import Trial
from orchestrator.spec import Resources, Sweep
from orchestrator.store import Store
from orchestrator.tables import CLASSES, CURVE, TRIALS
from trainers.checkpoint import CheckpointError
from trainers.config import (
    ConfigError,
    Recipe,
    Training,
    canonical,
    from_json,
    recipe_from,
    to_json,
)
from trainers.datasets.places import portable

EMPTY_ROW: dict[str, Any] = dict.fromkeys(TRIALS.names)


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A trial as it is sent to a worker: JSON values only.

    `schedule` is the recipe that a study chose in place of the training's own, and the number of
    the study trial that it comes from.
    """

    training: str
    labels: dict[str, Any]
    argument: str
    request: dict[str, Any]
    retries: int
    raises: int = 0
    parent_checkpoint: str | None
    keep_checkpoint: bool
    checkpoint_seconds: float
    store: str
    git_commit: str | None
    data_root: str | None = None
    schedule: tuple[dict[str, Any], int] | None = None

    @classmethod
    def of(
        cls,
        trial: Trial,
        sweep: Sweep,
        store: Store,
        *,
        parent_checkpoint: str | None,
        job: Job | None = None,
        schedule: tuple[Recipe, int] | None = None,
    ) -> Assignment:
        """An attempt at a trial: as `job` says, or the first, with what the sweep asks for."""
        job = job or Job((trial.id,), trial.request)
        return cls(
            training=canonical(trial.training),
            labels=trial.labels(),
            argument=trial.argument,
            request=job.request.model_dump(),
            retries=job.retries,
            raises=job.raises,
            parent_checkpoint=parent_checkpoint,
            keep_checkpoint=trial.keep_checkpoint,
            checkpoint_seconds=sweep.checkpoint_seconds,
            store=store.root,
            git_commit=git_commit(),
            data_root=portable(sweep.dataset.root),
            schedule=(to_json(schedule[0]), schedule[1]) if schedule else None,
        )

    def trained(self) -> Training:
        """The training with the recipe that it is carried out with."""
        training = from_json(self.training)
        if self.schedule is None:
            assert training.schedule_from is None
            return training
        return replace(training, recipe=recipe_from(self.schedule[0]))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Assignment:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Report:
    """What a worker tells of a trial. The row says the rest."""

    trial: str
    ending: Ending
    message: str = ""
    checkpoint: str | None = None
    seconds: float = 0.0
    top1: float | None = None
    val_top1: float | None = None


Watcher = Callable[[Any], None]
Stop = Callable[[], bool]


def prepare() -> None:
    """Import what a training needs, so that no trial is charged for it."""
    importlib.import_module("trainers.loop")
    importlib.import_module("torch._dynamo")  # an optimiser's first step would import it


def run(
    assignment: Assignment,
    *,
    record: bool = True,
    watch: Watcher = lambda _: None,
    stop: Stop = lambda: False,
) -> Report:
    """Train one trial and write what came out; nothing is written unless `record`.

    `watch` sees every row of the training; once `stop` says yes, the last is a snapshot. What
    would end the same when tried again is a report; what might not (a full disk) is raised.
    """
    import torch

    from trainers.datasets import DataError
    from trainers.loop import Failure, Result, Runtime, Snapshot, train
    from trainers.networks import NetworkError

    started, clock = datetime.now(UTC), time.perf_counter()
    store, training = Store(assignment.store), from_json(assignment.training)
    trained = assignment.trained()
    attempt, request = secrets.token_hex(4), assignment.request
    runtime = Runtime(
        device="cuda" if request["gpu"] else "cpu",
        threads=max(1, int(request["cpu"])),
        checkpoint_seconds=assignment.checkpoint_seconds if record else float("inf"),
        data_root=assignment.data_root,
    )
    row = (
        EMPTY_ROW
        | assignment.labels
        | _recipe_columns(training, trained.recipe)
        | _study_columns(assignment, training)
        | _run_columns(assignment, runtime)
    )
    row |= {"attempt": attempt, "started": started}

    def finish(ending: Ending, came: Result | Failure | None = None, **columns: Any) -> Report:
        if record and came:
            _write_files(store, assignment, training, attempt, came)
        row.update(columns, outcome=ending.value, ended=datetime.now(UTC))
        row["seconds_total"] = time.perf_counter() - clock
        if record:
            store.write_row(row)
            store.drop_progress(trained.id)
        return _report(row)

    def completed() -> dict[str, Any]:
        """The row of whoever completed this trial; one without an attempt if nobody has."""
        return store.row(training.id, ("complete",)) or EMPTY_ROW

    try:
        parent = _parent(assignment, training, store)
    except CheckpointError as error:
        return Report(training.id, Ending.BASE_DAMAGED, str(error))
    before = completed()["attempt"]  # if its checkpoint is gone, and it is trained again
    resume = next(store.progress(trained.id), None) if record else None
    try:
        with contextlib.closing(
            train(trained, parent=parent, resume=resume, runtime=runtime, stop=stop)
        ) as rows:
            for item in rows:
                watch(item)
                match item:
                    case Snapshot():
                        store.put_progress(trained.id, attempt, item.step, item.data)
                        if (found := completed())["attempt"] != before:
                            # By a second run, or by others while this process was frozen.
                            store.drop_progress(trained.id)
                            return _report(found)
                    case Result():
                        return finish(Ending.COMPLETE, item, **_result_columns(training, item))
                    case Failure():
                        columns = _failure_columns(assignment, training, item)
                        return finish(Ending.FAILED, item, **columns)
    except (torch.cuda.OutOfMemoryError, MemoryError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        return Report(training.id, Ending.OUT_OF_MEMORY, reason)
    except CheckpointError as error:  # whole, and yet no snapshot of this training
        store.drop_progress(trained.id)
        return Report(training.id, Ending.WORKER_DIED, f"{error}; it begins anew")
    except (NetworkError, DataError, ConfigError) as error:
        return finish(
            Ending.FAILED,
            error_type=type(error).__name__,
            error_message=f"trial {training.id} ({row['name']}): {error}",
        )
    finally:
        if runtime.device == "cuda":
            torch.cuda.empty_cache()  # the process lives on, and others may share its GPU
    assert stop(), "a training ends with a result or a failure, or is stopped"
    return Report(training.id, Ending.STOPPED)


def _report(row: Mapping[str, Any]) -> Report:
    """What there is to tell of a row."""
    return Report(
        row["id"],
        Ending(row["outcome"]),
        row["error_message"] or "",
        row["checkpoint"],
        row["seconds_total"],
        row["top1"],
        row["val_top1"],
    )


def _parent(assignment: Assignment, training: Training, store: Store) -> bytes | None:
    if training.parent is None:
        return None
    assert assignment.parent_checkpoint is not None
    return store.get_checkpoint(training.parent, assignment.parent_checkpoint, cached=True)


def _write_files(
    store: Store, assignment: Assignment, training: Training, attempt: str, came: Any
) -> None:
    """Everything that the row of a `Result` or a `Failure` refers to, before the row."""
    from trainers.loop import Result

    key: dict[str, Any] = {"id": training.id, "attempt": attempt}
    curve = [key | asdict(point) for point in came.curve]
    assert not curve or all(name in curve[0] for name, _, _ in CURVE)
    store.write_attempt("curves", training.id, attempt, curve)
    if not isinstance(came, Result):
        return
    if assignment.keep_checkpoint:
        store.put_checkpoint(training.id, came.checkpoint)
    scores = [("validation", came.validation)]
    if came.test is not None:
        scores.append(("test", came.test))
    rows = [
        key | {"subset": subset, "class_index": index, "correct": correct, "total": total}
        for subset, score in scores
        for index, (correct, total) in zip(training.target.labels, score.per_class, strict=True)
    ]
    assert all(name in rows[0] for name, _, _ in CLASSES)
    store.write_attempt("classes", training.id, attempt, rows)


def _recipe_columns(training: Training, recipe: Recipe) -> dict[str, Any]:
    """What a network is trained on and with; `recipe` is the one that is used."""
    names = ("optimiser", "rate", "momentum", "weight_decay", "batch", "steps", "dropout")
    return {name: getattr(recipe, name) for name in names} | {
        "schedule": recipe.schedule.family,
        "precision": recipe.precision,
        "normalise": recipe.normalise,
        "recipe": json.dumps(to_json(recipe), sort_keys=True),
        "training": canonical(training),
        "dataset": training.target.dataset.name,
        "dataset_fingerprint": training.target.dataset.fingerprint,
        "network": training.network.name,
        "classes": len(training.target.labels),
    }


def _study_columns(assignment: Assignment, training: Training) -> dict[str, Any]:
    if assignment.schedule is None:
        return {}
    return {"study": training.schedule_from, "study_trial": assignment.schedule[1]}


def _run_columns(assignment: Assignment, runtime: Any) -> dict[str, Any]:
    request = assignment.request
    memory = request["memory_gb"]
    return {
        "parent_checkpoint": assignment.parent_checkpoint,
        "retries": assignment.retries,
        "memory_raises": assignment.raises,
        "resumes": 0,
        "cpu": request["cpu"],
        "gpu": request["gpu"],
        "memory_bytes": None if memory is None else int(memory * 1e9),
        "resources": resources_json(Resources(**request)),
        "threads": runtime.threads,
        "device": device_name(runtime.device),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "versions": versions(),
        "git_commit": assignment.git_commit,
    }


def _result_columns(training: Training, result: Any) -> dict[str, Any]:
    frozen = training.treatment.frozen
    seconds = result.seconds
    return _test_columns(result) | {
        "val_top1": result.validation.top1,
        "val_loss": result.validation.loss,
        "val_best": result.val_best,
        "val_best_step": result.val_best_step,
        "val_mean10": result.val_mean10,
        "train_loss": result.train_loss,
        "at_chance": result.at_chance,
        "images": result.images,
        "frozen_hash_start": result.frozen_hash_start or None,
        "frozen_hash_end": result.frozen_hash_end or None,
        "frozen_proven": result.frozen_hash_start == result.frozen_hash_end if frozen else None,
        "checkpoint": result.checkpoint_sha256,
        "resumes": result.resumes,
        "exact": result.exact,
        "images_per_second": result.images / max(seconds.train + seconds.wait, 1e-9),
        "peak_memory_bytes": result.peak_memory_bytes,
        **_seconds_columns(seconds),
    }


def _test_columns(result: Any) -> dict[str, Any]:
    """What the test says; nothing of a training that is not to be tested."""
    if result.test is None:
        return {}
    names = ("correct", "total", "top1", "top5", "balanced_accuracy", "auroc", "loss")
    best = {"top1_at_best": result.test_correct_best / result.test.total}
    return {name: getattr(result.test, name) for name in names} | best


def _failure_columns(assignment: Assignment, training: Training, failure: Any) -> dict[str, Any]:
    message = f"trial {training.id} ({assignment.labels['name']}) failed: {failure.message}"
    if training.tested:  # a study's own networks are known to no command
        message += f"; run it alone with: layerwise debug {assignment.argument} {training.id[:8]}"
    return {
        "error_type": failure.error_type,
        "error_message": message,
        "error_step": failure.step,
        **_seconds_columns(failure.seconds),
    }


def _seconds_columns(seconds: Any) -> dict[str, float]:
    return {f"seconds_{phase}": value for phase, value in asdict(seconds).items()}


def driver_row(trial: Trial, outcome: str, reason: str) -> dict[str, Any]:
    """The row of a trial that was lost or skipped, which only the driver can know."""
    now = datetime.now(UTC)
    return (
        EMPTY_ROW
        | trial.labels()
        | _recipe_columns(trial.training, trial.training.recipe)
        | {"outcome": outcome, "attempt": secrets.token_hex(4), "error_type": outcome}
        | {"error_message": reason, "started": now, "ended": now, "host": socket.gethostname()}
        | {"versions": versions(), "git_commit": git_commit()}
    )


@lru_cache(maxsize=1)
def versions() -> str:
    """Versions that can change a number, as JSON."""
    names = (
        "layerwise",
        "torch",
        "torchvision",
        "numpy",
        "ray",
        "pyarrow",
        "scikit-learn",
        "optuna",
    )
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return json.dumps(found, sort_keys=True)


@lru_cache(maxsize=4)
def device_name(device: str) -> str:
    if device == "cpu":
        return f"cpu {platform.machine()}"
    import torch

    return torch.cuda.get_device_name()


@lru_cache(maxsize=1)
def git_commit() -> str | None:
    """The commit of the working folder, with + if it has changes; none outside a repository."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
