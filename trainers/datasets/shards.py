"""Shards of a pack: decode the images of one shard and write it, or reuse an earlier one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainers import whole_file
from trainers.datasets.images import HASH_BYTES, DataError, Files
from trainers.datasets.packs import Shard


@dataclass(frozen=True)
class Part:
    """The images that one shard is made of."""

    subset: str
    """`train`, `val` or `test`."""

    file: str
    """The name of the shard's file."""

    images: Files

    labels: np.ndarray
    """Class indices (N,), int64."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """The result of writing a part."""

    subset: str
    file: str

    shard: Shard | None
    """None if nothing was written."""

    corrupt: tuple[tuple[str, str], ...]
    """(`set/class/file`, reason) of each file that cannot be decoded."""


def write_shard(part: Part, path: Path, allow_corrupt: bool) -> Written:
    """Decode the images of a part and write them to `path` with a record beside it.

    Corrupt files are left out if `allow_corrupt`; otherwise nothing is written where there is one.
    Raises `OSError` if the disk fails.
    """
    pixels = np.empty(part.images.shape, np.uint8)
    decoded: list[int] = []
    corrupt = []
    for index, name in enumerate(part.images.names):
        try:
            pixels[len(decoded)] = part.images.pixels(index)
            decoded.append(index)
        except DataError as error:
            corrupt.append((f"{part.subset}/{name}", str(error)))
    if not decoded or (corrupt and not allow_corrupt):
        return Written(subset=part.subset, file=part.file, shard=None, corrupt=tuple(corrupt))
    names = [part.images.names[index] for index in decoded]
    hashes = [part.images.hashes[index].tobytes() for index in decoded]
    shard = _put_batch(path, pixels[: len(decoded)], part.labels[decoded], names, hashes)
    written = Written(subset=part.subset, file=part.file, shard=shard, corrupt=tuple(corrupt))
    whole_file.write(_record(path), json.dumps(dataclasses.asdict(written)).encode())
    return written


def _put_batch(
    path: Path,
    pixels: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    hashes: Sequence[bytes],
) -> Shard:
    """Write images, labels, names and hashes as one record batch; the pixels are not copied."""
    import pyarrow as pa

    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(pixels)
    columns = {"image": tensors, "label": labels.astype(np.int32), "name": names}
    columns["hash"] = pa.array(hashes, pa.binary(HASH_BYTES))
    batch = pa.record_batch(columns)
    with whole_file.replacing(path) as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Shard(file=path.name, images=len(names), bytes=path.stat().st_size, sha256=sha256)


def _record(path: Path) -> Path:
    """Return the path of a shard's record, a `Written` that is kept until the manifest has it."""
    return path.with_suffix(".json")


def find_written(part: Part, partial: Path, allow_corrupt: bool) -> Written | None:
    """Return the record of an earlier attempt at a part; None if its shard cannot be used."""
    path = partial / part.file
    try:
        record = json.loads(_record(path).read_bytes())
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    corrupt = tuple((file, reason) for file, reason in record["corrupt"])
    shard = Shard(**record["shard"])
    if size != shard.bytes or (corrupt and not allow_corrupt):
        return None
    return Written(subset=part.subset, file=part.file, shard=shard, corrupt=corrupt)
