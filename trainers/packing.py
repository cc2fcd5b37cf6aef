"""Write a pack: decode every image once, in several processes, shard by shard.

A shard is written beside and renamed, so that a packing that was killed goes on from its whole
shards; the folder gets its final name when everything is in it. Until then it ends in `.partial`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from trainers.config import canonical, digest
from trainers.datasets.images import DataError, Files
from trainers.datasets.sets import Labelled, Stored
from trainers.packs import FORMAT, MANIFEST, folder_name
from trainers.shards import Part, Written, kept, put, write_shard

SHARD_BYTES = 2**28  # of pixels: what a process holds in memory

Told = Callable[[int, int], None]


class CorruptError(DataError):
    """Files that are no whole images, each with what is wrong with it."""

    def __init__(self, files: Sequence[tuple[str, str]]):
        lines = "".join(f"\n  {reason}" for _, reason in files)
        super().__init__(
            f"nothing is packed, for {len(files)} files cannot be read: make them whole, or leave "
            f"them out with --allow-corrupt{lines}"
        )
        self.files = tuple(name for name, _ in files)


def pack(images: Stored, target: Path, *, workers: int, allow_corrupt: bool, told: Told) -> Path:
    """Pack stored images into a folder of `target`, and return that; `told` done and total images.

    Raises `CorruptError` with all corrupt files, unless they are allowed: then they are left out
    and named in the manifest. Raises `DataError` for a full disk. Whatever happens, whole shards
    are kept for the next attempt, and nothing else.
    """
    final = target / folder_name(images.fingerprint, images.form)
    partial = final.with_name(final.name + ".partial")
    if (final / MANIFEST).exists():
        raise DataError(f"pack {final} is there; remove it to make it again")
    parts = [part for name, labelled in images.sets.items() for part in _parts(name, labelled)]
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with _alone(partial):
            manifest = _manifest(images, _write_all(parts, partial, workers, allow_corrupt, told))
            put(partial / MANIFEST, canonical(manifest).encode())
            partial.rename(final)
            for record in final.glob("*-*.json"):
                record.unlink()
    except OSError as error:
        raise DataError(
            f"cannot write the pack into {target}: {error.strerror or error}; the same command "
            "goes on from the shards that are whole"
        ) from error
    return final


def _parts(subset: str, labelled: Labelled) -> list[Part]:
    """The shards of a set, by number, and which images each holds."""
    files = labelled.images
    assert isinstance(files, Files)
    each = max(1, SHARD_BYTES // files.form.bytes)
    parts = []
    for number, first in enumerate(range(0, len(labelled.labels), each)):
        some = slice(first, first + each)
        of_part = Files(files.folder, files.names[some], files.sizes[some], files.form)
        file = f"{subset}-{number:05d}.arrow"
        parts.append(Part(subset, file, of_part, labelled.labels[some]))
    return parts


def _write_all(
    parts: Sequence[Part], partial: Path, workers: int, allow_corrupt: bool, told: Told
) -> list[Written]:
    """Write the shards that are not there yet; what came of each part, in their order."""
    done = {w.file: w for part in parts if (w := kept(part, partial, allow_corrupt))}
    missing = [part for part in parts if part.file not in done]
    space = sum(len(part.labels) * part.images.form.bytes for part in missing)
    free = shutil.disk_usage(partial).free
    if space > free:
        raise DataError(
            f"the pack takes {space / 1e9:.1f} GB more, and {partial.parent} has {free / 1e9:.1f} "
            "GB left: make room, or pack somewhere else with --to"
        )
    images = sum(len(part.labels) for part in parts)
    packed = images - sum(len(part.labels) for part in missing)
    told(packed, images)
    sizes = {part.file: len(part.labels) for part in missing}
    for new in _written(missing, partial, workers, allow_corrupt):
        done[new.file] = new
        packed += sizes[new.file]
        told(packed, images)
    written = [done[part.file] for part in parts]
    if not allow_corrupt and (corrupt := [item for w in written for item in w.corrupt]):
        raise CorruptError(corrupt)
    return written


def _written(
    parts: Sequence[Part], partial: Path, workers: int, allow_corrupt: bool
) -> Iterator[Written]:
    """Write parts in this process, or in several; in the order in which they are ready."""
    if workers == 1:
        for part in parts:
            yield write_shard(part, partial / part.file, allow_corrupt)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with ProcessPoolExecutor(workers, context, initializer=_worker) as pool:
        futures = [
            pool.submit(write_shard, part, partial / part.file, allow_corrupt) for part in parts
        ]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise DataError(
                "a process of the packing died, perhaps for lack of memory (each holds "
                f"{SHARD_BYTES / 1e9:.1f} GB of pixels): run it again with fewer --workers"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _worker() -> None:
    """Leave Ctrl-C to the process that waits for this one, and end with it if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _manifest(images: Stored, written: Sequence[Written]) -> dict[str, object]:
    import PIL

    sets: dict[str, list[dict[str, object]]] = {name: [] for name in images.sets}
    for item in written:
        if item.shard:
            sets[item.subset].append(dataclasses.asdict(item.shard))
    if empty := [name for name, shards in sets.items() if not shards]:
        raise DataError(f"no whole image is left in {' and '.join(empty)}")
    manifest: dict[str, object] = {
        "format": FORMAT,
        "fingerprint": images.fingerprint,
        "files": images.files,
        "size": images.form.size,
        "resize": images.form.resize,
        "classes": images.classes,
        "sets": sets,
        "left_out": [name for item in written for name, _ in item.corrupt],
        "pillow": PIL.__version__,
    }
    return manifest | {"hash": digest(manifest)}


@contextlib.contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Keep other packings out of a folder, and leave nothing in it that is half-written.

    A lock ends with the process that holds it, so that one that was killed is in nobody's way.
    """
    handle = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"another process is packing into {partial}") from error
        _clear(partial)
        try:
            yield
        finally:
            if partial.exists():
                _clear(partial)
                if not any(partial.iterdir()):
                    partial.rmdir()
    finally:
        os.close(handle)


def _clear(partial: Path) -> None:
    for left in partial.glob("*.tmp"):
        left.unlink()
