"""What a sweep names, looked at: its data, its network, its splits; and whether they fit."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.errors import SweepError
from orchestrator.inheritance import in_grid
from orchestrator.spec import Component, FineTune, Grid, Sweep
from orchestrator.splitting import SplitError, check_half, splits_of
from orchestrator.yaml_source import Path as KeyPath
from orchestrator.yaml_source import Source, hint
from trainers.config import (
    TORCHVISION,
    Adaptation,
    ConfigError,
    DatasetInfo,
    DatasetRef,
    NetworkInfo,
    NetworkRef,
    Recipe,
)
from trainers.splits import Split

Shape = tuple[int, int, int]
TUNED: KeyPath = ("fine_tune", "recipe")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A sweep and what planning must know of its data and its networks; its grids with splits.

    `target` is the network of targets, mostly the same as `network`, that of the sources.
    """

    sweep: Sweep
    source: Source
    dataset: DatasetRef
    data: DatasetInfo
    network: NetworkRef
    target: NetworkRef
    adapt: Adaptation
    networks: dict[NetworkRef, NetworkInfo]
    parts: tuple[tuple[Grid, tuple[Split, ...]], ...]

    @property
    def layers(self) -> NetworkInfo:
        """The layers of the targets' network."""
        return self.networks[self.target]

    @property
    def splits(self) -> tuple[Split, ...]:
        """Every split once."""
        return tuple(dict.fromkeys(split for _, splits in self.parts for split in splits))


def examine(sweep: Sweep, source: Source) -> Experiment:
    """Look at the data and the network that a sweep names, and check the sweep against them.

    Raises `SweepError` for what does not fit: options, classes, layers, batch size.
    """
    from trainers import datasets

    _check_names(sweep, source)
    with _describing("dataset", sweep.dataset, source):
        if sweep.dataset.download:
            datasets.fetch(sweep.dataset.name, sweep.dataset.root)
        data = datasets.describe(
            sweep.dataset.name, sweep.dataset.frozen_options, sweep.dataset.root
        )
        dataset = DatasetRef(
            name=sweep.dataset.name,
            options=datasets.options_of(sweep.dataset.name, sweep.dataset.frozen_options),
            fingerprint=data.fingerprint,
        )
    parts = tuple(
        (grid, _splits(name, grid, dataset, data, source)) for name, grid in sweep.parts.items()
    )
    splits = [split for _, splits in parts for split in splits]
    _refuse_twins(splits, source)
    shapes = _shapes(sweep, data, source)
    classes = max(_outputs(split) for split in splits)
    network, layers = _network("network", sweep.network, classes, shapes, source)
    target, adapt, networks = network, Adaptation(), {network: layers}
    if sweep.target_network is not None:
        target, layers = _network("target_network", sweep.target_network, classes, shapes, source)
        networks[target] = layers
        adapt = _adaptation(sweep, network, target, classes, next(iter(shapes)), source)
    if misfits := _misfits(sweep, layers, source):
        raise SweepError([source.mistake(source.known(path), text) for path, text in misfits])
    return Experiment(sweep, source, dataset, data, network, target, adapt, networks, parts)


def _check_names(sweep: Sweep, source: Source) -> None:
    """Raise `SweepError` for a dataset or a network that nobody knows."""
    from trainers import datasets, networks

    for field, registry in (
        ("dataset", datasets.DATASETS),
        ("network", networks.NETWORKS),
        ("target_network", networks.NETWORKS),
    ):
        component: Component | None = getattr(sweep, field)
        if component is None or component.name in registry or component.is_own:
            continue
        if field == "dataset" or not component.name.startswith(TORCHVISION):
            near = hint(component.name, registry) or f"; known: {', '.join(registry)}"
            message = f"unknown {field.replace('_', ' ')} {component.name!r}{near}"
            raise SweepError([source.mistake(source.known((field, "name")), message)])


def _network(
    field: str, component: Component, classes: int, shapes: dict[Shape, KeyPath], source: Source
) -> tuple[NetworkRef, NetworkInfo]:
    """A network and its layers, which must have the same weights for all sizes of images."""
    from trainers import networks

    with _describing(field, component, source):
        network = NetworkRef(
            name=component.name,
            options=networks.options_of(component.name, component.frozen_options),
            fingerprint=networks.fingerprint(component.name),
        )
        layers, *others = (networks.describe(network, classes, shape) for shape in shapes)
    for path, other in zip(list(shapes.values())[1:], others, strict=True):
        if other.parameters != layers.parameters:
            message = "the network has other weights for this size of images; expected one size"
            raise SweepError([source.mistake(path, message)])
    return network, layers


def _adaptation(
    sweep: Sweep,
    network: NetworkRef,
    target: NetworkRef,
    classes: int,
    shape: Shape,
    source: Source,
) -> Adaptation:
    """What of the targets' network is declared to differ; all else must fit what is copied."""
    from trainers.adaptation import check_adaptation
    from trainers.networks import tensor_shapes

    wanted = sweep.target_network
    assert wanted is not None
    with _describing("target_network", wanted, source):
        adapt = Adaptation.of(wanted.replaced, wanted.widened)
        theirs, own = (tensor_shapes(ref, classes, shape) for ref in (network, target))
        shared = {n.partition(".")[0] for n in theirs} & {n.partition(".")[0] for n in own}
        copied = [max(grid.layers, default=len(shared) - 1) for grid in sweep.parts.values()]
        check_adaptation(adapt, theirs, own, max(copied))
    return adapt


