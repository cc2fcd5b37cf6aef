"""Trained networks of a store, and the outputs of their layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from orchestrator.errors import LayerwiseError
from orchestrator.states import State

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.stats.statistics import Statistics
    from orchestrator.store.store import Store
    from trainers.classifier import Pool
    from trainers.config import Training
    from trainers.networks import Network


class Trained(NamedTuple):
    """A trial whose weights the store has."""

    name: str
    training: Training
    weights: bytes


def trained(statistics: Statistics, store: Store, trial: str) -> Trained:
    """Return a trial by its name or the beginning of its id. Raises `LayerwiseError`."""
    from orchestrator.report.drawings import trial_of
    from orchestrator.sweep.records import training_from
    from trainers.checkpoint import CheckpointError

    id, name = trial_of(statistics, trial)
    row = store.row(id, (State.COMPLETE,))
    if row is None:
        raise LayerwiseError(f"{name} is not complete in {store.root}")
    training = training_from(row["training"])
    classifier = training.recipe.classifier
    if classifier and classifier.kind == "knn":
        members = statistics.members.select(["id", "name"]).to_pylist()
        parent = next((one["name"] for one in members if one["id"] == row["parent"]), None)
        instead = f"load its base, {parent!r}" if parent else "it has no base that could be loaded"
        raise LayerwiseError(
            f"{name} looks for the nearest training images, and has no weights: {instead}"
        )
    try:
        return Trained(name, training, store.get_checkpoint(id, row["checkpoint"]))
    except CheckpointError as error:
        raise LayerwiseError(
            f"{name}: {error}; `keep: all` keeps the weights of every trial"
        ) from error


def network_of(of: Trained, shape: tuple[int, int, int] | None = None) -> Network:
    """Return the network for images of this shape (C, H, W). Raises `LayerwiseError`."""
    from trainers.checkpoint import CheckpointError
    from trainers.networks import NetworkError
    from trainers.trained import trained_network

    try:
        return trained_network(of.training, of.weights, shape)
    except (NetworkError, CheckpointError) as error:
        raise LayerwiseError(f"{of.name}: {error}") from error


def outputs_of(of: Trained, layer: int, images: Any, rule: Pool, *, normalised: bool) -> np.ndarray:
    """Return the outputs of a layer for images, or for the test images. Raises `LayerwiseError`."""
    from trainers.canonical import ConfigError
    from trainers.classifier import Pool
    from trainers.datasets import DataError
    from trainers.trained import input_of, layer_outputs

    if rule not in get_args(Pool):
        raise LayerwiseError(f"pool: expected one of {', '.join(get_args(Pool))}, found {rule!r}")
    try:
        seen = input_of(of.training, images, normalised=normalised)
        c, h, w = seen.shape[1:]
        return layer_outputs(network_of(of, (c, h, w)), layer, seen, rule)
    except (ConfigError, DataError, ValueError, RuntimeError) as error:
        raise LayerwiseError(f"{of.name}: {error}") from error
