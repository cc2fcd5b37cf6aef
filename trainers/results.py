"""Inputs from the machine and rows of a training: evaluations, snapshots, a result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from trainers.evaluation import Scored


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Machine settings of a training: recorded with its results, never part of its id."""

    device: str = "cpu"
    """torch's name of the device."""
    threads: int = 1
    """Threads that compute on the CPU."""
    checkpoint_seconds: float = 60.0
    """Time between two snapshots."""
    feature_bytes: int = 2**28
    """Largest size of the frozen layers' outputs for all images that is kept in memory."""
    feature_disk_bytes: int = 2**34
    """Largest size of those that are kept in a file, on a CPU (`frozen_features`)."""
    whole_bytes: int | None = None
    """Largest size of byte images that are copied to the device; larger sets are streamed. By
    default as much as fits the device."""
    readers: int | None = None
    """Threads that read streamed images; by default `threads`, and at least four."""
    data_root: str | None = None
    """Folder of the dataset, if it is not the usual one."""
    source_root: str | None = None
    """Folder of the source's dataset, if it is not the usual one."""
    in_lanes: bool = False
    """True if the training is computed together with others (`trainers/lanes/`)."""
    clock: Callable[[], float] = time.perf_counter
    """Returns the seconds of this training; in a pack, its share of them."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One point of a learning curve."""

    step: int
    """Steps done."""
    images: int
    """Training images seen, repeats counted."""
    rate: float
    """Learning rate of the last step."""
    train_loss: float
    """Mean loss per image since the point before."""
    val_loss: float
    val_top1: float | None
    """Null for a detector."""
    val_top5: float | None
    seconds: float
    """Wall time of training steps until now."""
    val_map50: float | None = None
    """mAP at an overlap of 0.5; of a detector only."""

    @property
    def goal(self) -> float:
        """Number by which validation images choose: top-1, or the mAP of a detector."""
        goal = self.val_top1 if self.val_map50 is None else self.val_map50
        assert goal is not None
        return goal


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All that a training needs to go on after `step` steps."""

    step: int
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Result:
    """A completed training."""

    steps: int
    """Steps done; fewer than the recipe's if it stopped early."""
    kept_step: int | None
    """Step whose weights early stopping kept: all scores are theirs. None for other trainings."""
    choice: float | None
    """Setting of a classifier on features that the validation images chose; None for others."""
    feature_values: int | None
    """Numbers per image that a classifier on features sees; None for other trainings."""
    features_in: str | None
    """Place of these features, `memory` or `disk`; None for other trainings."""
    cached_layers: int
    """Frozen layers that were computed once per image, before the first step."""
    shared_forward: bool
    """True if other lanes used the same pass through the frozen layers at each step."""
    images: int
    """Training images seen, repeats counted."""
    test: Scored | None
    """Score after the last step; None for a training that is not tested."""
    validation: Scored
    """Score after the last step."""
    training: Scored
    """Score after the last step on training images, at most as many as there are test images."""
    test_best: float
    """Test top-1, or mAP of a detector, at `val_best_step`; 0 for a training that is not tested."""
    val_best: float
    """Best validation top-1, or mAP of a detector, of all evaluations."""
    val_best_step: int
    """Step of that evaluation, the first if there are several."""
    val_mean10: float
    """Mean of the ten best validation top-1 (the paper's metric), or mAP of a detector."""
    train_loss: float
    """Mean training loss between the last two evaluations."""
    at_chance: bool
    """True if neither the training loss nor the accuracy shows that anything was learned.

    See `trainers.chance`. The accuracy is that of the test, or of the validation without a test.
    """
    frozen_hash_start: str
    """SHA-256 of all that is frozen, before the first step; empty if nothing is."""
    frozen_hash_end: str
    """The same after the last step."""
    stages_proven: bool
    """True if in every stage what it froze stayed as it was."""
    curve: tuple[Evaluation, ...]
    checkpoint: bytes
    checkpoint_sha256: str
    exact: bool
    """True if every resume was under equal settings, so that the numbers are exact."""
    resumes: int
    """Times that the training went on from a snapshot."""
    seconds: Seconds
    peak_memory_bytes: int
    """Peak of the GPU's memory, or of the process on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A training whose loss is not finite. The same training would end the same again."""

    step: int
    """Steps done before the one that failed."""
    error_type: str
    message: str
    curve: tuple[Evaluation, ...]
    seconds: Seconds


@dataclass(kw_only=True)
class Seconds:
    """Wall time by phase, over all attempts."""

    data: float = 0.0
    """Loading data."""
    wait: float = 0.0
    """Training steps that waited for images."""
    train: float = 0.0
    """Training steps, without `wait`."""
    evaluate: float = 0.0
    """Evaluations."""


Row = Evaluation | Snapshot | Result | Failure
