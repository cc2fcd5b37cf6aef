"""Which image files a folder holds: a listing that is kept as long as no folder in it changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainers.datasets.images import DataError, some
from trainers.datasets.places import cache

# What torchvision takes for an image by its name; other files of a folder are left alone.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
FORMAT = 1
SETTLED = 2.0  # seconds after which a change must show in a folder's time


@dataclass(frozen=True)
class Tree:
    """The image files of one set: `names` are `class/file` in sorted order, `sizes` in bytes.

    `fingerprint` is a hash over (name, size); `folders` holds each folder's time and inode.
    """

    classes: tuple[str, ...]
    names: list[str]
    labels: np.ndarray
    sizes: np.ndarray
    fingerprint: str
    folders: dict[str, tuple[int, int]]


def listed(folder: Path) -> Tree:
    """The image files of a folder, from the listing that was kept if no folder has changed since.

    A file added, removed or renamed changes the time of its folder. One that is overwritten in
    place does not; `Files` notices when it reads it. Raises `DataError`.
    """
    kept = _listing(folder)
    tree = _read_listing(kept, folder)
    if tree is None:
        began = time.time_ns()
        tree = scan(folder)
        newest = max(changed for changed, _ in tree.folders.values())
        if newest < began - SETTLED * 1e9:  # else a change might hide behind an equal time
            with contextlib.suppress(OSError):  # it only saves time: a full or read-only home
                _write_listing(kept, tree)
    return tree


def forget(folder: Path) -> None:
    """Look at every file of a dataset's folder the next time."""
    for name in ("train", "val", "test"):
        _listing(folder / name).unlink(missing_ok=True)


def scan(folder: Path) -> Tree:
    """Look at every file of `folder/<class>/`, as deep as there are folders. Raises `DataError`."""
    try:
        folders = {"": _stamp(folder)}
        classes = tuple(sorted(entry.name for entry in _entries(folder) if entry.is_dir()))
        names: list[str] = []
        sizes: list[int] = []
        counts = []
        for name in classes:
            found = sorted(_walk(folder / name, name, folders))
            names += [file for file, _ in found]
            sizes += [size for _, size in found]
            counts.append(len(found))
    except OSError as error:
        where = error.filename or folder
        raise DataError(f"cannot read data folder {where}: {error.strerror}") from error
    if not classes:
        raise DataError(f"{folder} has no class folders: expected {folder}/<class>/<image files>")
    if empty := [name for name, count in zip(classes, counts, strict=True) if not count]:
        raise DataError(f"{folder}: classes without an image: {some(empty)}")
    hasher = hashlib.sha256()
    try:
        for file, size in zip(names, sizes, strict=True):
            hasher.update(f"{file}\0{size}\n".encode())
    except UnicodeEncodeError as error:
        raise DataError(f"{folder}: the name of file {file!r} is not UTF-8: rename it") from error
    labels = np.repeat(np.arange(len(classes)), counts).astype(np.int64)
    fingerprint = hasher.hexdigest()[:16]
    return Tree(classes, names, labels, np.array(sizes, np.int64), fingerprint, folders)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def _walk(
    folder: Path, name: str, folders: dict[str, tuple[int, int]]
) -> Iterator[tuple[str, int]]:
    """(name, bytes) of every image file below a folder; its folders are noted in `folders`."""
    folders[name] = _stamp(folder)
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _walk(folder / entry.name, f"{name}/{entry.name}", folders)
        elif entry.name.lower().endswith(EXTENSIONS):
            yield f"{name}/{entry.name}", entry.stat().st_size


def _stamp(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_mtime_ns, status.st_ino


def _listing(folder: Path) -> Path:
    """Where the listing of a folder is kept."""
    key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return cache() / "listings" / f"{key}.arrow"


def _read_listing(kept: Path, folder: Path) -> Tree | None:
    """A listing that was kept, if all its folders are as they were; none otherwise."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(kept)) as file:
            table = pa.ipc.open_file(file).read_all()
            head: dict[str, Any] = json.loads(table.schema.metadata[b"layerwise"])
            if head.pop("format") != FORMAT:
                return None
            folders = {name: tuple(stamp) for name, stamp in head.pop("folders").items()}
            if any(_stamp(folder / name) != stamp for name, stamp in folders.items()):
                return None
            names = table["name"].to_pylist()
            labels, sizes = (table[c].to_numpy().astype(np.int64) for c in ("label", "size"))
    except (OSError, pa.ArrowInvalid, KeyError):
        return None  # there is none, it is damaged, or a folder is gone: look again
    return Tree(tuple(head["classes"]), names, labels, sizes, head["fingerprint"], folders)


def _write_listing(kept: Path, tree: Tree) -> None:
    import pyarrow as pa

    head = {
        "format": FORMAT,
        "classes": tree.classes,
        "fingerprint": tree.fingerprint,
        "folders": tree.folders,
    }
    columns = {"name": tree.names, "label": tree.labels.astype(np.int32), "size": tree.sizes}
    table = pa.table(columns).replace_schema_metadata({"layerwise": json.dumps(head)})
    kept.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=kept.parent)
    try:
        with os.fdopen(handle, "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        Path(beside).replace(kept)
    except BaseException:
        Path(beside).unlink()
        raise
