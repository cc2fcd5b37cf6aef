"""The first filters of a network, and a map of images by a layer's outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import LayerwiseError
from orchestrator.execution.inline import require_gpu
from orchestrator.execution.origin import Weights, runtime_of
from orchestrator.plan.origin import Origin
from trainers.canonical import ConfigError
from trainers.checkpoint import CheckpointError
from trainers.feature_form import FeatureForm

if TYPE_CHECKING:
    from trainers.pictures import Map, Projection, Sheet


@dataclass(frozen=True)
class Picture:
    """One network's pictures."""

    name: str
    """Name of the trial or of the file of weights."""
    filters: Sheet
    map: Map


def picture(of: Origin, weights: Weights, layer: int, projection: Projection) -> Picture:
    """Return the pictures of a network; the map is of the outputs of a layer.

    Raises `LayerwiseError` for a layer without weights, a first layer that is no convolution, and
    a network that diverged.
    """
    from trainers.datasets import DataError
    from trainers.features import Extractor, Trained
    from trainers.networks import NetworkError
    from trainers.pictures import feature_map, first_filters, sheet

    require_gpu([(of.name, of.trial.request)])
    on = runtime_of(of)
    try:
        trained = Trained(of.network, of.classes, weights.data)
        extractor = Extractor(trained, of.training, FeatureForm(layers=(layer,)), on)
        filters = sheet(first_filters(extractor.network))
        return Picture(of.name, filters, feature_map(extractor, of.training.target, on, projection))
    except (ConfigError, DataError, NetworkError, CheckpointError) as error:
        raise LayerwiseError(f"{of.name}: {error}") from error
