"""`ResolvedSweep`: a sweep with its data, networks and splits, checked against each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.errors import SweepError
from orchestrator.plan.descriptions import (
    Shape,
    as_mistakes,
    check_names,
    check_stitches,
    declared_adaptation,
    describe_dataset,
    describe_network,
)
from orchestrator.plan.detectors import (
    Detectors,
    check_detecting,
    describe_detectors,
    detector_of,
)
from orchestrator.plan.splits import SplitError, checked_splits, halves_of
from orchestrator.plan.tasks import Described, check_tasks, form_shape, n_outputs
from orchestrator.plan.weights import WeightsParent, normalisation, read_weights, used
from orchestrator.sweep.inheritance import in_grid
from orchestrator.sweep.schema import Grid, Sweep
from orchestrator.sweep.source import Path as KeyPath
from orchestrator.sweep.source import Source
from orchestrator.sweep.transfers import pairs
from trainers.config import Adaptation, DatasetInfo, DatasetRef, NetworkInfo, NetworkRef, TaskForm
from trainers.recipe import covered
from trainers.spelling import hint
from trainers.splits import Split


@dataclass(frozen=True, kw_only=True)
class ResolvedSweep:
    """A sweep with all that planning must know of its data, its networks and its splits."""

    sweep: Sweep
    source: Source
    dataset: DatasetRef
    """Dataset of the halves. Without halves, that of the first task."""
    data: DatasetInfo
    network: NetworkRef
    """Network of the sources."""
    target: NetworkRef
    """Network of the targets; the same, unless the sweep has a `target_network`."""
    adapt: Adaptation
    """Declared differences of the two networks."""
    networks: dict[NetworkRef, NetworkInfo]
    parts: tuple[tuple[Grid, tuple[Split, ...]], ...]
    """The grids with their splits; a grid of named tasks has none."""
    tasks: Mapping[str, tuple[DatasetRef, DatasetInfo]] = field(default_factory=dict)
    """Datasets of the named tasks."""
    classes: int = 2
    """Outputs of the largest head."""
    shape: Shape = (1, 1, 1)
    """Shape (C, H, W) of the images that the first recipe's networks see."""
    forms: Mapping[str, TaskForm] = field(default_factory=dict)
    """Normalisation of each file of weights, by name."""
    weights: Mapping[str, WeightsParent] = field(default_factory=dict)
    """Files of weights that are sources, by name."""
    detectors: Detectors = field(default_factory=dict)
    """Networks with a detector, for tasks of objects."""

    def depth(self, grid: Grid, *names: str) -> int:
        """Return the number of layers of the shallowest network of these tasks in a grid."""
        depths = [self.layers.depth]
        for ref, data in (self.tasks[name] for name in names if name in self.tasks):
            if data.has_objects:
                detectors = [detector_of(recipe) for recipe in grid.recipes]
                depths += [self.detectors[self.target, x, ref].depth for x in detectors]
        return min(depths)

    @property
    def layers(self) -> NetworkInfo:
        """Layers of the targets' network."""
        return self.networks[self.target]

    @property
    def refs(self) -> dict[KeyPath, DatasetRef]:
        """The datasets by the keys that name them."""
        named = {("tasks", name, "dataset"): ref for name, (ref, _) in self.tasks.items()}
        return named | ({("dataset",): self.dataset} if self.sweep.dataset else {})

    @property
    def datasets(self) -> dict[DatasetRef, DatasetInfo]:
        """All datasets, each once."""
        return {self.dataset: self.data} | dict(self.tasks.values())

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits of all grids, each once."""
        return tuple(dict.fromkeys(split for _, splits in self.parts for split in splits))


def resolve(sweep: Sweep, source: Source) -> ResolvedSweep:
    """Describe the datasets and the networks of a sweep, and check the sweep against them.

    Raises `SweepError` for an unknown name, a wrong option, and for classes, layers, batch sizes or
    crops that do not fit. Downloads the dataset if the sweep says so.
    """
    check_names(sweep, source)
    described = {
        path: describe_dataset(component, path, source)
        for path, component in sweep.datasets.items()
    }
    dataset, data = described.get(("dataset",)) or next(iter(described.values()))
    tasks = {name: described["tasks", name, "dataset"] for name in sweep.tasks}
    if data.has_objects and sweep.dataset is not None:
        message = f"{dataset.name} has objects in boxes, which make no halves: name it under tasks"
        raise SweepError([source.mistake(source.nearest(("dataset", "name")), message)])
    parts = tuple(
        (grid, ())
        if sweep.has_directions(grid)
        else (grid, _splits(name, grid, dataset, data, source))
        for name, grid in sweep.parts.items()
    )
    splits = [split for _, splits in parts for split in splits]
    _check_distinct(splits, source)
    check_tasks(sweep, tasks, source)
    check_detecting(sweep, tasks, source)
    forms = {name: normalisation(sweep, name, source) for name in used(sweep)}
    shapes = _image_shapes(sweep, data, tasks, forms, source)
    outputs = [n_outputs(task, tasks[name][1]) for name, task in sweep.tasks.items()]
    n_classes = max([*map(_n_outputs, splits), *outputs])
    network, layers = describe_network("network", sweep, n_classes, shapes, source)
    target, adapt, networks = network, Adaptation(), {network: layers}
    if sweep.target_network is not None:
        target, layers = describe_network("target_network", sweep, n_classes, shapes, source)
        networks[target] = layers
        adapt = declared_adaptation(sweep, network, target, n_classes, next(iter(shapes)), source)
    detectors = describe_detectors(sweep, tasks, networks, source)
    splits_of = {name: splits for name, (_, splits) in zip(sweep.parts, parts, strict=True)}
    _check_layers(sweep, layers, list(_unlike_heads(sweep, splits_of, tasks)), source)
    check_stitches(sweep, networks[network], layers, source)
    _check_learning(sweep, target, n_classes, next(iter(shapes)), source)
    weights = read_weights(sweep, network, n_classes, next(iter(shapes)), source)
    return ResolvedSweep(
        sweep=sweep,
        source=source,
        dataset=dataset,
        data=data,
        network=network,
        target=target,
        adapt=adapt,
        networks=networks,
        parts=parts,
        tasks=tasks,
        classes=n_classes,
        shape=next(iter(shapes)),
        forms=forms,
        weights=weights,
        detectors=detectors,
    )


def find_data(sweep: Sweep, source: Source) -> None:
    """Load the images on this machine, as each worker will. Raises `SweepError`.

    `resolve` needs no images of a known dataset. Without this check every trial would fail.
    """
    from trainers import datasets

    for path, component in sweep.datasets.items():
        ref, _ = describe_dataset(component, path, source)
        with as_mistakes(path, component, source):
            datasets.load(ref, component.root)


def _splits(
    name: str, grid: Grid, dataset: DatasetRef, data: DatasetInfo, source: Source
) -> tuple[Split, ...]:
    try:
        return checked_splits(grid, dataset, data)
    except SplitError as error:
        raise SweepError([source.mistake(in_grid(name, error.path, source), str(error))]) from error


def _check_distinct(splits: list[Split], source: Source) -> None:
    """Raise `SweepError` for one division under two names, or two divisions under one name.

    Intervals would count the first division twice, and would mix the two of the second case.
    """
    names: dict[frozenset[tuple[int, ...]], str] = {}
    by_name: dict[str, Split] = {}
    for split in splits:
        name = names.setdefault(halves_of(split), split.name)
        if name != split.name:
            message = (
                f"{name} and {split.name} are the same halves: intervals would count them twice"
            )
            raise SweepError([source.mistake(("splits",), message)])
        if (other := by_name.setdefault(split.name, split)) != split:
            message = f"two grids call different halves {split.name}"
            if halves_of(other) == halves_of(split):
                message = f"{split.name} is drawn in one grid and not in another"
            raise SweepError([source.mistake(("grids",), message)])


def _n_outputs(split: Split) -> int:
    """Classes of the larger half. A single class is trained against the rest: two outputs."""
    return max(2, *map(len, split.halves.values()))


def _image_shapes(
    sweep: Sweep,
    data: DatasetInfo,
    tasks: Described,
    forms: Mapping[str, TaskForm],
    source: Source,
) -> dict[Shape, KeyPath]:
    """The shapes of the images that networks see, each with the key that first asks for it."""
    shapes: dict[Shape, KeyPath] = {}
    for name, grid in sweep.parts.items():
        channels, height, width = shape = (
            form_shape(sweep, grid, name, tasks, forms, source)
            if sweep.has_directions(grid)
            else data.shape
        )
        for key, recipe in grid.keyed_recipes.items():
            path = in_grid(name, (*key, "crop"), source)
            crop = recipe.crop
            if crop is not None and crop > min(height, width):
                message = f"expected at most {min(height, width)}: the images are {width}×{height}"
                raise SweepError([source.mistake(path, message)])
            shapes.setdefault((channels, crop, crop) if crop else shape, path)
    return shapes


def _check_layers(
    sweep: Sweep, layers: NetworkInfo, heads: Sequence[tuple[str, str]], source: Source
) -> None:
    """Raise `SweepError` for layers that the network does not have or that cannot be copied.

    `heads` are the grids, and the reasons, whose last layers cannot be copied.
    """
    if layers.depth < 2:
        message = f"expected at least two layers, found {layers.depth}"
        path = source.nearest(("network",))
        raise SweepError([source.mistake(path, f"network {sweep.network.name}: {message}")])
    depth, problems = layers.depth, []
    for name, grid in sweep.parts.items():
        for index, n in enumerate(grid.layers):
            if 1 <= n < depth:
                continue
            message = f"layer {n} is out of range: the network has layers 1..{depth}"
            if n == depth:
                unlike = next((text for part, text in heads if part == name), "")
                message = unlike and f"n = {n} copies the last layer too: {unlike}"
            if message:
                problems.append((source.nearest(in_grid(name, ("layers", index), source)), message))
    if problems:
        raise SweepError([source.mistake(path, text) for path, text in dict.fromkeys(problems)])


def _unlike_heads(
    sweep: Sweep, parts: Mapping[str, Sequence[Split]], tasks: Described
) -> Iterator[tuple[str, str]]:
    """Yield the name of a grid and the message where source and target have unlike last layers."""
    for name, splits in parts.items():
        grid = sweep.parts[name]
        transfers = any(kind.startswith("transfer") for kind in grid.treatments)
        for split in splits if transfers else ():
            a, b = (2 if len(half) == 1 else len(half) for half in split.halves.values())
            if a != b:
                yield name, f"the halves of {split.name} have {a} and {b} classes"
        for pair in pairs(sweep, grid) if transfers and sweep.has_directions(grid) else ():
            if pair[0] not in tasks:
                yield name, f"{pair[0]} is a file of weights, which is read without it"
                continue
            a, b = (n_outputs(sweep.tasks[task], tasks[task][1]) for task in pair)
            if a != b:
                yield name, f"{pair[0]} has {a} classes and {pair[1]} has {b}"


def _check_learning(
    sweep: Sweep, network: NetworkRef, n_classes: int, shape: Shape, source: Source
) -> None:
    """Raise `SweepError` for layers and modules to freeze or to train that the network lacks."""
    recipes = [recipe for grid in sweep.parts.values() for recipe in grid.recipes]
    if not any(recipe.freeze or recipe.learn or recipe.stages for recipe in recipes):
        return
    from trainers.networks import tensor_shapes  # imports torch

    tensors = tensor_shapes(network, n_classes, shape)
    depth = len({name.partition(".")[0] for name in tensors})
    problems: list[tuple[KeyPath, str]] = []
    for name, grid in sweep.parts.items():
        for key, recipe in grid.keyed_recipes.items():
            if key == ("recipe",) and recipe.freeze and recipe.freeze >= depth:
                message = f"layer {recipe.freeze} is out of range: 1..{depth - 1} can be frozen"
                problems.append((in_grid(name, (*key, "freeze"), source), message))
            listed: list[tuple[KeyPath, Iterable[int | str] | str]] = [
                ((*key, "learn"), recipe.learn if key == ("recipe",) else ()),
                *(
                    ((*key, "stages", index, "learn"), stage.learn)
                    for index, stage in enumerate(recipe.stages)
                ),
            ]
            for path, items in listed:
                for item in () if isinstance(items, str) else map(str, items):
                    if not any(covered(tensor, [item]) for tensor in tensors):
                        message = f"the network has no {item}{hint(item, tensors)}"
                        problems.append((in_grid(name, path, source), message))
    if problems:
        raise SweepError(
            [source.mistake(source.nearest(path), text) for path, text in dict.fromkeys(problems)]
        )
