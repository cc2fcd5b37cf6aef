"""One network trained once: `for row in train(training, …): …`.

The caller decides where the rows are kept. They come in the order in which things happen:
evaluations, now and then a snapshot to resume from, and at the end a result or a failure.

`lane` is the same training without its arithmetic: it yields the steps and scores that it needs,
and is sent their results. `train` computes each of them by itself; a pack computes those of many
trainings together (`lanes/pack.py`).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import torch

from trainers import checkpoint, process
from trainers.config import Training
from trainers.detection.learner import DetectorLearner
from trainers.evaluation import Scored
from trainers.feature_classifier import FeatureClassifier
from trainers.learner import Learner
from trainers.networks import tensors_of
from trainers.results import Result, Row, Runtime, Snapshot
from trainers.schedules import factor
from trainers.task_data import READERS, TaskData, task_data
from trainers.training_state import Clock, TrainingState

EVALUATIONS = 10  # per training, if the recipe names no number of steps


class Step(NamedTuple):
    """Request of a training: learn from the batch of a 0-based step, and return its mean loss."""

    learner: Learner
    number: int
    rate: float

    def alone(self) -> torch.Tensor:
        """Do what is requested, for this training only."""
        return self.learner.step(self.number, self.rate)


class Scoring(NamedTuple):
    """Request of a training: score the network as it is now on a set, and return the score."""

    learner: Learner
    subset: str

    def alone(self) -> Scored:
        """Do what is requested, for this training only."""
        return self.learner.score(self.subset)


Lane = Generator[Row | Step | Scoring, Any, None]


def train(
    training: Training,
    *,
    parent: bytes | None = None,
    upper: bytes | None = None,
    resume: bytes | None = None,
    runtime: Runtime = Runtime(),
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Row, None, None]:
    """Train one network. `parent` is the base's checkpoint, `resume` a `Snapshot`'s data.

    `upper` is the checkpoint of the base that a stitched network has its upper layers from.
    `stop` is called after every step; when it returns true, the last row is a `Snapshot`.
    Raises `NetworkError`, `DataError`, `CheckpointError`; an out-of-memory error passes through.
    Close the iterator, or exhaust it, to end the threads that read images.
    """
    one = lane(training, parent=parent, upper=upper, resume=resume, runtime=runtime, stop=stop)
    with contextlib.closing(one):
        event = next(one)
        while True:
            answer = None
            if isinstance(event, Step | Scoring):
                answer = event.alone()
            else:
                yield event
            try:
                event = one.send(answer)
            except StopIteration:
                return


def lane(
    training: Training,
    *,
    parent: bytes | None = None,
    upper: bytes | None = None,
    resume: bytes | None = None,
    runtime: Runtime = Runtime(),
    stop: Callable[[], bool] = lambda: False,
) -> Lane:
    """Train one network as `train` does, but leave each `Step` and `Scoring` to the caller.

    The caller sends the result of each. `runtime.clock` tells how the time is divided.
    """
    recipe, steps = training.recipe, training.recipe.steps
    assert steps is not None
    every = recipe.evaluate_every or math.ceil(steps / EVALUATIONS)
    device = process.prepare(training, runtime)
    run = TrainingState(trial=training.id, environment=process.environment(runtime))
    clock = Clock(run.seconds, device, runtime.clock)

    readers = runtime.readers or max(READERS, runtime.threads)
    data = task_data(
        training,
        device,
        whole_bytes=runtime.whole_bytes,
        readers=readers,
        data_root=runtime.data_root,
        source_root=runtime.source_root,
    )
    clock.lap("data")
    learner = _learner(training, data, (parent, upper), runtime, readers)
    run.environment += f", {learner.cached_layers} cached layers"
    with contextlib.closing(learner):
        if resume is None:
            run.frozen_hash_start = learner.frozen_hash()
        else:
            run.restore(resume, learner)
            learner.enter(run.step - 1)  # a stage that ends here is still to be proven

        saved_at, test = time.perf_counter(), None
        for step in range(run.step, steps):
            run.enter_stage(step, learner)
            rate = recipe.rate * factor(recipe.schedule, step, steps)
            run.losses.append((yield Step(learner, step, rate)))
            run.step = step + 1
            is_last = run.step == steps

            if is_last or run.step % every == 0:
                clock.lap("train", learner.batches.waited)
                validation = yield Scoring(learner, "validation")
                is_last |= run.judge(validation, recipe.stop, learner)
                improved = validation.goal > run.best
                if training.tested and (improved or is_last):
                    test = yield Scoring(learner, "test")
                if improved:
                    run.best, run.best_step = validation.goal, run.step
                    run.test_best = test.goal if test else 0.0
                clock.lap("evaluate")
                if failure := run.failure(validation, test):
                    yield failure
                    return
                yield run.point(validation, rate, run.step * learner.batches.order.batch)
                clock.restart()

            if is_last:
                break
            stopping = stop()
            if stopping or time.perf_counter() - saved_at >= runtime.checkpoint_seconds:
                clock.lap("train", learner.batches.waited)
                yield Snapshot(step=run.step, data=run.pack(learner))
                if stopping:
                    return
                clock.restart()
                saved_at = time.perf_counter()

        yield (yield from _result(run, learner, clock, validation, test))


def _learner(
    training: Training,
    data: TaskData,
    parents: tuple[bytes | None, bytes | None],
    runtime: Runtime,
    readers: int,
) -> Learner:
    parent, upper = parents
    memory, disk = runtime.feature_bytes, runtime.feature_disk_bytes
    if training.recipe.detector:
        return DetectorLearner(training, data, parent, memory, readers)
    if training.recipe.classifier:
        return FeatureClassifier(training, data, parent, readers)
    return Learner(training, data, parent, memory, readers, upper, disk)


def _result(
    run: TrainingState,
    learner: Learner,
    clock: Clock,
    validation: Scored,
    test: Scored | None,
) -> Generator[Scoring, Any, Result]:
    """Return the row of a completed training; the scores are those after the last step."""
    run.prove_stage(learner)
    if learner.best_weights:
        learner.restore_kept()
        validation = yield Scoring(learner, "validation")
        test = test and (yield Scoring(learner, "test"))
    training = yield Scoring(learner, "train")
    clock.lap("evaluate")
    weights = checkpoint.pack(tensors_of(learner.network), {"trial": run.trial, "steps": run.step})
    score = test or validation
    best = sorted((point.goal for point in run.curve), reverse=True)[:10]
    return Result(
        steps=run.step,
        kept_step=run.kept_step if learner.best_weights else None,
        choice=learner.choice,
        feature_values=learner.feature_values,
        features_in=learner.features_in,
        cached_layers=learner.cached_layers,
        shared_forward=learner.shared_forward,
        images=run.curve[-1].images,
        test=test,
        validation=validation,
        training=training,
        test_best=run.test_best,
        val_best=run.best,
        val_best_step=run.best_step,
        val_mean10=sum(best) / len(best),
        train_loss=run.curve[-1].train_loss,
        at_chance=learner.at_chance(score, min(point.train_loss for point in run.curve)),
        frozen_hash_start=run.frozen_hash_start,
        frozen_hash_end=learner.frozen_hash(),
        stages_proven=run.stages_proven,
        curve=tuple(run.curve),
        checkpoint=weights,
        checkpoint_sha256=checkpoint.checksum(weights),
        exact=run.exact,
        resumes=run.resumes,
        seconds=run.seconds,
        peak_memory_bytes=process.peak_memory(learner.batches.order.device),
    )
