"""Descriptions of the dataset and the networks that a sweep names.

Errors of a dataset or a network become mistakes of the sweep, with file, line and key.
"""

from __future__ import annotations

import contextlib
from bdb import BdbQuit
from collections.abc import Iterable, Iterator

from orchestrator.errors import SweepError
from orchestrator.plan.known_networks import Described, remembered
from orchestrator.sweep.components import Component, Data
from orchestrator.sweep.inheritance import in_grid
from orchestrator.sweep.schema import Grid, Sweep
from orchestrator.sweep.source import Path as KeyPath
from orchestrator.sweep.source import Source
from trainers.canonical import ConfigError
from trainers.config import (
    NETWORK_NAMES,
    TORCHVISION,
    Adaptation,
    DatasetInfo,
    DatasetRef,
    NetworkError,
    NetworkInfo,
    NetworkRef,
)
from trainers.frames import raised
from trainers.spelling import hint

Shape = tuple[int, int, int]  # of an image: channels, height, width


def check_names(sweep: Sweep, source: Source) -> None:
    """Raise `SweepError` for an unknown dataset or network."""
    from trainers import datasets

    named: list[tuple[KeyPath, Component | None, Iterable[str]]] = [
        *((path, component, datasets.DATASETS) for path, component in sweep.datasets.items()),
        (("network",), sweep.network, NETWORK_NAMES),
        (("target_network",), sweep.target_network, NETWORK_NAMES),
    ]
    for path, component, names in named:
        if component is None or component.name in names or component.is_own:
            continue
        registry = _networks() if names is NETWORK_NAMES else names
        if component.name in registry:
            continue
        field = str(path[-1])
        if field == "dataset" or not component.name.startswith(TORCHVISION):
            near = hint(component.name, registry) or f"; known: {', '.join(registry)}"
            message = f"unknown {field.replace('_', ' ')} {component.name!r}{near}"
            raise SweepError([source.mistake(source.nearest((*path, "name")), message)])


def _networks() -> Iterable[str]:
    from trainers.networks import NETWORKS  # imports torch

    return NETWORKS


def describe_dataset(
    component: Data, path: KeyPath, source: Source
) -> tuple[DatasetRef, DatasetInfo]:
    """Return the dataset that the key at `path` names, downloaded if it says so.

    Raises `SweepError`.
    """
    from trainers import datasets

    name, root = component.name, component.root
    with as_mistakes(path, component, source):
        if component.download:
            datasets.fetch(name, root)
        data = datasets.describe(name, component.frozen_options, root)
        options = datasets.options_of(name, component.frozen_options)
    return DatasetRef(name=name, options=options, fingerprint=data.fingerprint), data


def describe_network(
    field: str, sweep: Sweep, n_classes: int, shapes: dict[Shape, KeyPath], source: Source
) -> tuple[NetworkRef, NetworkInfo]:
    """Return the network of a field and its layers. Raises `SweepError`.

    Its weights must have the same shapes for all `shapes` of images.
    """
    component: Component = getattr(sweep, field)
    batch = min(recipe.batch for grid in sweep.parts.values() for recipe in grid.recipes)
    name, options, fingerprint = component.name, component.frozen_options, ""

    def describe() -> Described:
        from trainers import networks

        nonlocal fingerprint
        given = networks.options_of(name, options)
        fingerprint = networks.fingerprint(name, given)
        network = NetworkRef(name=name, options=given, fingerprint=fingerprint)
        return given, [networks.describe(network, n_classes, shape, batch) for shape in shapes]

    with as_mistakes((field,), component, source):
        if name in NETWORK_NAMES or name.startswith(TORCHVISION):
            question = [list(options), n_classes, list(shapes), batch]
            given, described = remembered(name, question, describe)
        else:
            given, described = describe()
    network = NetworkRef(name=name, options=given, fingerprint=fingerprint)
    layers, *others = described
    for path, other in zip(list(shapes.values())[1:], others, strict=True):
        if other.parameters != layers.parameters:
            message = (
                "the network's weights depend on the image size, and this key gives another "
                "size: use one size for the whole sweep"
            )
            raise SweepError([source.mistake(path, message)])
    return network, layers


def declared_adaptation(
    sweep: Sweep,
    network: NetworkRef,
    target: NetworkRef,
    n_classes: int,
    shape: Shape,
    source: Source,
) -> Adaptation:
    """Return the declared differences of the targets' network from that of the sources.

    Raises `SweepError` if a layer that is copied differs otherwise.
    """
    from trainers.adaptation import check_adaptation
    from trainers.networks import tensor_shapes

    component = sweep.target_network
    assert component is not None
    with as_mistakes(("target_network",), component, source):
        adapt = Adaptation.of(component.replaced, component.widened)
        base_shapes = tensor_shapes(network, n_classes, shape)
        target_shapes = tensor_shapes(target, n_classes, shape)
        shared = _layer_names(base_shapes) & _layer_names(target_shapes)
        grids = [grid for grid in sweep.parts.values() if not _only_stitches(grid)]
        n = max((max(grid.layers, default=len(shared) - 1) for grid in grids), default=0)
        check_adaptation(adapt, base_shapes, target_shapes, n)
    return adapt


def _only_stitches(grid: Grid) -> bool:
    """Return whether a grid has layers of the sources in stitched networks alone."""
    return {"transfer", "transfer+", "stitched"} & {*grid.treatments} == {"stitched"}


def check_stitches(sweep: Sweep, network: NetworkInfo, target: NetworkInfo, source: Source) -> None:
    """Raise `SweepError` for a layer whose outputs differ in more than channels between networks.

    `network` is that of the sources.
    """
    for name, grid in sweep.parts.items():
        if "stitched" not in grid.treatments:
            continue
        from trainers.stitching import misfit  # imports torch

        for n in grid.layers or range(1, target.depth):
            if n >= target.depth:
                continue
            given = network.shapes[n - 1] if n < network.depth else ()
            if problem := misfit(given, target.shapes[n - 1], n):
                path = source.nearest(in_grid(name, ("layers",), source))
                raise SweepError([source.mistake(path, problem)])


def _layer_names(tensors: Iterable[str]) -> set[str]:
    """`layer3` for the tensor `layer3.conv.weight`."""
    return {tensor.partition(".")[0] for tensor in tensors}


@contextlib.contextmanager
def as_mistakes(path: KeyPath, component: Component, source: Source) -> Iterator[None]:
    """Turn errors of the dataset or network at `path` into mistakes of the sweep.

    A user's own code may raise anything; the mistake then names file and line of that code.
    """
    from trainers.datasets import DataError

    def mistake(message: str, *key: str) -> SweepError:
        return SweepError([source.mistake(source.nearest((*path, *key)), message)])

    try:
        yield
    except ConfigError as error:
        raise mistake(str(error), error.field) from error
    except (DataError, NetworkError) as error:
        raise mistake(str(error)) from error
    except BdbQuit:  # the user left the debugger that `breakpoint()` opened
        raise KeyboardInterrupt from None
    except Exception as error:
        if not component.is_own:
            raise
        raise mistake(f"{component.name} raised {raised(error, [component.name])}") from error
