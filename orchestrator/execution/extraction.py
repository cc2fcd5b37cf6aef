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
from orchestrator.execution.origin import Origin
from trainers import whole_file
from trainers.canonical import ConfigError, digest
from trainers.checkpoint import CheckpointError

if TYPE_CHECKING:
    from trainers.classifier import Pool
    from trainers.features import Extractor, Part

KEY = b"layerwise_features"  # metadata: hash of weights, images, layers, pooling, size of a part
IMAGES = ("normalise", "pixels", "crop", "precision")  # keys of a recipe that the images depend on


def extract(
    of: Origin, layers: Sequence[int], rule: Pool, to: Path, advance: Callable[[int, int], Any]
) -> int:
    """Write the outputs of layers of a network, for the images of a task, into a folder.

    Parts that are there already stay; a part is whole or absent. `advance` takes the images done
    and all images. Return the number of images. Raises `LayerwiseError` for a layer without
    weights, a folder of other features, and a disk that is too small.
    """
    from trainers.datasets import DataError
    from trainers.features import Extractor, Trained
    from trainers.networks import NetworkError

    require_gpu([(of.name, of.trial.request)])
    try:
        trained = Trained(of.network, of.classes, of.weights)
        extractor = Extractor(trained, of.training, layers, rule, of.runtime())
        key = _key(of, extractor)
        _require_place(to, key, extractor)
        return _write(of, extractor, to, key, advance)
    except (ConfigError, DataError, NetworkError, CheckpointError) as error:
        raise LayerwiseError(f"{of.name}: {error}") from error
    except OSError as error:
        raise LayerwiseError(f"cannot write {to}: {error.strerror}") from error


def _key(of: Origin, extractor: Extractor) -> str:
    """Return the hash of all that the vectors depend on, and of the images of a part."""
    training = of.training
    images = [getattr(training.recipe, name) for name in IMAGES]
    if training.recipe.normalise == "source":
        images.append(digest(training.source or training.target))
    content = of.sha256, digest(training.target), images, extractor.layers, extractor.rule
    return digest([*content, extractor.at_once], 16)


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
    of: Origin, extractor: Extractor, to: Path, key: str, advance: Callable[[int, int], Any]
) -> int:
    total, done = sum(map(len, extractor.images.values())), 0
    for subset, first in extractor.places():
        path = to / f"{subset}-{first:09d}.parquet"
        if not path.exists():
            table = _table(of, extractor.part(subset, first), key)
            with whole_file.replacing(path) as file:
                pq.write_table(table, file)
        done += min(extractor.at_once, len(extractor.images[subset]) - first)
        advance(done, total)
    return total


def _table(of: Origin, part: Part, key: str) -> pa.Table:
    """Return a part as a table; features are fixed-size lists, which numpy reads without a copy."""
    classes = of.training.target.labels
    columns: dict[str, Any] = {
        "image": pa.array(part.images, pa.int64()),
        "subset": pa.array([part.subset] * len(part.images)),
        "label": pa.array(part.labels, pa.int64()),
        "class_index": pa.array([classes[label] for label in part.labels], pa.int64()),
    }
    for layer, values in part.features.items():
        flat = pa.array(values.reshape(-1))
        columns[f"layer{layer}"] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.table(columns).replace_schema_metadata({KEY: key, "network": of.id})
