"""Features as Parquet files, part by part, in a folder of the disk or of a store."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.errors import LayerwiseError
from orchestrator.store.files import Files
from orchestrator.store.local_files import LocalFiles
from orchestrator.store.names import PartFile
from trainers.canonical import digest
from trainers.checkpoint import checksum
from trainers.datasets import DataError

if TYPE_CHECKING:
    from trainers.features import Extractor, Part

KEY = b"layerwise_features"  # metadata: hash of network, images, layers and pooling, and of weights
UNREADABLE = (pa.ArrowException, OSError, ValueError)


class Written(NamedTuple):
    """The files of an extraction."""

    parts: int
    bytes: int
    sha256: str
    """SHA-256 of the files' SHA-256, in the order of their names."""


@dataclass(frozen=True)
class Parts:
    """The files of one extraction in a folder."""

    files: Files
    folder: str
    key: str

    def present(self) -> dict[str, int]:
        """Return the sizes of the files that are there, by name."""
        entries = ((x.path.rpartition("/")[2], x.size) for x in self.files.entries(self.folder))
        return {name: size for name, size in entries if PartFile.parse(name)}

    def read(self, name: str, images: int) -> bytes | None:
        """Return a file if it is sound: these features of so many images, every page intact."""
        try:
            data = self.files.get(f"{self.folder}/{name}")
            file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
            is_ours = (file.schema_arrow.metadata or {}).get(KEY) == self.key.encode()
            return data if is_ours and file.read().num_rows == images else None
        except UNREADABLE:
            return None

    def put(self, name: str, data: bytes) -> None:
        self.files.put(f"{self.folder}/{name}", data)

    def require_own(self, place: Path) -> None:
        """Raise `LayerwiseError` for files that are no Parquet, or of other features.

        `place` is the folder as a user names it.
        """
        for entry in sorted(self.files.entries(self.folder)):
            name = entry.path.rpartition("/")[2]
            if name.startswith(".") or not name.endswith(".parquet"):
                continue
            try:
                metadata = pq.read_schema(entry.path, filesystem=self.files.fs).metadata or {}
            except UNREADABLE as error:
                message = f"{place / name} is no Parquet file; give another --to"
                raise LayerwiseError(message) from error
            if metadata.get(KEY) != self.key.encode():
                raise LayerwiseError(f"{place} holds other features ({name}); give another --to")


def write(
    parts: Parts,
    extractor: Extractor,
    classes: Sequence[int | None],
    network: str,
    *,
    cached: Parts | None = None,
    advance: Callable[[int, int], Any] = lambda _done, _all: None,
    stop: Callable[[], bool] = lambda: False,
) -> Written | None:
    """Write the parts that are missing or damaged. Return None once `stop` returns True.

    `classes` are the class indices behind the labels, and `network` is the network's id. A sound
    part of `cached` is copied. `advance` takes the images done and all images. Raises `DataError`
    for a local disk that is too small.
    """
    present = parts.present()
    _require_room(parts, extractor, present)
    known = cached.present() if cached else {}
    total, done = sum(map(len, extractor.images.values())), 0
    sizes, sums = [], {}
    for subset, first in extractor.places():
        if stop():
            return None
        name = PartFile(subset, first).name
        images = min(extractor.at_once, len(extractor.images[subset]) - first)
        data = parts.read(name, images) if name in present else None
        if data is None:
            data = cached.read(name, images) if cached and name in known else None
            if data is None:
                part = extractor.part(subset, first)
                data = _serialised(part, classes, {KEY: parts.key, b"network": network})
            parts.put(name, data)
        sizes.append(len(data))
        sums[name] = checksum(data)
        done += images
        advance(done, total)
    return Written(len(sizes), sum(sizes), digest([sums[name] for name in sorted(sums)]))


def _require_room(parts: Parts, extractor: Extractor, present: dict[str, int]) -> None:
    """Raise `DataError` if the disk of a local folder cannot hold the missing parts."""
    if not isinstance(parts.files, LocalFiles):
        return
    missing = len(extractor.places()) - len(present)
    images = sum(map(len, extractor.images.values()))
    each = 4 * sum(extractor.sizes.values())
    needed = each * min(images, missing * extractor.at_once)
    free, place = free_bytes(Path(parts.folder))
    if needed > free:
        raise DataError(
            f"the features need {needed / 1e9:.1f} GB, and {place} has {free / 1e9:.1f} GB free: "
            "pool them, name fewer layers, or choose another disk"
        )


def free_bytes(folder: Path) -> tuple[int, Path]:
    """Return the free bytes of the disk of a folder, which may not exist yet, and a place on it."""
    place = next(x for x in (folder, *folder.absolute().parents) if x.exists())
    return shutil.disk_usage(place).free, place


def _serialised(part: Part, classes: Sequence[int | None], metadata: dict[bytes, str]) -> bytes:
    """Return a part as a Parquet file. Vectors are fixed-size lists: numpy reads them uncopied."""
    columns: dict[str, Any] = {
        "image": pa.array(part.images, pa.int64()),
        "subset": pa.array([part.subset] * len(part.images)),
        "label": pa.array(part.labels, pa.int64()),
        "class_index": pa.array([classes[label] for label in part.labels], pa.int64()),
    }
    for layer, values in part.features.items():
        flat = pa.array(values.reshape(-1))
        columns[f"layer{layer}"] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    sink = pa.BufferOutputStream()
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, sink, write_page_checksum=True)
    data: bytes = sink.getvalue().to_pybytes()
    return data
