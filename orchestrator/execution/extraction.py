"""Features of a trained network as Parquet files, part by part."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.errors import LayerwiseError
from orchestrator.execution.inline import require_gpu
from orchestrator.plan.filter import find
from orchestrator.plan.plan import Plan
from orchestrator.plan.trial import Trial
from orchestrator.states import State
from orchestrator.store.store import Store
from trainers import whole_file
from trainers.canonical import ConfigError, digest
from trainers.checkpoint import CheckpointError

if TYPE_CHECKING:
    from trainers.classifier import Pool
    from trainers.features import Extractor, Part

KEY = b"layerwise_features"  # metadata: hash of weights, task, layers, pooling, images of a part


def extract(
    plan: Plan,
    name: str,
    store: Store,
    layers: Sequence[int],
    rule: Pool,
    to: Path,
    advance: Callable[[int, int], Any],
) -> int:
    """Write the outputs of layers of a complete trial, for the images of its task, into a folder.

    Parts that are there already stay; a part is whole or absent. `advance` takes the images done
    and all images. Return the number of images. Raises `LayerwiseError` for a trial without
    weights, a layer that does not exist, a folder of other features, and a disk that is too small.
    """
    from trainers.datasets import DataError
    from trainers.features import Extractor
    from trainers.networks import NetworkError
    from trainers.results import Runtime

    trial = find(plan, name)
    require_gpu([(trial.name, trial.request)])
    sha256, weights = _weights(trial, store)
    runtime = Runtime(
        device="cuda" if trial.request.gpu else "cpu",
        threads=max(1, int(trial.request.cpu)),
        data_root=trial.data_root,
        source_root=trial.source_root,
    )
    try:
        extractor = Extractor(trial.training, weights, layers, rule, runtime)
        content = sha256, digest(trial.training.target), extractor.layers, rule
        key = digest([*content, extractor.at_once], 16)
        _require_place(to, key, extractor)
        return _write(trial, extractor, to, key, advance)
    except (ConfigError, DataError, NetworkError, CheckpointError) as error:
        raise LayerwiseError(f"{trial.name}: {error}") from error
    except OSError as error:
        raise LayerwiseError(f"cannot write {to}: {error.strerror}") from error


def _weights(trial: Trial, store: Store) -> tuple[str, bytes]:
    """Return SHA-256 and content of a trial's checkpoint. Raises `LayerwiseError`."""
    if trial.training.recipe.classifier:
        raise LayerwiseError(
            f"{trial.name} is a classifier on the features of its base: name the base"
        )
    if trial.training.treatment.is_stitched:
        raise LayerwiseError(f"{trial.name} is stitched from layers of bases: name a base")
    row = store.row(trial.id, (State.COMPLETE,))
    if row is None:
        raise LayerwiseError(
            f"{trial.name} is not complete in {store.root}; train it with: layerwise run "
            f"{trial.argument} --only \"id = '{trial.id}'\""
        )
    try:
        return row["checkpoint"], store.get_checkpoint(trial.id, row["checkpoint"])
    except CheckpointError as error:
        raise LayerwiseError(
            f"{trial.name}: {error}; `keep: all` keeps the weights of every trial"
        ) from error


def _require_place(to: Path, key: str, extractor: Extractor) -> None:
    """Raise `LayerwiseError` for a folder of other features, or a disk that is too small."""
    written = sorted(to.glob("*.parquet"))
    for path in written:
        try:
            metadata = pq.read_schema(path).metadata or {}
        except pa.ArrowInvalid as error:
            raise LayerwiseError(f"{path} is no Parquet file; give another --to") from error
        if metadata.get(KEY) != key.encode():
            raise LayerwiseError(f"{to} holds other features ({path.name}); give another --to")
    missing = len(extractor.places()) - len(written)
    each = 4 * sum(extractor.sizes.values())
    images = sum(map(len, extractor.images.values()))
    needed = each * min(images, missing * extractor.at_once)
    present = next(folder for folder in (to, *to.absolute().parents) if folder.exists())
    free = shutil.disk_usage(present).free
    if needed > free:
        raise LayerwiseError(
            f"the features need {needed / 1e9:.1f} GB, and {present} has {free / 1e9:.1f} GB free: "
            "pool them, name fewer layers, or choose another disk with --to"
        )


def _write(
    trial: Trial, extractor: Extractor, to: Path, key: str, advance: Callable[[int, int], Any]
) -> int:
    total, done = sum(map(len, extractor.images.values())), 0
    for subset, first in extractor.places():
        path = to / f"{subset}-{first:09d}.parquet"
        if not path.exists():
            table = _table(trial, extractor.part(subset, first), key)
            with whole_file.replacing(path) as file:
                pq.write_table(table, file)
        done += min(extractor.at_once, len(extractor.images[subset]) - first)
        advance(done, total)
    return total


def _table(trial: Trial, part: Part, key: str) -> pa.Table:
    """Return a part as a table; features are fixed-size lists, which numpy reads without a copy."""
    classes = trial.training.target.labels
    columns: dict[str, Any] = {
        "image": pa.array(part.images, pa.int64()),
        "subset": pa.array([part.subset] * len(part.images)),
        "label": pa.array(part.labels, pa.int64()),
        "class_index": pa.array([classes[label] for label in part.labels], pa.int64()),
    }
    for layer, values in part.features.items():
        flat = pa.array(values.reshape(-1))
        columns[f"layer{layer}"] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.table(columns).replace_schema_metadata({KEY: key, "trial": trial.id})
