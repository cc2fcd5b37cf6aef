"""One network trained once: `for row in train(training, …): …`.

Whoever calls decides where the rows go. They come in the order in which things happen: evaluations,
now and then a snapshot to resume from, and at the end a result or a failure.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import resource
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from trainers import checkpoint
from trainers.batches import READERS, task_data
from trainers.config import Training
from trainers.evaluation import Score
from trainers.learner import Learner
from trainers.schedules import factor

AT_CHANCE = 0.98  # of ln(classes): a training loss that never fell below it has learned nothing
EVALUATIONS = 10  # a training, where the recipe does not say


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Where and how a training runs: recorded with its results, never part of its id.

    `feature_bytes` bounds what is kept of the frozen layers' output (see `Learner`). Byte images of
    up to `whole_bytes` are copied to the device whole (by default, what fits it), others are read
    by `readers` threads while it computes (by default, `threads`, and at least four).
    `data_root` is the dataset's folder, where it is not in the usual place.
    """

    device: str = "cpu"
    threads: int = 1
    checkpoint_seconds: float = 60.0
    feature_bytes: int = 2**28
    whole_bytes: int | None = None
    readers: int | None = None
    data_root: str | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One point of a learning curve. `train_loss` is the mean since the point before."""

    step: int
    images: int
    rate: float
    train_loss: float
    val_loss: float
    val_top1: float
    val_top5: float | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Everything needed to go on from `step` (the number of steps done)."""

    step: int
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Result:
    """A completed training; the test is taken after the last step, `*_best` at `val_best_step`.

    There is no test of a training that is not to be tested.
    """

    steps: int
    images: int
    test: Score | None
    validation: Score
    test_correct_best: int
    val_best: float
    val_best_step: int
    val_mean10: float
    train_loss: float
    at_chance: bool
    frozen_hash_start: str
    frozen_hash_end: str
    curve: tuple[Evaluation, ...]
    checkpoint: bytes
    checkpoint_sha256: str
    exact: bool
    resumes: int
    seconds: Seconds
    peak_memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A training that ended in a loss that is not a number. The same again would end the same.

    `step` counts from 0: so many steps were done before.
    """

    step: int
    error_type: str
    message: str
    curve: tuple[Evaluation, ...]
    seconds: Seconds


@dataclass(kw_only=True)
class Seconds:
    """Wall time by phase, over all attempts. `wait` is what training steps waited for images."""

    data: float = 0.0
    wait: float = 0.0
    train: float = 0.0
    evaluate: float = 0.0


Row = Evaluation | Snapshot | Result | Failure


def train(
    training: Training,
    *,
    parent: bytes | None = None,
    resume: bytes | None = None,
    runtime: Runtime = Runtime(),
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Row, None, None]:
    """Train one network. `parent` is the base's checkpoint, `resume` a `Snapshot`'s data.

    `stop` is asked after every step; once it says yes the last row is a `Snapshot`.
    Raises `NetworkError`, `DataError`, `CheckpointError`; an out-of-memory error passes through.
    Close the iterator, or exhaust it: the threads that read images end then.
    """
    device = _prepare_process(training, runtime)
    recipe, steps = training.recipe, training.recipe.steps
    assert steps is not None
    every = recipe.evaluate_every or math.ceil(steps / EVALUATIONS)
    run = _Progress(trial=training.id, environment=_environment(runtime))
    clock = _Clock(run.seconds, device)

    readers = runtime.readers or max(READERS, runtime.threads)
    data = task_data(
        training,
        device,
        whole_bytes=runtime.whole_bytes,
        readers=readers,
        data_root=runtime.data_root,
    )
    clock.lap("data")
    learner = Learner(training, data, parent, runtime.feature_bytes, readers)
    with contextlib.closing(learner):
        if resume is None:
            run.frozen_hash_start = learner.frozen_hash()
        else:
            run.restore(resume, learner)

        saved, test = time.perf_counter(), None
        for step in range(run.step, steps):
            rate = recipe.rate * factor(recipe.schedule, step, steps)
            run.losses.append(learner.step(step, rate))
            run.step = step + 1
            last = run.step == steps
            if last or run.step % every == 0:
                clock.lap("train", learner.batches.waited)
                validation = learner.score("validation")
                improved = validation.correct > run.best_correct
                if training.tested and (improved or last):
                    test = learner.score("test")
                if improved:
                    run.best_correct, run.best_step = validation.correct, run.step
                    run.test_correct_best = test.correct if test else 0
                clock.lap("evaluate")
                if failure := run.failure(validation):
                    yield failure
                    return
                yield run.point(validation, rate, run.step * learner.batches.order.batch)
                clock.restart()
            stopping = not last and stop()
            if stopping or (not last and time.perf_counter() - saved >= runtime.checkpoint_seconds):
                clock.lap("train", learner.batches.waited)
                yield Snapshot(step=run.step, data=run.pack(learner))
                if stopping:
                    return
                clock.restart()
                saved = time.perf_counter()
        yield _result(run, learner, validation, test)


@dataclass(kw_only=True)
class _Progress:
    """What a snapshot carries beside the weights. `losses` are those since the last evaluation."""

    trial: str
    environment: str
    step: int = 0
    losses: list[Any] = dataclasses.field(default_factory=list)
    curve: list[Evaluation] = dataclasses.field(default_factory=list)
    best_correct: int = -1
    best_step: int = 0
    test_correct_best: int = 0
    frozen_hash_start: str = ""
    exact: bool = True
    resumes: int = 0
    seconds: Seconds = dataclasses.field(default_factory=Seconds)

    def failure(self, validation: Score) -> Failure | None:
        """The failure, if a loss since the last evaluation is not finite.

        What the last update broke shows in the validation loss first.
        """
        losses = [*map(float, self.losses), validation.loss]
        for step, loss in enumerate(losses, start=self.step - len(self.losses)):
            if not math.isfinite(loss):
                return Failure(
                    step=step,
                    error_type="LossNotFinite",
                    message=f"loss is {loss} at step {step}",
                    curve=tuple(self.curve),
                    seconds=self.seconds,
                )
        return None

    def point(self, validation: Score, rate: float, images: int) -> Evaluation:
        """Add a point to the curve, and begin to collect losses for the next."""
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
        )
        self.curve.append(point)
        self.losses.clear()
        return point

    def pack(self, learner: Learner) -> bytes:
        self.losses = [float(loss) for loss in self.losses]
        return checkpoint.pack(learner.state(), dataclasses.asdict(self))

    def restore(self, data: bytes, learner: Learner) -> None:
        """Go on from a snapshot. Raises `CheckpointError` if it is of another training."""
        state, meta = checkpoint.unpack(data)
        if meta.pop("trial", None) != self.trial:
            raise checkpoint.CheckpointError(f"the snapshot is not of trial {self.trial}")
        learner.load_state(state)
        same = meta.pop("environment") == self.environment
        for phase, spent in meta.pop("seconds").items():
            setattr(self.seconds, phase, getattr(self.seconds, phase) + spent)
        self.curve = [Evaluation(**point) for point in meta.pop("curve")]
        for name, value in meta.items():
            setattr(self, name, value)
        self.exact = self.exact and same
        self.resumes += 1


class _Clock:
    """Adds wall time to phases. Time before a `restart` is in none, such as the caller's own."""

    def __init__(self, seconds: Seconds, device: torch.device):
        self.seconds, self.device = seconds, device
        self.restart()

    def restart(self) -> None:
        self.since = time.perf_counter()

    def lap(
        self, phase: Literal["data", "train", "evaluate"], waited: Callable[[], float] = lambda: 0.0
    ) -> None:
        """Add the time since the last lap to a phase, and to `wait` what of it was `waited`."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now, wait = time.perf_counter(), waited()
        setattr(self.seconds, phase, getattr(self.seconds, phase) + now - self.since - wait)
        self.seconds.wait += wait
        self.since = now


def _result(run: _Progress, learner: Learner, validation: Score, test: Score | None) -> Result:
    weights = checkpoint.pack(learner.network.state_dict(), {"trial": run.trial, "steps": run.step})
    chance = AT_CHANCE * math.log(learner.classes)
    best = sorted((point.val_top1 for point in run.curve), reverse=True)[:10]
    return Result(
        steps=run.step,
        images=run.curve[-1].images,
        test=test,
        validation=validation,
        test_correct_best=run.test_correct_best,
        val_best=run.best_correct / validation.total,
        val_best_step=run.best_step,
        val_mean10=sum(best) / len(best),
        train_loss=run.curve[-1].train_loss,
        at_chance=all(point.train_loss > chance for point in run.curve),
        frozen_hash_start=run.frozen_hash_start,
        frozen_hash_end=learner.frozen_hash(),
        curve=tuple(run.curve),
        checkpoint=weights,
        checkpoint_sha256=checkpoint.checksum(weights),
        exact=run.exact,
        resumes=run.resumes,
        seconds=run.seconds,
        peak_memory_bytes=_peak_memory(learner.batches.order.device),
    )


def _prepare_process(training: Training, runtime: Runtime) -> torch.device:
    """Set what is global: processes are reused, so this is done for every training.

    cuDNN would round the factors of float32 convolutions to TF32's 10 bits if it was not told. It
    is told, so that float32 is what it says; who wants the speed asks for `precision: tf32`.
    """
    device = torch.device(runtime.device)
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
    """Settings under which a resumed training is bit-identical."""
    device = torch.device(runtime.device)
    if device.type == "cuda":
        exact = not torch.backends.cuda.matmul.allow_tf32
        name = f"{torch.cuda.get_device_name(device)}, {'exact float32' if exact else 'TF32'}"
    else:
        name = f"cpu {torch.backends.cpu.get_cpu_capability()}"
    return (
        f"torch {torch.__version__}, {name}, {runtime.threads} threads, "
        f"features up to {runtime.feature_bytes} bytes"
    )


def _peak_memory(device: torch.device) -> int:
    """On a GPU this training's peak; on the CPU the largest this process has been so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
