"""Features of one network in a folder that a user names, without a sweep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.errors import LayerwiseError
from orchestrator.execution import feature_parts
from orchestrator.execution.extraction import FOLDER
from orchestrator.execution.feature_parts import Parts
from orchestrator.execution.inline import require_gpu
from orchestrator.execution.origin import Weights, runtime_of
from orchestrator.plan.extraction import Extraction
from orchestrator.store.locations import open_files
from orchestrator.store.store import Store
from trainers.canonical import ConfigError
from trainers.checkpoint import CheckpointError


def extract(
    extraction: Extraction,
    weights: Weights,
    to: Path,
    advance: Callable[[int, int], Any],
    store: Store | None = None,
) -> int:
    """Write features into a folder, and return the number of images.

    Parts that are there already stay; a part is whole or absent. Parts that the store has are
    copied. `advance` takes the images done and all images. Raises `LayerwiseError` for a layer
    without weights, a folder of other features, and a disk that is too small.
    """
    from trainers.datasets import DataError
    from trainers.features import Extractor, Trained
    from trainers.networks import NetworkError

    of, folder = extraction.origin, extraction.folder(weights.sha256)
    require_gpu([(of.name, of.trial.request)])
    if to.exists() and not to.is_dir():
        raise LayerwiseError(f"cannot write {to}: it is a file; give another --to")
    files = open_files(to)
    parts = Parts(files, files.base, folder)
    cached = Parts(store.files, store.path(FOLDER, folder), folder) if store else None
    labels = of.training.target.labels
    try:
        trained = Trained(of.network, of.classes, weights.data)
        extractor = Extractor(trained, of.training, extraction.form, runtime_of(of))
        parts.require_own(to)
        with files.once():
            feature_parts.write(parts, extractor, labels, of.id, cached=cached, advance=advance)
    except (ConfigError, DataError, NetworkError, CheckpointError) as error:
        raise LayerwiseError(f"{of.name}: {error}") from error
    return sum(map(len, extractor.images.values()))
