"""One network trained once: `for row in train(training, …): …`.

The caller decides where the rows are kept. They come in the order in which things happen:
evaluations, now and then a snapshot to resume from, and at the end a result or a failure.

`lane` is the same training without its arithmetic: it yields the steps and scores that it needs,
and is sent their results. `train` computes each of them by itself; a pack computes those of many
trainings together (`lanes/pack.py`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import resource
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch

from trainers import checkpoint
from trainers.config import Training
from trainers.detection.learner import DetectorLearner
from trainers.devices import keep_memory
from trainers.evaluation import Scored
from trainers.feature_classifier import FeatureClassifier
from trainers.learner import Learner
from trainers.networks import tensors_of
from trainers.recipe import Stop
from trainers.results import Evaluation, Failure, Result, Row, Runtime, Seconds, Snapshot
from trainers.schedules import factor
from trainers.task_data import READERS, TaskData, task_data

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
    device = _prepare_process(training, runtime)
    run = _Progress(trial=training.id, environment=_environment(runtime))
    clock = _Clock(run.seconds, device, runtime.clock)

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


def _prepare_process(training: Training, runtime: Runtime) -> torch.device:
    """Set process-wide settings, for every training anew: processes are reused.

    By default cuDNN rounds the factors of float32 convolutions to TF32's 10 bits. That is switched
    off, so that float32 means float32; `precision: tf32` switches it on for its speed.
    """
    device = torch.device(runtime.device)
    keep_memory()
    torch.set_num_threads(runtime.threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    tf32 = training.recipe.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    return device


def _environment(runtime: Runtime) -> str:
    """Return the settings under which a resumed training is bit-identical."""
    device = torch.device(runtime.device)
    if device.type == "cuda":
        exact = not torch.backends.cuda.matmul.allow_tf32
        name = f"{torch.cuda.get_device_name(device)}, {'exact float32' if exact else 'TF32'}"
    else:
        name = f"cpu {torch.backends.cpu.get_cpu_capability()}"
    lanes = ", lanes" if runtime.in_lanes else ""
    return f"torch {torch.__version__}, {name}, {runtime.threads} threads{lanes}"


@dataclass(kw_only=True)
class _Progress:
    """State of a training beside its network; a snapshot holds it under these names."""

    trial: str
    environment: str
    step: int = 0
    """Steps done."""
    losses: list[Any] = dataclasses.field(default_factory=list)
    """Losses of the steps since the last evaluation."""
    curve: list[Evaluation] = dataclasses.field(default_factory=list)
    best: float = -1.0
    """Best goal of a validation so far, and its step."""
    best_step: int = 0
    test_best: float = 0.0
    """Goal of the test at that step."""
    frozen_hash_start: str = ""
    stage_hash: str = ""
    """SHA-256 of what is frozen in this stage, when it began."""
    stages_proven: bool = True
    kept_step: int = 0
    """Step of the weights that early stopping keeps."""
    kept_score: float | None = None
    """Their score by the metric of early stopping, the higher the better."""
    unimproved: int = 0
    """Evaluations since."""
    exact: bool = True
    resumes: int = 0
    seconds: Seconds = dataclasses.field(default_factory=Seconds)

    def restore(self, data: bytes, learner: Learner) -> None:
        """Go on from a snapshot. Raises `CheckpointError` if it belongs to another training."""
        state, meta = checkpoint.unpack(data)
        if meta.pop("trial", None) != self.trial:
            raise checkpoint.CheckpointError(f"the snapshot is not of trial {self.trial}")
        if meta.keys() != {field.name for field in dataclasses.fields(self)} - {"trial"}:
            raise checkpoint.CheckpointError("the snapshot is of another version of layerwise")
        learner.load_state(state)
        is_same = meta.pop("environment") == self.environment
        for phase, spent in meta.pop("seconds").items():
            setattr(self.seconds, phase, getattr(self.seconds, phase) + spent)
        self.curve = [Evaluation(**point) for point in meta.pop("curve")]
        for name, value in meta.items():
            setattr(self, name, value)
        self.exact = self.exact and is_same
        self.resumes += 1

    def enter_stage(self, step: int, learner: Learner) -> None:
        """Begin the stage of a 0-based step, if it is the first one of a stage."""
        if learner.begins_stage(step) and len(learner.stages) > 1:
            if step:
                self.prove_stage(learner)
            learner.enter(step)
            self.stage_hash = learner.stage_hash()

    def prove_stage(self, learner: Learner) -> None:
        """Check at the end of a stage that what it froze is as it was when it began."""
        if self.stage_hash:
            self.stages_proven = self.stages_proven and learner.stage_hash() == self.stage_hash

    def judge(self, validation: Scored, stop: Stop | None, learner: Learner) -> bool:
        """Keep the weights if their score is the best yet; return whether patience is over."""
        if stop is None:
            return False
        score = validation.goal if stop.metric == "val_top1" else -validation.loss
        if self.kept_score is None or score > self.kept_score:
            self.kept_score, self.kept_step, self.unimproved = score, self.step, 0
            learner.keep()
        else:
            self.unimproved += 1
        return self.unimproved >= stop.patience

    def failure(self, validation: Scored, test: Scored | None) -> Failure | None:
        """Return the failure if a loss since the last evaluation is not finite.

        A score that is not a number makes the loss of its set so. The losses of validation and
        test are after the last update.
        """
        first = self.step - len(self.losses)
        losses = [("", step, float(x)) for step, x in enumerate(self.losses, start=first)]
        losses.append(("validation ", self.step, validation.loss))
        losses += [("test ", self.step, test.loss)] if test else []
        for name, step, loss in losses:
            if not math.isfinite(loss):
                return Failure(
                    step=step,
                    error_type="LossNotFinite",
                    message=f"{name}loss is {loss} at step {step}",
                    curve=tuple(self.curve),
                    seconds=self.seconds,
                )
        return None

    def point(self, validation: Scored, rate: float, images: int) -> Evaluation:
        """Add a point to the curve and return it; losses are collected anew for the next point."""
        losses = [float(loss) for loss in self.losses]
        point = Evaluation(
            step=self.step,
            images=images,
            rate=rate,
            train_loss=sum(losses) / len(losses),
            val_loss=validation.loss,
            val_top1=validation.top1,
            val_top5=validation.top5,
            seconds=self.seconds.train,
            val_map50=validation.map50,
        )
        self.curve.append(point)
        self.losses.clear()
        return point

    def pack(self, learner: Learner) -> bytes:
        """Return a snapshot's data."""
        self.losses = [float(loss) for loss in self.losses]
        return checkpoint.pack(learner.state(), dataclasses.asdict(self))


class _Clock:
    """Adds wall time to phases. Time before a `restart`, such as the caller's, is in no phase."""

    def __init__(self, seconds: Seconds, device: torch.device, now: Callable[[], float]):
        self.seconds, self.device, self.now = seconds, device, now
        self.restart()

    def restart(self) -> None:
        self.since = self.now()

    def lap(
        self, phase: Literal["data", "train", "evaluate"], waited: Callable[[], float] = lambda: 0.0
    ) -> None:
        """Add the time since the last lap to a phase, and its `waited` part to `wait` instead."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now, wait = self.now(), waited()
        setattr(self.seconds, phase, getattr(self.seconds, phase) + now - self.since - wait)
        self.seconds.wait += wait
        self.since = now


def _result(
    run: _Progress,
    learner: Learner,
    clock: _Clock,
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
        peak_memory_bytes=_peak_memory(learner.batches.order.device),
    )


def _peak_memory(device: torch.device) -> int:
    """Return the peak of this training on a GPU, or of this process so far on the CPU, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
