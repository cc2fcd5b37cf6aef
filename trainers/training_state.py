"""State of a training beside its network, as a snapshot holds it, and the time of its phases."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from trainers import checkpoint
from trainers.evaluation import Scored
from trainers.learner import Learner
from trainers.recipe import Stop
from trainers.results import Evaluation, Failure, Seconds


@dataclass(kw_only=True)
class TrainingState:
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


class Clock:
    """Adds wall time to phases. Time before a `restart`, such as the caller's, is in no phase."""

    def __init__(self, seconds: Seconds, device: torch.device, now: Callable[[], float]):
        self.seconds, self.device, self.now = seconds, device, now
        self.restart()

    def restart(self) -> None:
        """Begin a lap now."""
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
