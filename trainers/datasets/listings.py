"""Listings of the image files in a folder, with a hash of the content of each.

Contents are hashed once. A listing in the cache keeps the hash of each file with its size, times of
change and inode; a file that differs in one of them is hashed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainers import whole_file
from trainers.datasets.images import HASH_BYTES, DataError, content_hash, first_few
from trainers.datasets.places import cache
from trainers.datasets.sets import whole_numbers

# The endings that torchvision takes for images, and more of the formats that are read.
EXTENSIONS = (
    *(".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),
    *(".jfif", ".jpe", ".gif"),
)
# Folders that operating systems and network disks make, with thumbnails or deleted files.
NO_DATA = ("@eaDir", "#recycle", "#snapshot", "@Recycle", "__MACOSX", "lost+found", "$RECYCLE.BIN")
FORMAT = 2
SETTLED = 2.0  # seconds within which two changes may get the same time
THREADS = min(32, 4 * (os.cpu_count() or 1))  # that read files
BLOCK = 256  # files per task of a thread
LINE_SECONDS = 10.0  # between two lines of progress
SAVE_SECONDS = 60.0  # between two savings of an unfinished listing


@dataclass(frozen=True)
class Scan:
    """The image files of one set, in the order of their names, as its folders describe them."""

    classes: tuple[str, ...]
    """The names of the class folders, sorted; as numbers if all are whole numbers."""

    counts: list[int]
    """Images of each class."""

    names: list[str]
    """N names, `class/file`, sorted within each class."""

    stamps: np.ndarray
    """Size, times of change of content and of file in nanoseconds, and inode: (N, 4), int64."""

    passed_over: Mapping[str, int]
    """Counts of the files and folders that are no images: by ending, or by kind."""

    @property
    def labels(self) -> np.ndarray:
        """Class indices (N,), int64."""
        return np.repeat(np.arange(len(self.classes), dtype=np.int64), self.counts)

    @property
    def sizes(self) -> np.ndarray:
        """Bytes of each file (N,), int64."""
        return self.stamps[:, 0]


@dataclass(frozen=True)
class Tree(Scan):
    """The image files of one set, with their contents."""

    hashes: np.ndarray
    """The `content_hash` of each file (N, 16), uint8."""

    @property
    def fingerprint(self) -> str:
        """A hash over the pairs (name, content hash)."""
        hasher = hashlib.sha256()
        for name, content in zip(self.names, self.hashes, strict=True):
            hasher.update(f"{name}\0".encode() + content.tobytes())
        return hasher.hexdigest()[:16]


def list_images(folder: Path) -> Tree:
    """Return the image files of a folder, with the hashes of their contents.

    Files that the listing in the cache does not know, or that changed since, are read and hashed;
    progress is shown on standard error. Of several processes on a machine one does so, and the
    others wait. Raises `DataError`.
    """
    return hashed(folder, scan(folder))


def hashed(folder: Path, files: Scan) -> Tree:
    """Return the image files of a scan with the hashes of their contents. Raises `DataError`."""
    listing = _listing_path(folder)
    hashes, known = _known_hashes(listing, files)
    if not known.all():
        with _alone(listing):
            hashes, known = _known_hashes(
                listing, files
            )  # another process may have hashed them meanwhile
            _hash_missing(folder, files, hashes, known, listing)
    return Tree(files.classes, files.counts, files.names, files.stamps, files.passed_over, hashes)


def _hash_missing(
    folder: Path, files: Scan, hashes: np.ndarray, known: np.ndarray, listing: Path
) -> None:
    """Hash the files that are not `known`, in place, and keep the hashes in the listing."""
    missing = np.flatnonzero(~known)
    began, done = time.time_ns(), 0
    shown = saved = time.monotonic()

    def read(indices: np.ndarray) -> None:
        for index in indices:
            hashes[index] = np.frombuffer(_hash_file(folder / files.names[index]), np.uint8)

    def save() -> None:
        # A file that changed just now may change again and keep its times.
        settled = known & (files.stamps[:, 1:3].max(axis=1) < began - SETTLED * 1e9)
        with contextlib.suppress(OSError):  # a full or read-only disk only costs time
            _write_listing(listing, files, hashes, settled)

    blocks = [missing[first : first + BLOCK] for first in range(0, len(missing), BLOCK)]
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for block, _ in zip(blocks, pool.map(read, blocks), strict=True):
                known[block] = True
                done += len(block)
                now = time.monotonic()
                if now - shown > LINE_SECONDS:
                    shown = now
                    line = f"hashing {folder}: {done:,} of {len(missing):,} images"
                    print(line, file=sys.stderr, flush=True)
                if now - saved > SAVE_SECONDS:
                    saved = now
                    save()
        finally:
            pool.shutdown(cancel_futures=True)
            save()


def _hash_file(path: Path) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            return content_hash(file.read())
    except OSError as error:
        raise DataError(f"cannot read image {path}: {error.strerror}") from error


def scan(folder: Path) -> Scan:
    """Return the image files below each `folder/<class>/`, at any depth.

    The order is that of torchvision's `ImageFolder`, except that folders `0` … `11` are in the
    order of these numbers. Names that begin with a dot are ignored. Raises `DataError` for a folder
    that cannot be read, has no classes or has empty classes, and for names that are not UTF-8.
    """
    passed_over: Counter[str] = Counter()
    try:
        entries = _entries(folder, passed_over)
        passed_over.update(_kind(entry.name) for entry in entries if not entry.is_dir())
        classes = tuple(sorted(entry.name for entry in entries if entry.is_dir()))
        if numbers := whole_numbers(classes):
            classes = tuple(name for _, name in sorted(zip(numbers, classes, strict=True)))
        names: list[str] = []
        stamps: list[tuple[int, int, int, int]] = []
        counts = []
        for name in classes:
            files = sorted(_walk(folder / name, name, passed_over))
            names += [file for file, _ in files]
            stamps += [stamp for _, stamp in files]
            counts.append(len(files))
    except OSError as error:
        where = error.filename or folder
        raise DataError(f"cannot read data folder {where}: {error.strerror}") from error
    if not classes:
        raise DataError(f"{folder} has no class folders: expected {folder}/<class>/<image files>")
    if empty := [name for name, count in zip(classes, counts, strict=True) if not count]:
        raise DataError(f"{folder}: classes without an image: {first_few(empty)}")
    for file in names:
        try:
            file.encode()
        except UnicodeEncodeError as error:
            message = f"{folder}: the name of file {file!r} is not UTF-8: rename it"
            raise DataError(message) from error
    return Scan(classes, counts, names, np.array(stamps, np.int64), passed_over)


def _entries(folder: Path, passed_over: Counter[str]) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, and count those that are hidden or no data."""
    chosen = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in NO_DATA:
                passed_over[f"folder {entry.name}"] += 1
            elif entry.name.startswith("."):
                passed_over["hidden"] += 1
            else:
                chosen.append(entry)
    return chosen


