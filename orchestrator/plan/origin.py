"""The network whose outputs are features, and the task of the images that it sees. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.errors import LayerwiseError
from orchestrator.plan.directions import ALL
from orchestrator.plan.filter import find
from orchestrator.plan.plan import Plan
from orchestrator.plan.trial import Trial
from orchestrator.plan.weights import WeightsParent
from trainers.config import NetworkRef, Training
from trainers.spelling import hint
from trainers.tasks import training_images


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A network, and the images that it is to see."""

    name: str
    """Name of the trial or of the file of weights."""
    id: str
    """Id of the trial or of the file of weights."""
    classes: int
    """Outputs of the network."""
    training: Training
    """Training whose network it is, whose target gives the images, and whose recipe and source
    normalise them."""
    task: str
    """Name of the task of the images: `B s2`, `mnist` or `mnist d1`."""
    trial: Trial
    """Trial that lends request and folders of datasets."""
    data_root: str | None
    source_root: str | None

    @property
    def network(self) -> NetworkRef:
        return self.training.network


def origin(plan: Plan, name: str, task: str | None = None) -> Origin:
    """Return the origin of features: a trial, or a file of weights that a grid copies.

    `task` is `B s2`, the name of a task, or None for the trial's own. Raises `LayerwiseError` for
    an unknown name, and for a trial without a network of its own.
    """
    for weights in plan.weights.values():
        if weights.name == name:
            return origin_of_weights(plan, weights, task)
    if name in plan.sweep.weights:
        raise LayerwiseError(f"no grid of sweep {plan.sweep.name} copies from {name}: add one")
    return origin_of_trial(plan, find(plan, name), task)


def origin_of_trial(plan: Plan, trial: Trial, task: str | None) -> Origin:
    """Return the origin of a trial. Raises `LayerwiseError` as `origin` does."""
    if reason := without_network(trial):
        raise LayerwiseError(f"{trial.name} is {reason}")
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
        classes=len(trial.training.target.labels),
        training=training,
        task=_name_of_task(images),
        trial=trial,
        data_root=images.data_root,
        source_root=source_root,
    )


def origin_of_weights(plan: Plan, weights: WeightsParent, task: str | None) -> Origin:
    """Return the origin of a file of weights. Raises `LayerwiseError` as `origin` does."""
    copies = [trial for trial in plan.members if trial.parent == weights.id]
    targets = dict.fromkeys(trial.target for trial in copies)
    if task is None and len(targets) > 1:
        named = ", ".join(targets)
        raise LayerwiseError(f"{weights.name} is copied to {named}: name one with --task")
    if task is None:
        task = next(iter(targets))
    images = _of_task(plan, task, copies[0].split, f"weights {weights.name} to {task}")
    return Origin(
        name=weights.name,
        id=weights.id,
        classes=len(copies[0].training.target.labels),
        training=dataclasses.replace(
            copies[0].training, target=images.training.target, network=weights.network
        ),
        task=_name_of_task(images),
        trial=copies[0],
        data_root=images.data_root,
        source_root=images.data_root,
    )


def without_network(trial: Trial) -> str:
    """Return what a trial without a network of its own is, and the way out; else nothing."""
    training = trial.training
    if training.treatment.kind == "pixels":
        return "a classifier on pixels, without a network"
    if training.recipe.classifier:
        return "a classifier on the features of its base: name the base"
    if training.recipe.detector:
        return "a detector: name the base that its layers are of"
    if training.treatment.is_stitched:
        return "stitched from layers of bases: name a base"
    return ""


def _name_of_task(trial: Trial) -> str:
    return trial.target if trial.split == ALL else f"{trial.target} {trial.split}"


def _of_task(plan: Plan, task: str, split: str, division: str) -> Trial:
    """Return a trial whose target is the task: `B s2`, `mnist`, or `mnist d1` for a draw.

    Of several samples it is the largest one, of the same split or draw and direction if possible,
    since there the images have the same form.
    """
    trials = plan.of_task.get(task, [])
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
