"""Columns of a trial's row: what is known before its training, and what comes out of it."""

from __future__ import annotations

import json
import os
import secrets
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator.execution.assignment import Assignment
from orchestrator.execution.provenance import git_commit, versions
from orchestrator.plan.trial import Trial
from orchestrator.states import State
from orchestrator.store.schemas import TRIALS, first_labels, recipe_columns
from orchestrator.sweep.schema import Resources
from trainers.canonical import canonical_once
from trainers.config import Training
from trainers.frames import raised, traceback_text
from trainers.recipe import Recipe

if TYPE_CHECKING:
    from trainers.results import Failure, Result, Runtime, Seconds

EMPTY_ROW: dict[str, Any] = dict.fromkeys(TRIALS.names)


def training_columns(training: Training, recipe: Recipe) -> dict[str, Any]:
    """Columns of the data, the network and the recipe. `recipe` is the one that is used."""
    return recipe_columns(recipe) | {
        "training": canonical_once(training),
        "dataset": training.target.dataset.name,
        "dataset_fingerprint": training.target.dataset.fingerprint,
        "network": training.network.name,
        "classes": len(training.target.labels),
    }


def study_columns(assignment: Assignment, training: Training) -> dict[str, Any]:
    """Columns of the search that chose the recipe. Empty without a search."""
    if assignment.schedule is None:
        return {}
    return {"study": training.schedule_from, "study_trial": assignment.schedule[1]}


def run_columns(assignment: Assignment, runtime: Runtime) -> dict[str, Any]:
    """Columns of the attempt: its request, the machine, versions."""
    from trainers.devices import device_name

    request, checkpoints = assignment.request, assignment.checkpoints
    memory = request["memory_gb"]
    return {
        "parent_checkpoint": checkpoints.get(assignment.labels["parent"]),
        "upper_checkpoint": checkpoints.get(assignment.labels["upper"]),
        "retries": assignment.retries,
        "memory_raises": assignment.raises,
        "resumes": 0,
        "cpu": request["cpu"],
        "gpu": request["gpu"],
        "memory_bytes": None if memory is None else int(memory * 1e9),
        "resources": json.dumps(Resources(**request).special, sort_keys=True),
        "threads": runtime.threads,
        "device": device_name(runtime.device),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "versions": versions(),
        "git_commit": assignment.git_commit,
    }


def result_columns(training: Training, result: Result) -> dict[str, Any]:
    """Columns of a training that reached its end."""
    seconds = result.seconds
    return _test_columns(result) | {
        "val_top1": result.validation.top1,
        "val_loss": result.validation.loss,
        **_best_columns(result),
        "train_loss": result.train_loss,
        "train_top1": result.training.top1,
        "train_map50": result.training.map50,
        "val_map50": result.validation.map50,
        "train_total": result.training.total,
        "at_chance": result.at_chance,
        "images": result.images,
        "frozen_hash_start": result.frozen_hash_start or None,
        "frozen_hash_end": result.frozen_hash_end or None,
        "frozen_proven": _proven(training, result),
        "kept_step": result.kept_step,
        "classifier_choice": result.choice,
        "features_in": result.features_in,
        "cached_layers": result.cached_layers,
        "shared_forward": result.shared_forward,
        "feature_values": result.feature_values,
        "checkpoint": result.checkpoint_sha256,
        "resumes": result.resumes,
        "exact": result.exact,
        "images_per_second": result.images / max(seconds.train + seconds.wait, 1e-9),
        "peak_memory_bytes": result.peak_memory_bytes,
        **_seconds_columns(seconds),
    }


def _proven(training: Training, result: Result) -> bool | None:
    """Return whether what was frozen stayed as it was, in every stage; None if nothing was."""
    if not training.treatment.frozen and len(training.stages) == 1:
        return None
    return result.frozen_hash_start == result.frozen_hash_end and result.stages_proven


def _test_columns(result: Result) -> dict[str, Any]:
    """Columns of the test set. Empty when the training has no test."""
    from trainers.evaluation import BoxScore

    if result.test is None:
        return {}
    if isinstance(result.test, BoxScore):
        of_boxes = ("total", "map", "map50", "map50_voc07", "map50_voc10", "loss")
        return {name: getattr(result.test, name) for name in of_boxes}
    names = ("correct", "total", "top1", "top5", "balanced_accuracy", "auroc", "loss")
    best = {"top1_at_best": result.test_best}
    return {name: getattr(result.test, name) for name in names} | best


def _best_columns(result: Result) -> dict[str, Any]:
    """Columns of the evaluations before the last. Those of a detector are in its curve."""
    if result.validation.top1 is None:
        return {}
    names = ("val_best", "val_best_step", "val_mean10")
    return {name: getattr(result, name) for name in names}


def class_columns(of_class: tuple[int, int] | float | None) -> dict[str, Any]:
    """Columns of one class: correct and all images, or the average precision of a detector."""
    columns = dict.fromkeys(("correct", "total", "average_precision"))
    if isinstance(of_class, tuple):
        return columns | {"correct": of_class[0], "total": of_class[1]}
    return columns | {"average_precision": of_class}


def failure_columns(assignment: Assignment, training: Training, failure: Failure) -> dict[str, Any]:
    """Columns of a training whose numbers are not finite."""
    return {
        "error_type": failure.error_type,
        "error_message": _failed(assignment, training, failure.message),
        "error_step": failure.step,
        **_seconds_columns(failure.seconds),
    }


def exception_columns(
    assignment: Assignment, training: Training, error: Exception
) -> dict[str, Any]:
    """Columns of a training that raised an exception, with file and line of the user's code."""
    names = (training.network.name, training.target.dataset.name)
    return {
        "error_type": type(error).__name__,
        "error_message": _failed(assignment, training, raised(error, names), "--pdb"),
        "error_traceback": traceback_text(error),
    }


def _failed(assignment: Assignment, training: Training, reason: str, option: str = "") -> str:
    """Return the message of a failed training, with the command that runs it alone."""
    message = f"trial {training.id} ({assignment.labels['name']}) failed: {reason}"
    if not training.tested:  # `layerwise debug` does not know the networks of a study
        return message
    command = f"layerwise debug {assignment.argument} {training.id[:8]} {option}".rstrip()
    return f"{message}; run it alone with: {command}"


def _seconds_columns(seconds: Seconds) -> dict[str, float]:
    return {f"seconds_{phase}": value for phase, value in vars(seconds).items()}


def driver_row(trial: Trial, outcome: State, reason: str) -> dict[str, Any]:
    """The row of a trial that was lost or skipped. Only the driver knows of these."""
    now = datetime.now(UTC)
    return (
        EMPTY_ROW
        | first_labels(trial.labels())
        | training_columns(trial.training, trial.training.recipe)
        | {"outcome": outcome, "attempt": secrets.token_hex(4), "error_type": outcome}
        | {"error_message": reason, "started": now, "ended": now, "host": socket.gethostname()}
        | {"versions": versions(), "git_commit": git_commit()}
    )