def _walk(
    folder: Path, name: str, passed_over: Counter[str]
) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Yield name and stamp of every image file below a folder, and count other files."""
    for entry in _entries(folder, passed_over):
        if entry.is_dir():
            yield from _walk(folder / entry.name, f"{name}/{entry.name}", passed_over)
        elif not entry.name.lower().endswith(EXTENSIONS):
            passed_over[_kind(entry.name)] += 1
        elif not stat.S_ISREG((status := entry.stat()).st_mode):  # a pipe would never end
            passed_over["no regular file"] += 1
        else:
            yield f"{name}/{entry.name}", stamp_of(status)


def stamp_of(status: os.stat_result) -> tuple[int, int, int, int]:
    """Return the stamp of a file: size, times of change of content and of file, and inode."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _kind(name: str) -> str:
    return Path(name).suffix.lower() or "without an ending"


def _listing_path(folder: Path) -> Path:
    """Return the path of a folder's listing. Nodes with disks of their own may share a cache."""
    key = hashlib.sha256(f"{folder.resolve()}\0{folder.stat().st_ino}".encode()).hexdigest()[:16]
    return cache() / "listings" / f"{key}.arrow"


@contextlib.contextmanager
def _alone(listing: Path) -> Iterator[None]:
    """Let one process at a time hash the files of a listing."""
    import filelock

    with contextlib.ExitStack() as stack:
        # Without locks, as on some network disks, two processes do the same work.
        with contextlib.suppress(OSError, NotImplementedError):
            listing.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(filelock.FileLock(listing.with_suffix(".lock")))
        yield


def _known_hashes(listing: Path, files: Scan) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes (N, 16) that a listing has, and the mask (N,) of the files it knows."""
    count = len(files.names)
    hashes, known = np.zeros((count, HASH_BYTES), np.uint8), np.zeros(count, bool)
    if (listed := _read_listing(listing)) is None:
        return hashes, known
    names, stamps, contents = listed
    if names == files.names:
        here = there = np.arange(count)
    else:
        positions = {name: position for position, name in enumerate(names)}
        there = np.array([positions.get(name, -1) for name in files.names])
        here = np.flatnonzero(there >= 0)
        there = there[here]
    equal = (stamps[there] == files.stamps[here]).all(axis=1)
    known[here[equal]] = True
    hashes[here[equal]] = contents[there[equal]]
    return hashes, known


def _read_listing(listing: Path) -> tuple[list[str], np.ndarray, np.ndarray] | None:
    """Return names, stamps (M, 4) and hashes (M, 16); None for a missing, damaged or old one."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(listing)) as file:
            table = pa.ipc.open_file(file).read_all().combine_chunks()
            if json.loads(table.schema.metadata[b"layerwise"])["format"] != FORMAT or not len(
                table
            ):
                return None
            stamps = np.stack([table[column].to_numpy() for column in STAMPS], axis=1)
            buffer = np.frombuffer(table["hash"].chunk(0).buffers()[1], np.uint8)
            contents = buffer[: len(table) * HASH_BYTES].reshape(len(table), HASH_BYTES).copy()
            return table["name"].to_pylist(), stamps, contents
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError, IndexError):
        return None


STAMPS = ("size", "modified", "changed", "inode")


def _write_listing(listing: Path, files: Scan, hashes: np.ndarray, chosen: np.ndarray) -> None:
    """Write the `chosen` files (N,), bool, with their stamps and hashes."""
    import pyarrow as pa

    names = [name for name, is_chosen in zip(files.names, chosen, strict=True) if is_chosen]
    contents = pa.py_buffer(np.ascontiguousarray(hashes[chosen]))
    kind = pa.binary(HASH_BYTES)
    columns = {"name": pa.array(names, pa.string())}
    columns |= {s: pa.array(files.stamps[chosen, i]) for i, s in enumerate(STAMPS)}
    columns |= {"hash": pa.Array.from_buffers(kind, len(names), [None, contents])}
    metadata = {"layerwise": json.dumps({"format": FORMAT})}
    table = pa.table(columns).replace_schema_metadata(metadata)
    with whole_file.replacing(listing) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
