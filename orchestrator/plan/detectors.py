"""Detectors of the tasks whose images have objects in boxes, checked against their networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from orchestrator.errors import SweepError
from orchestrator.plan.descriptions import as_mistakes
from orchestrator.plan.tasks import Described, n_outputs
from orchestrator.sweep.inheritance import in_grid
from orchestrator.sweep.schema import Grid, Sweep
from orchestrator.sweep.source import Path, Source
from orchestrator.sweep.transfers import pairs
from trainers.config import DatasetRef, NetworkInfo, NetworkRef
from trainers.detector import Detector
from trainers.recipe import Recipe

Key = tuple[NetworkRef, Detector, DatasetRef]
Detectors = Mapping[Key, NetworkInfo]
Problem = tuple[Path, str]


def detector_of(recipe: Recipe) -> Detector:
    """Return the detector of a recipe for a task of objects."""
    return recipe.detector or Detector()


def detecting(sweep: Sweep, grid: Grid, tasks: Described) -> list[str]:
    """Return the tasks of a grid whose images have objects in boxes."""
    if not sweep.has_directions(grid):
        return []
    names = dict.fromkeys(name for pair in pairs(sweep, grid) for name in pair)
    return [name for name in names if name in tasks and tasks[name][1].has_objects]


def check_detecting(sweep: Sweep, tasks: Described, source: Source) -> None:
    """Raise `SweepError` for keys that do not go with tasks of objects."""
    problems = []
    for name, grid in sweep.parts.items():
        for task in detecting(sweep, grid, tasks):
            problems += [
                (source.nearest(in_grid(name, path, source)), message)
                for path, message in _problems(grid, task)
            ]
    if sweep.measure and _all_detect(sweep, tasks):
        message = "measured are networks that name classes, and all transfers go to detectors"
        problems.append((source.nearest(("measure",)), f"{message}: leave it out"))
    if problems:
        raise SweepError([source.mistake(path, text) for path, text in dict.fromkeys(problems)])


def _all_detect(sweep: Sweep, tasks: Described) -> bool:
    """Return whether every transfer of a sweep goes to a task of objects."""
    return all(
        sweep.has_directions(grid)
        and {target for _, target in pairs(sweep, grid)} <= set(detecting(sweep, grid, tasks))
        for grid in sweep.parts.values()
    )


def _problems(grid: Grid, task: str) -> Iterator[Problem]:
    """Yield keys of a grid that do not go with a task of objects."""
    for index, name in enumerate(grid.treatments):
        if name.startswith("stitched"):
            message = f"the upper layers of {task} are a detector: leave {name} out"
            yield ("treatments", index), message
    for path, recipe in grid.keyed_recipes.items():
        if recipe.crop is not None:
            yield (*path, "crop"), f"a crop would cut the objects of {task}: leave it out"
        if recipe.classifier is not None:
            message = f"images of {task} have several objects each: leave the classifier out"
            yield (*path, "classifier"), message
        if any(stage.images_per_class is not None for stage in recipe.stages):
            message = f"images of {task} have several classes: leave images_per_class out"
            yield (*path, "stages"), message


def describe_detectors(
    sweep: Sweep,
    tasks: Described,
    networks: Iterable[NetworkRef],
    source: Source,
) -> Detectors:
    """Return facts about every network with a detector. Raises `SweepError`.

    A network that has no such backbone is a mistake of `recipe.detector`; so is a layer of the grid
    above the backbone.
    """
    detectors: dict[Key, NetworkInfo] = {}
    for name, grid in sweep.parts.items():
        for task in detecting(sweep, grid, tasks):
            ref, data = tasks[task]
            shape = (grid.form.channels or data.shape[0], *data.shape[1:])
            for path, recipe in grid.keyed_recipes.items():
                detector = detector_of(recipe)
                where = in_grid(name, (*path, "detector", "backbone"), source)
                for network in networks:
                    key = network, detector, ref
                    if key not in detectors:
                        from trainers.detection.heads import describe_detector  # imports torch

                        with as_mistakes(where, sweep.network, source):
                            classes = n_outputs(sweep.tasks[task], data)
                            detectors[key] = describe_detector(network, detector, classes, shape)
                    _check_layers(name, grid, task, detectors[key].depth - 1, source)
    return detectors


def _check_layers(name: str, grid: Grid, task: str, backbone: int, source: Source) -> None:
    """Raise `SweepError` for layers above the backbone of a task's detector."""
    problems = []
    for index, n in enumerate(grid.layers):
        if n > backbone:
            path = source.nearest(in_grid(name, ("layers", index), source))
            message = f"layer {n} is out of range: the detector of {task} sees layers 1..{backbone}"
            problems.append((path, message))
    if problems:
        raise SweepError([source.mistake(path, text) for path, text in dict.fromkeys(problems)])
