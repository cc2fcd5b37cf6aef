"""What a sweep names, looked at: its data, its network, its splits; and whether they fit."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator import yaml_source
from orchestrator.errors import SweepError
from orchestrator.spec import Component, FineTune, Sweep
from orchestrator.yaml_source import Source, hint
from trainers.config import (
    ConfigError,
    DatasetInfo,
    DatasetRef,
    NetworkInfo,
    NetworkRef,
    Recipe,
)
from trainers.splits import Split, named_split, random_split


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A sweep and what planning must know of its data and its network."""

    sweep: Sweep
    source: Source
    dataset: DatasetRef
    network: NetworkRef
    data: DatasetInfo
    layers: NetworkInfo
    splits: tuple[Split, ...]


def examine(sweep: Sweep, source: Source) -> Experiment:
    """Look at the data and the network that a sweep names, and check the sweep against them.

    Raises `SweepError` for what does not fit: options, classes, layers, batch size.
    """
    from trainers import datasets, networks

    for field, registry in (("dataset", datasets.DATASETS), ("network", networks.NETWORKS)):
        component: Component = getattr(sweep, field)
        if not component.is_own and component.name not in registry:
            near = hint(component.name, registry) or f"; known: {', '.join(registry)}"
            message = f"unknown {field} {component.name!r}{near}"
            raise SweepError([source.mistake(source.known((field, "name")), message)])
    with _describing("dataset", sweep.dataset, source):
        data = datasets.describe(sweep.dataset.name, sweep.dataset.frozen_options)
        dataset = DatasetRef(
            name=sweep.dataset.name,
            options=datasets.options_of(sweep.dataset.name, sweep.dataset.frozen_options),
            fingerprint=data.fingerprint,
        )
    splits = _splits(sweep, data, source)
    with _describing("network", sweep.network, source):
        network = NetworkRef(
            name=sweep.network.name,
            options=networks.options_of(sweep.network.name, sweep.network.frozen_options),
            fingerprint=networks.fingerprint(sweep.network.name),
        )
        layers = networks.describe(
            network, max(len(s.half(h)) for s in splits for h in "AB"), data.shape
        )
    if misfits := _misfits(sweep, layers):
        raise SweepError([source.mistake(source.known(path), text) for path, text in misfits])
    return Experiment(sweep, source, dataset, network, data, layers, splits)


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


def _misfits(sweep: Sweep, layers: NetworkInfo) -> list[tuple[yaml_source.Path, str]]:
    """Layers that the network does not have, or that cannot be copied."""
    if layers.depth < 2:
        name, found = sweep.network.name, layers.depth
        return [(("network",), f"network {name}: expected at least two layers, found {found}")]
    return [
        (
            ("layers", index),
            f"layer {n} is out of range: the network has layers 1..{layers.depth}, "
            f"of which 1..{layers.depth - 1} can be copied",
        )
        for index, n in enumerate(sweep.layers)
        if not 1 <= n < layers.depth
    ]


def _splits(sweep: Sweep, data: DatasetInfo, source: Source) -> tuple[Split, ...]:
    classes = data.classes
    if len(classes) < 2:
        raise SweepError([source.mistake(("dataset",), "expected at least two classes")])
    splits = [random_split(seed, len(classes)) for seed in sweep.splits.random]
    for name, halves in sweep.splits.named.items():
        try:
            splits.append(named_split(name, halves.members("A"), halves.members("B"), classes))
        except ConfigError as error:
            path = ("splits", "named", name, *([error.field] if error.field else []))
            raise SweepError([source.mistake(path, str(error))]) from error
    first: dict[frozenset[tuple[int, ...]], str] = {}
    for split in splits:
        twin = first.setdefault(frozenset((split.a, split.b)), split.name)
        if twin != split.name:
            message = (
                f"{twin} and {split.name} are the same halves: intervals would count them twice"
            )
            raise SweepError([source.mistake(("splits",), message)])
        for letter in "AB":
            for subset in ("validation", "test"):
                if not sum(getattr(data, subset)[index] for index in split.half(letter)):
                    message = f"half {letter} of {split.name} has no {subset} images"
                    raise SweepError([source.mistake(("dataset",), message)])
            images = sum(data.train[index] for index in split.half(letter))
            for field in ("recipe", "fine_tune"):
                recipe = sweep.recipe if field == "recipe" else sweep.fine_tune.recipe
                if recipe is not None and recipe.batch > images:
                    path = (field, "batch") if field == "recipe" else (field, "recipe", "batch")
                    half = f"half {letter} of {split.name}"
                    message = f"expected at most {images}, the training images of {half}"
                    raise SweepError([source.mistake(path, message)])
    return tuple(splits)


def splits_summary(splits: tuple[Split, ...]) -> dict[str, Any]:
    """The splits as JSON values: name → half → class indices in the dataset's own order.

    Beside the halves stand `hash`, the `split_hash` of the tables, and `hashes`, of each half.
    """
    return {
        split.name: {letter: list(split.half(letter)) for letter in "AB"}
        | {"hash": split.hash, "hashes": {letter: split.half_hash(letter) for letter in "AB"}}
        for split in splits
    }


def shorten(sweep: Sweep, steps: int) -> Sweep:
    """The sweep with so few steps that it only shows whether it works."""

    def short(recipe: Recipe) -> Recipe:
        return dataclasses.replace(recipe, steps=steps, epochs=None, evaluate_every=steps)

    own = short(sweep.fine_tune.recipe) if sweep.fine_tune.recipe else None
    return sweep.model_copy(
        update={"recipe": short(sweep.recipe), "fine_tune": FineTune(recipe=own)}
    )


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
