"""Named tasks of a sweep: their classes, their samples, and the form of their images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from orchestrator.errors import SweepError
from orchestrator.plan.batches import too_large
from orchestrator.plan.weights import form_of
from orchestrator.sweep.inheritance import in_grid
from orchestrator.sweep.schema import Grid, Sweep
from orchestrator.sweep.source import Path as KeyPath
from orchestrator.sweep.source import Source
from orchestrator.sweep.tasks import NamedTask
from orchestrator.sweep.transfers import pairs
from trainers.canonical import ConfigError
from trainers.config import DatasetInfo, DatasetRef, Task, TaskForm
from trainers.splits import indices_of
from trainers.tasks import class_sizes

Described = Mapping[str, tuple[DatasetRef, DatasetInfo]]  # datasets of the tasks by name
Shape = tuple[int, int, int]


def classes_of(task: NamedTask, data: DatasetInfo) -> tuple[int, ...]:
    """Return the class indices of a task, in the order of its outputs. Raises `ConfigError`."""
    if task.classes is None:
        return tuple(range(len(data.classes)))
    return indices_of("classes", task.classes, data.classes)


def n_outputs(task: NamedTask, data: DatasetInfo) -> int:
    """Return the number of classes of a task."""
    return len(classes_of(task, data))


def task_of(
    task: NamedTask,
    dataset: DatasetRef,
    data: DatasetInfo,
    form: TaskForm,
    *,
    draw: int | None,
    images_per_class: int | None = None,
) -> Task:
    """Return one draw of a named task. `images_per_class` replaces the limit that the task has.

    A sample of all images has neither a limit nor a draw: all of its draws are one task. Images of
    objects keep the size that their dataset gives them.
    """
    if data.has_objects:
        form = of_objects(form)
    classes = classes_of(task, data)
    limit, total = task.images_per_class, task.images
    if images_per_class is not None:
        limit, total = images_per_class, None
    if limit is not None and limit >= max(data.train[index] for index in classes):
        limit = None
    if total is not None and total >= sum(data.train[index] for index in classes):
        total = None
    return Task(
        dataset=dataset,
        classes=classes,
        images_per_class=limit,
        images=total,
        balanced=task.balanced or total is None,
        draw=draw if limit is not None or total is not None else None,
        form=normal_form(form, data.shape),
    )


def of_objects(form: TaskForm) -> TaskForm:
    """Return the part of a form that concerns images of objects in boxes: all but their size."""
    return dataclasses.replace(form, size=None, fit="squash")


def normal_form(form: TaskForm, stored: Shape) -> TaskForm:
    """Return a form without the rules that images of shape `stored` do not need.

    Forms that give equal images become equal, and so do the ids of their trainings.
    """
    channels, height, width = stored
    changed = form.channels not in (None, channels)
    is_colour = channels != 1
    form = dataclasses.replace(
        form,
        channels=form.channels if changed else None,
        grey_to_colour=form.grey_to_colour if changed and not is_colour else None,
        colour_to_grey=form.colour_to_grey if changed and is_colour else None,
    )
    if form.size == height == width:
        return dataclasses.replace(form, size=None, fit="squash")
    return form


def check_tasks(sweep: Sweep, tasks: Described, source: Source) -> None:
    """Raise `SweepError` for tasks that do not fit their datasets or their recipes."""
    problems = [
        source.mistake(source.nearest(("tasks", name, key)), message)
        for name, task in sweep.tasks.items()
        for key, message in _problems(name, task, *tasks[name])
    ]
    if problems:
        raise SweepError(problems)
    for name, grid in sweep.parts.items():
        if sweep.has_directions(grid):
            _check_batches(sweep, name, grid, tasks, source)


def _problems(
    name: str, task: NamedTask, dataset: DatasetRef, data: DatasetInfo
) -> Iterator[tuple[str, str]]:
    """Yield key and message of what is wrong with one task."""
    try:
        classes = classes_of(task, data)
    except ConfigError as error:
        yield "classes", str(error)
        return
    if data.has_objects and task.classes is not None:
        yield "classes", "a detector learns all classes of its dataset: leave classes out"
        return
    if len(classes) < 2 and not data.has_objects:
        yield "classes", f"expected at least two classes, found {len(classes)}"
        return
    for subset in ("train", "validation", "test"):
        counts = getattr(data, subset)
        if empty := [data.classes[index] for index in classes if not counts[index]]:
            yield "classes", f"class {empty[0]} has no {subset} images: leave it out of classes"
    is_limited = (task.images, task.images_per_class) != (None, None)
    first = task_of(task, dataset, data, TaskForm(), draw=0)
    if len(task.draws) > 1 and is_limited and first.draw is None:
        most = max(data.train[index] for index in classes)
        message = f"the draws are equal: no class has more than {most} images, and all are used"
        yield "draws", f"{message}; lower images_per_class or images"
    for draw in task.draws or (None,):
        chosen = task_of(task, dataset, data, TaskForm(), draw=draw)
        sizes = class_sizes(chosen, dict(enumerate(data.train))) or {}
        of_draw = "" if draw is None else f"draw {draw} of "
        if empty := [data.classes[index] for index, size in sizes.items() if not size]:
            way_out = "raise images" if task.balanced else "raise images, or use balanced: true"
            message = f"{of_draw}{name} leaves class {empty[0]} without a training image: {way_out}"
            yield "images", message
        elif chosen.images is not None and sum(sizes.values()) < chosen.images:
            index = min(classes, key=lambda i: data.train[i])
            message = (
                f"{chosen.images} images cannot be shared out equally: class {data.classes[index]} "
                f"has {data.train[index]}; lower images, or use balanced: false"
            )
            yield "images", message
            return


def _check_batches(
    sweep: Sweep, grid_name: str, grid: Grid, tasks: Described, source: Source
) -> None:
    """Raise `SweepError` if a task has fewer images to train on than a batch."""
    limits: dict[str, list[int | None]] = {}
    for origin, target in pairs(sweep, grid):
        if origin in tasks:
            limits.setdefault(origin, []).append(None)
        limits.setdefault(target, []).extend(grid.images_per_class)
    for name, of_task in limits.items():
        for limit in of_task:
            task = sweep.tasks[name]
            draw = next(iter(task.draws), None)
            ref, data = tasks[name]
            chosen = task_of(task, ref, data, TaskForm(), draw=draw, images_per_class=limit)
            suffix = "" if limit is None else f" with {limit} per class"
            if problem := too_large(grid, chosen, data, f"{name}{suffix}"):
                path, message = problem
                raise SweepError([source.mistake(in_grid(grid_name, path, source), message)])


def form_shape(
    sweep: Sweep,
    grid: Grid,
    grid_name: str,
    tasks: Described,
    forms: Mapping[str, TaskForm],
    source: Source,
) -> Shape:
    """Return the shape (C, H, W) in which the networks of a grid see all of its tasks.

    Images of objects may have another size: no layer above the backbone sees them. `forms` has the
    normalisation of each file of weights. Raises `SweepError` if a form does not fit a dataset, or
    leaves two tasks in different shapes.
    """
    from trainers.forms import shape_of

    seen = {
        (name, form_of(grid.form, forms.get(pair[0]))): None
        for pair in pairs(sweep, grid)
        for name in pair
        if name in tasks
    }
    shapes: dict[str, Shape] = {}
    for name, form in seen:
        try:
            data = tasks[name][1]
            fitting = of_objects(form) if data.has_objects else form
            channels, height, width = shape_of(fitting, data.shape)
        except ConfigError as error:
            path: KeyPath = in_grid(grid_name, ("form", error.field), source)
            message = f"task {name}: {error}"
            raise SweepError([source.mistake(source.nearest(path), message)]) from error
        shapes[name] = (channels, height, width)
    first = next((name for name in shapes if not tasks[name][1].has_objects), next(iter(shapes)))
    for name, shape in shapes.items():
        same = slice(1) if tasks[name][1].has_objects else slice(3)
        if shape[same] != shapes[first][same]:
            one, other = ("×".join(map(str, x)) for x in (shapes[first], shape))
            key = "channels" if shape[0] != shapes[first][0] else "size"
            message = (
                f"{first} has images {one}, and {name} has {other}: "
                f"bring both to one form with form.{key}"
            )
            path = in_grid(grid_name, ("form",), source)
            raise SweepError([source.mistake(source.nearest(path), message)])
    return shapes[first]
