"""Packs: image datasets that were decoded once, in Arrow files that are memory-mapped.

A pack is a folder. Its shards, `train-00000.arrow` and so on, are Arrow IPC files
(https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format) of one record batch with the
columns `image` (a fixed-shape tensor (3, size, size), uint8), `label` (int32), `name` (of the
image file) and `hash` (of its content; absent in packs of old versions). Images are in the order of
the dataset. `manifest.json` describes the source of the images and holds a checksum of each shard.
`pack_writer.py` writes packs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainers.canonical import digest
from trainers.datasets.images import HASH_BYTES, DataError, Form
from trainers.datasets.sets import Labelled, Stored

FORMAT = 1
MANIFEST = "manifest.json"

Progress = Callable[[int, int], None]  # receives the done and the total amount


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of a pack: its name, number of images, bytes and checksum."""

    file: str
    images: int
    bytes: int
    sha256: str


def folder_name(fingerprint: str, form: Form) -> str:
    """Return the name of a pack's folder, which names all that the pixels depend on."""
    upright = "upright-" if form.orientation == "exif" else ""
    return f"{upright}{form.size}-{form.resize}-{fingerprint}"


def _form(manifest: Mapping[str, Any]) -> Form:
    """Return the form of a pack's images. Packs of old versions hold images as stored."""
    orientation = manifest.get("orientation", "stored")
    return Form(size=manifest["size"], resize=manifest["resize"], orientation=orientation)


def find(folders: Sequence[Path], fingerprint: str, form: Form) -> Path | None:
    """Return the pack of these images in the first of `folders` that has one; None if none has."""
    paths = [folder / folder_name(fingerprint, form) for folder in folders]
    return next((path for path in paths if (path / MANIFEST).is_file()), None)


def refuse_stale(folders: Sequence[Path], images: Stored) -> None:
    """Raise `DataError` if a pack in the first folder was made from other files than `images`.

    Reading the files in its place would be slow, and the user would not know why.
    """
    for folder in folders[:1]:
        for path in sorted(folder.glob(folder_name("*", images.form))):
            if (path / MANIFEST).is_file() and read_manifest(path)["files"] != images.files:
                raise DataError(
                    f"pack {path} was made from other files than are in {images.folder} now, or by "
                    f"a layerwise that did not hash their contents; {_again(path)}"
                )


class Packed:
    """The images (`Pixels`) of one set of a pack; `views` are its shards in the memory map."""

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
            out[row] = self.views[shard][index - self.ends[shard]]  # negative: from the shard's end


def read(folder: Path) -> Stored:
    """Return the images of a pack, mapped into memory but not read.

    The manifest and the size and footer of each shard are checked here; `verify` checks all bytes.
    Raises `DataError` for a pack that is damaged or has another format.
    """
    manifest = read_manifest(folder)
    sets = {}
    for name, shards in manifest["sets"].items():
        parts = [_map(folder, Shard(**shard)) for shard in shards]
        sets[name] = Labelled(
            Packed([part[0] for part in parts]),
            [file for part in parts for file in part[2].to_pylist()],
            np.concatenate([part[1] for part in parts]).astype(np.int64),
            _hashes([part[3] for part in parts]),
        )
    return Stored(
        folder=folder,
        form=_form(manifest),
        classes=tuple(manifest["classes"]),
        sets=sets,
        fingerprint=manifest["fingerprint"],
        files=manifest["files"],
        pack=manifest["hash"],
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a pack.

    Raises `DataError` if it is damaged, has another format or belongs to another folder.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        version = manifest["format"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"cannot read {path}: {error}; {_again(folder)}") from error
    if version != FORMAT:
        age = "a newer" if isinstance(version, int) and version > FORMAT else "an older"
        raise DataError(
            f"pack {folder} has {age} format, {version}, and this layerwise reads format "
            f"{FORMAT}; {_again(folder)}"
        )
    if manifest.pop("hash", None) != (actual := digest(manifest)):
        raise DataError(f"the manifest of pack {path} was changed; {_again(folder)}")
    form = _form(manifest)
    if folder.name != folder_name(manifest["fingerprint"], form):
        raise DataError(
            f"pack {folder} holds other images, {folder_name(manifest['fingerprint'], form)}; "
            f"{_again(folder)}"
        )
    return manifest | {"hash": actual}


def _hashes(columns: Sequence[Any]) -> np.ndarray | None:
    """Return the content hashes (N, 16) of a set; None if a shard of an old version has none."""
    if any(column is None for column in columns):
        return None
    contents = b"".join(content for column in columns for content in column.to_pylist())
    return np.frombuffer(contents, np.uint8).reshape(-1, HASH_BYTES)


def _map(folder: Path, shard: Shard) -> tuple[np.ndarray, np.ndarray, Any, Any]:
    """Return images (a view of the memory map), labels, names and hashes of a shard."""
    import pyarrow as pa

    path = folder / shard.file
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            raise DataError(
                f"{path} has {size:,} bytes, not the {shard.bytes:,} that were packed; "
                f"{_again(folder)}"
            )
        with pa.memory_map(str(path)) as file:  # the map outlives the open file
            batch = pa.ipc.open_file(file).get_batch(0)
        if batch.num_rows != shard.images:
            counts = f"{batch.num_rows} images, not {shard.images}"
            raise DataError(f"{path} has {counts}; {_again(folder)}")
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"cannot read {path}: {error}; {_again(folder)}") from error
    images: np.ndarray = batch.column("image").to_numpy_ndarray()
    hashes = batch.column("hash") if "hash" in batch.schema.names else None
    return images, batch.column("label").to_numpy(), batch.column("name"), hashes


def no_progress(done: int, total: int) -> None:
    """Report no progress."""


def verify(folder: Path, progress: Progress = no_progress) -> list[str]:
    """Return the files of the shards whose bytes differ from the packed ones.

    `progress` receives the checked and the total number of bytes. Raises `DataError` for a bad
    manifest.
    """
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
        progress(done, total)
    return damaged


def _again(folder: Path) -> str:
    return f"remove {folder} and make it again with: layerwise pack"
