"""The shards of a pack, written one by one: each is there whole or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainers.datasets.images import DataError, Files
from trainers.packs import Shard


@dataclass(frozen=True)
class Part:
    """The images of one set that one shard is made of."""

    subset: str
    file: str
    images: Files
    labels: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Written:
    """What came of a part: its shard, none where nothing was written, and the corrupt files.

    Each of these is named `set/class/file`, with what is wrong with it.
    """

    subset: str
    file: str
    shard: Shard | None
    corrupt: tuple[tuple[str, str], ...]


def write_shard(part: Part, path: Path, allow_corrupt: bool) -> Written:
    """Decode the images of a part and write its shard, unless corrupt files forbid it."""
    pixels = np.empty(part.images.shape, np.uint8)
    whole: list[int] = []
    corrupt = []
    for index, name in enumerate(part.images.names):
        try:
            pixels[len(whole)] = part.images.pixels(index)
            whole.append(index)
        except DataError as error:
            corrupt.append((f"{part.subset}/{name}", str(error)))
    if not whole or (corrupt and not allow_corrupt):
        return Written(subset=part.subset, file=part.file, shard=None, corrupt=tuple(corrupt))
    names = [part.images.names[index] for index in whole]
    shard = _put_batch(path, pixels[: len(whole)], part.labels[whole], names)
    written = Written(subset=part.subset, file=part.file, shard=shard, corrupt=tuple(corrupt))
    put(_record(path), json.dumps(dataclasses.asdict(written)).encode())
    return written


def _put_batch(path: Path, pixels: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Shard:
    """Write images, labels and names as one record batch; the pixels are not copied."""
    import pyarrow as pa

    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(pixels)
    columns = {"image": tensors, "label": labels.astype(np.int32), "name": names}
    batch = pa.record_batch(columns)
    beside = _beside(path)
    with beside.open("wb") as file:
        with pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        file.flush()
        os.fsync(file.fileno())
    with beside.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    shard = Shard(file=path.name, images=len(names), bytes=beside.stat().st_size, sha256=sha256)
    beside.rename(path)
    return shard


def _record(path: Path) -> Path:
    """Where what came of a shard is kept until the manifest has it."""
    return path.with_suffix(".json")


def kept(part: Part, partial: Path, allow_corrupt: bool) -> Written | None:
    """What an earlier attempt recorded of a whole shard, if it still serves."""
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


def _beside(path: Path) -> Path:
    """Where this process writes what is to be renamed: a file that no other process touches."""
    return path.with_name(f"{path.name}.{os.getpid()}.tmp")


def put(path: Path, data: bytes) -> None:
    beside = _beside(path)
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
