"""The weights of an origin of features, and the device that its images are passed through."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from orchestrator.errors import LayerwiseError
from orchestrator.plan.origin import Origin
from orchestrator.plan.plan import Plan
from orchestrator.plan.trial import Trial
from orchestrator.states import State
from orchestrator.store.store import Store
from trainers.canonical import ConfigError
from trainers.checkpoint import CheckpointError, checksum

if TYPE_CHECKING:
    from trainers.results import Runtime


class Weights(NamedTuple):
    """Weights of a network."""

    sha256: str
    data: bytes
    """Checkpoint; that of a file of weights lacks the last layer."""


def weights_of(plan: Plan, of: Origin, store: Store, *, layers: int | None = None) -> Weights:
    """Return the weights of a complete trial, or those that a file has.

    A trial that never changes its first `layers` layers needs no weights in the store: these layers
    are those of its base, or random. Raises `LayerwiseError` for a trial without weights.
    """
    if given := plan.weights.get(of.id):
        return Weights(given.sha256, given.data)
    try:
        return _checkpoint(of.trial, store)
    except LayerwiseError:
        unchanged = layers and _unchanged(plan, of.trial, store, layers)
        if not unchanged:
            raise
        return Weights(checksum(unchanged), unchanged)


def runtime_of(of: Origin) -> Runtime:
    """Return device, threads and folders for a pass over the images."""
    return _runtime(of.trial, of.data_root, of.source_root)


def _checkpoint(trial: Trial, store: Store) -> Weights:
    """Return a trial's checkpoint. Raises `LayerwiseError`."""
    row = store.row(trial.id, (State.COMPLETE,))
    if row is None:
        raise LayerwiseError(
            f"{trial.name} is not complete in {store.root}; train it with: layerwise run "
            f"{trial.argument} --only \"id = '{trial.id}'\""
        )
    try:
        return Weights(row["checkpoint"], store.get_checkpoint(trial.id, row["checkpoint"]))
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
            parent = given.data if given else _checkpoint(plan.trials[trial.parent], store).data
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
