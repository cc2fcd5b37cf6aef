"""The network whose outputs are features, and the task of the images that it sees. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.errors import LayerwiseError
from orchestrator.plan.directions import ALL
from orchestrator.plan.filter import find
from orchestrator.plan.plan import Plan
from orchestrator.plan.tasks import task_of
from orchestrator.plan.trial import Trial
from orchestrator.plan.weights import WeightsParent
from trainers.canonical import ConfigError
from trainers.config import NetworkRef, Task, TaskForm, Training
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
    training, source_root = trial.training, trial.source_root
    images = _Images(training.target, _name_of_task(trial), trial.data_root)
    if task is not None:
        images = _images(plan, task, trial, trial.division)
    if images.task != training.target:
        seen = training.source or training.target  # what normalises by the source's images
        source_root = trial.source_root if training.source else trial.data_root
        training = dataclasses.replace(training, target=images.task, source=seen)
    return Origin(
        name=trial.name,
        id=trial.id,
        classes=len(trial.training.target.labels),
        training=training,
        task=images.name,
        trial=trial,
        data_root=images.root,
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
    copy = copies[0]
    images = _images(plan, task, copy, f"weights {weights.name} to {task}")
    training = dataclasses.replace(copy.training, target=images.task, network=weights.network)
    return Origin(
        name=weights.name,
        id=weights.id,
        classes=len(copy.training.target.labels),
        training=training,
        task=images.name,
        trial=copy,
        data_root=images.root,
        source_root=images.root,
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


class _Images(NamedTuple):
    """The images of a task."""

    task: Task
    name: str
    root: str | None
    """Folder of the dataset."""


def _images(plan: Plan, name: str, own: Trial, division: str) -> _Images:
    """Return the images of a task, normalised as the images of a network's own task.

    The name is `B s2`, `mnist`, or `mnist d1` for a draw. Of several samples it is the largest one,
    of the same split or draw and direction if possible, since there the images have the same form.
    """
    images = _of_members(plan, name, own.split, division) or _of_declared(plan, name, own)
    if images is None:
        known = [_name_of_task(x) for x in plan.members]
        raise LayerwiseError(_unknown(plan, name, [*known, *plan.sweep.tasks]))
    form = own.training.target.form
    form = dataclasses.replace(
        images.task.form, mean=form.mean, deviation=form.deviation, range=form.range
    )
    return images._replace(task=dataclasses.replace(images.task, form=form))


def _of_members(plan: Plan, name: str, split: str, division: str) -> _Images | None:
    """Return the images of a task that a network of the plan is trained on, if one is."""

    def fitness(trial: Trial) -> tuple[bool, bool, int]:
        target = trial.training.target
        images = training_images(target, plan.datasets[target.dataset])
        return trial.split == split, trial.division == division, images

    trial = max(plan.of_task.get(name, []), key=fitness, default=None)
    if trial is None:
        return None
    return _Images(trial.training.target, _name_of_task(trial), trial.data_root)


def _of_declared(plan: Plan, name: str, own: Trial) -> _Images | None:
    """Return the images of a task under `tasks` that no grid uses, in the form of the grids."""
    plain, _, seed = name.partition(" d")
    declared = plan.sweep.tasks.get(plain)
    draws = {str(draw): draw for draw in declared.draws} if declared else {}
    if declared is None or (seed and seed not in draws):
        return None
    grids = [grid for grid in plan.sweep.parts.values() if plan.sweep.has_directions(grid)]
    forms = list(dict.fromkeys(grid.form for grid in grids)) or [TaskForm()]
    draw = draws[seed] if seed else next(iter(declared.draws), None)
    ref, data = plan.tasks[plain]
    target = own.training.target
    try:
        task = task_of(declared, ref, data, forms[0], draw=draw)
        from trainers.forms import shape_of  # imports torch

        shapes = [shape_of(one.form, plan.datasets[one.dataset].shape) for one in (task, target)]
    except ConfigError as error:
        raise LayerwiseError(f"task {plain}: {error}") from error
    if len(forms) > 1 or shapes[0] != shapes[1]:
        seen, expected = ("×".join(map(str, shape)) for shape in shapes)
        raise LayerwiseError(
            f"no grid uses {plain}, whose images are {seen}, and {own.name} sees {expected}: bring "
            "both to one form, the same in all grids (form.size, form.channels)"
        )
    suffix = "" if task.draw is None else f" d{task.draw}"
    return _Images(task, f"{plain}{suffix}", declared.dataset.root)


def _name_of_task(trial: Trial) -> str:
    return trial.target if trial.split == ALL else f"{trial.target} {trial.split}"


def _unknown(plan: Plan, task: str, known: Iterable[str]) -> str:
    names = list(dict.fromkeys(known))
    near = hint(task, names) or f"; expected one of {', '.join(names)}"
    return f"no task {task!r} in sweep {plan.sweep.name}{near}"