def find_data(sweep: Sweep, dataset: DatasetRef, source: Source) -> None:
    """Find the images on this machine, as each of its workers will. Raises `SweepError`.

    Planning needs no images of a known dataset: their absence would be found by every trial.
    """
    from trainers import datasets

    with _describing("dataset", sweep.dataset, source):
        datasets.load(dataset, sweep.dataset.root)


@contextlib.contextmanager
def _describing(field: str, component: Component, source: Source) -> Iterator[None]:
    """Turns what is wrong with a dataset or a network into a mistake of the sweep.

    A user's own code may raise anything; the mistake then names the place in it.
    """
    from trainers.datasets import DataError
    from trainers.networks import NetworkError

    def mistake(message: str, *key: str) -> SweepError:
        return SweepError([source.mistake(source.known((field, *key)), message)])

    try:
        yield
    except ConfigError as error:
        raise mistake(str(error), error.field) from error
    except (DataError, NetworkError) as error:
        raise mistake(str(error)) from error
    except Exception as error:
        if not component.is_own:
            raise
        raise mistake(f"{component.name} raised {_raised(error, component.name)}") from error


def _raised(error: Exception, name: str) -> str:
    """`RuntimeError: no such disk (/home/me/mine.py:8)`: the last line in the user's own module."""
    text = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    if isinstance(error, SyntaxError):
        return text  # which names file and line itself
    own = getattr(sys.modules.get(name.partition(":")[0]), "__file__", None)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename[0] != "<"]
    place = ([f for f in frames if f.filename == own] or frames)[-1]
    return f"{text} ({place.filename}:{place.lineno})"


def _shapes(sweep: Sweep, data: DatasetInfo, source: Source) -> dict[Shape, KeyPath]:
    """The images that networks see, (C, H, W), each with the key that first asks for them."""
    channels, height, width = data.shape
    found: dict[Shape, KeyPath] = {}
    for name, grid in sweep.parts.items():
        for key, recipe in (("recipe",), grid.recipe), (TUNED, grid.fine_tune.recipe):
            path = in_grid(name, (*key, "crop"), source)
            crop = recipe.crop if recipe else None
            if crop is not None and crop > min(height, width):
                message = f"expected at most {min(height, width)}: the images are {width}×{height}"
                raise SweepError([source.mistake(path, message)])
            if recipe is not None:
                found.setdefault((channels, crop, crop) if crop else data.shape, path)
    return found


def _misfits(sweep: Sweep, layers: NetworkInfo, source: Source) -> list[tuple[KeyPath, str]]:
    """Layers that the network does not have, or that cannot be copied."""
    if layers.depth < 2:
        message = f"expected at least two layers, found {layers.depth}"
        return [(("network",), f"network {sweep.network.name}: {message}")]
    found = [
        (
            in_grid(name, ("layers", index), source),
            f"layer {n} is out of range: the network has layers 1..{layers.depth}, "
            f"of which 1..{layers.depth - 1} can be copied",
        )
        for name, grid in sweep.parts.items()
        for index, n in enumerate(grid.layers)
        if not 1 <= n < layers.depth
    ]
    return list(dict.fromkeys(found))


def _splits(
    name: str, grid: Grid, dataset: DatasetRef, data: DatasetInfo, source: Source
) -> tuple[Split, ...]:
    """The splits of one grid, each of whose halves can be trained on and tested."""
    try:
        splits = splits_of(grid, data.classes)
        for split in splits:
            for letter in split.halves:
                check_half(grid, split, letter, dataset, data)
    except SplitError as error:
        path = in_grid(name, error.path, source)
        raise SweepError([source.mistake(path, str(error))]) from error
    return splits


def _outputs(split: Split) -> int:
    """The classes of the larger half; one class against the rest is two."""
    return max(2, *map(len, split.halves.values()))


def _refuse_twins(splits: list[Split], source: Source) -> None:
    """One division under two names would enter every interval twice; two under one, none right."""
    first: dict[frozenset[tuple[int, ...]], str] = {}
    named: dict[str, Split] = {}
    for split in splits:
        twin = first.setdefault(frozenset((split.a, split.b)), split.name)
        if twin != split.name:
            message = (
                f"{twin} and {split.name} are the same halves: intervals would count them twice"
            )
            raise SweepError([source.mistake(("splits",), message)])
        if named.setdefault(split.name, split) != split:
            message = f"two grids call different halves {split.name}"
            raise SweepError([source.mistake(("grids",), message)])


def shorten(sweep: Sweep, steps: int) -> Sweep:
    """The sweep with so few steps that it only shows whether it works."""

    def short(recipe: Recipe) -> Recipe:
        return dataclasses.replace(recipe, steps=steps, epochs=None, evaluate_every=steps)

    def shortened(grid: Grid) -> dict[str, Any]:
        own = short(grid.fine_tune.recipe) if grid.fine_tune.recipe else None
        return {"recipe": short(grid.recipe), "fine_tune": FineTune(recipe=own)}

    grids = {name: grid.model_copy(update=shortened(grid)) for name, grid in sweep.grids.items()}
    return sweep.model_copy(update={**shortened(sweep), "grids": grids})


def own_modules(sweep: Sweep) -> list[str]:
    """Folders and files of the user's code that a sweep names, for the workers of a cluster.

    A package travels whole, a module of its own as one file.
    """
    found = []
    for component in (sweep.dataset, sweep.network):
        if component.is_own:
            top = sys.modules[component.name.partition(":")[0].partition(".")[0]]
            file = Path(top.__file__ or next(iter(top.__path__)))
            found.append(str(file.parent if hasattr(top, "__path__") and file.is_file() else file))
    return list(dict.fromkeys(found))
