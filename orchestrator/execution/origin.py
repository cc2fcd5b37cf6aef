"""The network whose outputs are features, and the task of the images that it sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.errors import LayerwiseError
from orchestrator.plan.filter import find
from orchestrator.plan.plan import Plan
from orchestrator.plan.trial import Trial
from orchestrator.plan.weights import WeightsParent
from orchestrator.states import State
from orchestrator.store.store import Store
from trainers.canonical import ConfigError
from trainers.checkpoint import CheckpointError, checksum
from trainers.config import NetworkRef, Training
from trainers.spelling import hint
from trainers.tasks import training_images

if TYPE_CHECKING:
    from trainers.results import Runtime


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Weights, the network that they belong to, and the images that the network is to see."""

    name: str
    """Name of the trial or of the file of weights."""
    id: str
    weights: bytes = field(repr=False)
    sha256: str
    network: NetworkRef
    classes: int
    """Outputs of the network."""
    training: Training
    """Training whose target gives the images, and whose recipe and source normalise them."""
    trial: Trial
    """Trial that lends request and folders of datasets."""
    data_root: str | None
    source_root: str | None

    def runtime(self) -> Runtime:
        """Return device, threads and folders for a pass over the images."""
        return _runtime(self.trial, self.data_root, self.source_root)


def origin(
    plan: Plan, name: str, task: str | None, store: Store, *, layers: int | None = None
) -> Origin:
    """Return the origin of features: a complete trial, or a file of weights that a grid copies.

    `task` is `B s2`, the name of a task, or None for the trial's own. A trial that never changes
    its first `layers` layers needs no weights in the store: these layers are those of its base, or
    random. Raises `LayerwiseError` for an unknown name, and for a trial without weights.
    """
    declared = plan.sweep.weights.keys()
    for weights in plan.weights.values():
        if weights.name == name:
            return _of_weights(plan, weights, task)
    if name in declared:
        raise LayerwiseError(f"no grid of sweep {plan.sweep.name} copies from {name}: add one")
    return _of_trial(plan, find(plan, name), task, store, layers)


def _of_trial(
    plan: Plan, trial: Trial, task: str | None, store: Store, layers: int | None
) -> Origin:
    _require_network(trial)
    try:
        sha256, weights = _checkpoint(trial, store)
    except LayerwiseError:
        unchanged = layers and _unchanged(plan, trial, store, layers)
        if not unchanged:
            raise
        sha256, weights = checksum(unchanged), unchanged
    training, images = trial.training, trial
    source_root = trial.source_root
    if task is not None:
        images = _of_task(plan, task, trial.split, trial.division)
    if images.training.target != training.target:
        seen = training.source or training.target  # what normalises by the source's images
        source_root = trial.source_root if training.source else trial.data_root
        training = dataclasses.replace(training, target=images.training.target, source=seen)
    return Origin(
        name=trial.name,
        id=trial.id,
        weights=weights,
        sha256=sha256,
        network=trial.training.network,
        classes=len(trial.training.target.labels),
        training=training,
        trial=trial,
        data_root=images.data_root,
        source_root=source_root,
    )


def _of_weights(plan: Plan, weights: WeightsParent, task: str | None) -> Origin:
    copies = [trial for trial in plan.members if trial.parent == weights.id]
    targets = dict.fromkeys(trial.target for trial in copies)
    if task is None and len(targets) > 1:
        named = ", ".join(targets)
        raise LayerwiseError(f"{weights.name} is copied to {named}: name one with --task")
    if task is None:
        task = next(iter(targets))
    images = _of_task(plan, task, copies[0].split, f"weights {weights.name} to {task}")
    training = dataclasses.replace(copies[0].training, target=images.training.target)
    return Origin(
        name=weights.name,
        id=weights.id,
        weights=weights.data,
        sha256=weights.sha256,
        network=weights.network,
        classes=len(copies[0].training.target.labels),
        training=training,
        trial=copies[0],
        data_root=images.data_root,
        source_root=images.data_root,
    )


def _of_task(plan: Plan, task: str, split: str, division: str) -> Trial:
    """Return a trial whose target is the task: `B s2`, `mnist`, or `mnist d1` for a draw.

    Of several samples it is the largest one, of the same split or draw and direction if possible,
    since there the images have the same form.
    """
    trials = [x for x in plan.members if task in (x.target, f"{x.target} {x.split}")]
    if not trials:
        named = any(x.target in plan.sweep.tasks for x in plan.members)
        known = [x.target if named else f"{x.target} {x.split}" for x in plan.members]
        raise LayerwiseError(_unknown(plan, task, known))

    def fitness(trial: Trial) -> tuple[bool, bool, int]:
        target = trial.training.target
        images = training_images(target, plan.datasets[target.dataset])
        return trial.split == split, trial.division == division, images

    return max(trials, key=fitness)


def _unknown(plan: Plan, task: str, known: Iterable[str]) -> str:
    names = list(dict.fromkeys(known))
    near = hint(task, names) or f"; expected one of {', '.join(names)}"
    return f"no task {task!r} in sweep {plan.sweep.name}{near}"


def _require_network(trial: Trial) -> None:
    """Raise `LayerwiseError` for a trial that has no network of its own."""
    if trial.training.treatment.kind == "pixels":
        raise LayerwiseError(f"{trial.name} is a classifier on pixels, without a network")
    if trial.training.recipe.classifier:
        raise LayerwiseError(
            f"{trial.name} is a classifier on the features of its base: name the base"
        )
    if trial.training.recipe.detector:
        raise LayerwiseError(f"{trial.name} is a detector: name the base that its layers are of")
    if trial.training.treatment.is_stitched:
        raise LayerwiseError(f"{trial.name} is stitched from layers of bases: name a base")


def _checkpoint(trial: Trial, store: Store) -> tuple[str, bytes]:
    """Return SHA-256 and content of a trial's checkpoint. Raises `LayerwiseError`."""
    row = store.row(trial.id, (State.COMPLETE,))
    if row is None:
        raise LayerwiseError(
            f"{trial.name} is not complete in {store.root}; train it with: layerwise run "
            f"{trial.argument} --only \"id = '{trial.id}'\""
        )
    try:
        return row["checkpoint"], store.get_checkpoint(trial.id, row["checkpoint"])
    except CheckpointError as error:
        raise LayerwiseError(
            f"{trial.name}: {error}; `keep: all` keeps the weights of every trial"
        ) from error


def _unchanged(plan: Plan, trial: Trial, store: Store, layers: int) -> bytes | None:
    """Return the weights of layers that a frozen trial never changes, if its base has weights."""
    from trainers.datasets import DataError
    from trainers.features import unchanged_weights
    from trainers.networks import NetworkError

    if not trial.training.treatment.frozen:
        return None
    try:
        parent = None
        if trial.parent is not None:
            given = plan.weights.get(trial.parent)
            parent = given.data if given else _checkpoint(plan.trials[trial.parent], store)[1]
        runtime = _runtime(trial, trial.data_root, trial.source_root)
        return unchanged_weights(trial.training, parent, layers, runtime)
    except (LayerwiseError, ConfigError, DataError, NetworkError, CheckpointError):
        return None  # the error of the trial's own weights says what is missing


def _runtime(trial: Trial, data_root: str | None, source_root: str | None) -> Runtime:
    from trainers.results import Runtime

    return Runtime(
        device="cuda" if trial.request.gpu else "cpu",
        threads=max(1, int(trial.request.cpu)),
        data_root=data_root,
        source_root=source_root,
    )
