"""Packs: an image dataset decoded once, in memory-mapped Arrow files that are read without copying.

A pack is a folder with shards, `train-00000.arrow` and so on, each one record batch with the
columns `image` (a fixed-shape tensor (3, size, size), uint8), `label` and `name` (the file's), and
`manifest.json`, which says what it was made from and holds a checksum of every shard. Images are
in the order of the dataset. `packing.py` writes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainers.config import digest
from trainers.datasets.images import DataError, Form
from trainers.datasets.sets import Labelled, Stored

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of a pack."""

    file: str
    images: int
    bytes: int
    sha256: str


def folder_name(fingerprint: str, form: Form) -> str:
    """The name of a pack's folder: what the pixels depend on."""
    return f"{form.size}-{form.resize}-{fingerprint}"


def find(folders: Sequence[Path], fingerprint: str, form: Form) -> Path | None:
    """The pack of these images in this form, in the first of `folders` that has it."""
    found = [folder / folder_name(fingerprint, form) for folder in folders]
    return next((path for path in found if (path / MANIFEST).is_file()), None)


def refuse_stale(folders: Sequence[Path], images: Stored) -> None:
    """Raise `DataError` if the pack beside the images was made from other files than there are.

    Going on without it would be slow, and nobody would know why.
    """
    for folder in folders[:1]:
        for path in sorted(folder.glob(folder_name("*", images.form))):
            if (path / MANIFEST).is_file() and read_manifest(path)["files"] != images.files:
                raise DataError(
                    f"pack {path} was made from other files than there are in {images.folder} now; "
                    f"{_again(path)}"
                )


class Packed:
    """The images (`Pixels`) of one set of a pack. `views` lie in the memory map, one a shard."""

    def __init__(self, views: Sequence[np.ndarray]):
        self.views = views
        self.ends = np.cumsum([len(view) for view in views])

    @property
    def shape(self) -> tuple[int, int, int, int]:
        _, c, h, w = self.views[0].shape
        return int(self.ends[-1]), c, h, w

    def gather(self, indices: np.ndarray, out: np.ndarray) -> None:
        shards = np.searchsorted(self.ends, indices, side="right")
        for row, (index, shard) in enumerate(zip(indices, shards, strict=True)):
            out[row] = self.views[shard][index - self.ends[shard]]  # counts from the shard's end


def read(folder: Path) -> Stored:
    """A pack's images, mapped into memory and not read.

    Checks the manifest, and the size and footer of each shard; `verify` checks all bytes. Raises
    `DataError` for a pack that is damaged or of another format.
    """
    manifest = read_manifest(folder)
    sets = {}
    for name, shards in manifest["sets"].items():
        parts = [_map(folder, Shard(**shard)) for shard in shards]
        sets[name] = Labelled(
            Packed([part[0] for part in parts]),
            [file for part in parts for file in part[2].to_pylist()],
            np.concatenate([part[1] for part in parts]).astype(np.int64),
        )
    return Stored(
        folder=folder,
        form=Form(size=manifest["size"], resize=manifest["resize"]),
        classes=tuple(manifest["classes"]),
        sets=sets,
        fingerprint=manifest["fingerprint"],
        files=manifest["files"],
        pack=manifest["hash"],
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """A pack's manifest, whole and of this format, and in the folder that it belongs to."""
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        version = manifest["format"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"cannot read {path}: {error}; {_again(folder)}") from error
    if version != FORMAT:
        age = "a newer" if isinstance(version, int) and version > FORMAT else "an older"
        raise DataError(
            f"pack {folder} is of {age} format, {version}, and this layerwise reads format "
            f"{FORMAT}; {_again(folder)}"
        )
    if manifest.pop("hash", None) != (found := digest(manifest)):
        raise DataError(f"the manifest of pack {path} was changed; {_again(folder)}")
    form = Form(size=manifest["size"], resize=manifest["resize"])
    if folder.name != folder_name(manifest["fingerprint"], form):
        raise DataError(
            f"pack {folder} holds other images, {folder_name(manifest['fingerprint'], form)}; "
            f"{_again(folder)}"
        )
    return manifest | {"hash": found}


def _map(folder: Path, shard: Shard) -> tuple[np.ndarray, np.ndarray, Any]:
    """Images, labels and names of a shard; the images are a view of the memory map."""
    import pyarrow as pa

    path = folder / shard.file
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            raise DataError(
                f"{path} has {size:,} bytes, not the {shard.bytes:,} that were packed; "
                f"{_again(folder)}"
            )
        with pa.memory_map(str(path)) as file:  # what is mapped outlives the open file
            batch = pa.ipc.open_file(file).get_batch(0)
        if batch.num_rows != shard.images:
            counts = f"{batch.num_rows} images, not {shard.images}"
            raise DataError(f"{path} has {counts}; {_again(folder)}")
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"cannot read {path}: {error}; {_again(folder)}") from error
    images: np.ndarray = batch.column("image").to_numpy_ndarray()
    return images, batch.column("label").to_numpy(), batch.column("name")


def verify(folder: Path, told: Callable[[int, int], None]) -> list[str]:
    """The shards of a pack whose bytes are not those that were packed; `told` done and total."""
    shards = [Shard(**s) for shards in read_manifest(folder)["sets"].values() for s in shards]
    done, total = 0, sum(shard.bytes for shard in shards)
    damaged = []
    for shard in shards:
        try:
            with (folder / shard.file).open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            sha256 = str(error)
        if sha256 != shard.sha256:
            damaged.append(shard.file)
        done += shard.bytes
        told(done, total)
    return damaged


def _again(folder: Path) -> str:
    return f"remove {folder} and make it again with: layerwise pack"
