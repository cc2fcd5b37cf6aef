"""Write a pack: decode every image once, in several processes, shard by shard.

Until everything is written, the name of the folder ends in `.partial`. Each shard in it is whole,
so that a packing that was killed goes on from its finished shards.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import filelock

from trainers import whole_file
from trainers.canonical import canonical, digest
from trainers.datasets.images import DataError, Files
from trainers.datasets.packs import FORMAT, MANIFEST, Progress, folder_name, no_progress
from trainers.datasets.sets import Labelled, Stored
from trainers.datasets.shards import Part, Written, find_written, write_shard

LOCK = ".lock"  # a file in the partial folder
SHARD_BYTES = 2**28  # bytes of pixels per shard, which a process holds in memory


class CorruptError(DataError):
    """Image files that cannot be decoded; `files` are their names, `set/class/file`."""

    def __init__(self, files: Sequence[tuple[str, str]]):
        lines = "".join(f"\n  {reason}" for _, reason in files)
        super().__init__(
            f"nothing is packed, because {len(files)} files cannot be decoded: replace them, or "
            f"leave them out with --allow-corrupt{lines}"
        )
        self.files = tuple(name for name, _ in files)


def pack(
    images: Stored,
    target: Path,
    *,
    workers: int,
    allow_corrupt: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Pack stored images with `workers` processes into a folder of `target`, and return it.

    `progress` receives the packed and the total number of images. With `allow_corrupt` corrupt
    files are left out and named in the manifest; without it, `CorruptError` names all of them.
    Raises `DataError` if the pack exists, another process is writing it, the disk is full or a
    worker dies. After an error only finished shards are left, for the next attempt.
    """
    final = target / folder_name(images.fingerprint, images.form)
    partial = final.with_name(final.name + ".partial")
    if (final / MANIFEST).exists():
        raise DataError(f"pack {final} exists; remove it to make it again")
    parts = [part for name, labelled in images.sets.items() for part in _parts(name, labelled)]
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with _alone(partial):
            written = _write_all(parts, partial, workers, allow_corrupt, progress)
            manifest = _manifest(images, written)
            whole_file.write(partial / MANIFEST, canonical(manifest).encode())
            partial.rename(final)
            for leftover in (*final.glob("*-*.json"), final / LOCK):
                leftover.unlink()
    except OSError as error:
        raise DataError(
            f"cannot write the pack into {target}: {error.strerror or error}; the same command "
            "goes on from the shards that are whole"
        ) from error
    return final


def _parts(subset: str, labelled: Labelled) -> list[Part]:
    """Divide the images of a set into the parts of its shards, in order."""
    files = labelled.images
    assert isinstance(files, Files)
    per_shard = max(1, SHARD_BYTES // files.form.bytes)
    parts = []
    for number, first in enumerate(range(0, len(labelled.labels), per_shard)):
        rows = slice(first, first + per_shard)
        images = Files(files.folder, files.names[rows], files.hashes[rows], files.form)
        file = f"{subset}-{number:05d}.arrow"
        parts.append(Part(subset, file, images, labelled.labels[rows]))
    return parts


def _write_all(
    parts: Sequence[Part], partial: Path, workers: int, allow_corrupt: bool, progress: Progress
) -> list[Written]:
    """Write the missing shards; return the results of all parts, in their order."""
    done = {w.file: w for part in parts if (w := find_written(part, partial, allow_corrupt))}
    missing = [part for part in parts if part.file not in done]
    space = sum(len(part.labels) * part.images.form.bytes for part in missing)
    free = shutil.disk_usage(partial).free
    if space > free:
        raise DataError(
            f"the pack needs {space / 1e9:.1f} GB more, and {partial.parent} has {free / 1e9:.1f} "
            "GB free: make room, or choose another disk with --to"
        )
    images = sum(len(part.labels) for part in parts)
    packed = images - sum(len(part.labels) for part in missing)
    progress(packed, images)
    sizes = {part.file: len(part.labels) for part in missing}
    for new in _written(missing, partial, workers, allow_corrupt):
        done[new.file] = new
        packed += sizes[new.file]
        progress(packed, images)
    written = [done[part.file] for part in parts]
    if not allow_corrupt and (corrupt := [item for w in written for item in w.corrupt]):
        raise CorruptError(corrupt)
    return written


def _written(
    parts: Sequence[Part], partial: Path, workers: int, allow_corrupt: bool
) -> Iterator[Written]:
    """Write parts in this process or in several; yield the results as they are ready."""
    if workers == 1:
        for part in parts:
            yield write_shard(part, partial / part.file, allow_corrupt)
        return
    context = multiprocessing.get_context("spawn")  # a forked process with threads may hang
    with ProcessPoolExecutor(workers, context, initializer=_worker) as pool:
        futures = [
            pool.submit(write_shard, part, partial / part.file, allow_corrupt) for part in parts
        ]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise DataError(
                "a worker of the packing died, perhaps for lack of memory (each holds "
                f"{SHARD_BYTES / 1e9:.1f} GB of pixels): run it again with fewer --workers"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _worker() -> None:
    """Prepare a worker: it leaves Ctrl-C to the parent process, and ends when that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _manifest(images: Stored, written: Sequence[Written]) -> dict[str, object]:
    """Return the manifest. Raises `DataError` if a set has no shard."""
    import PIL

    sets: dict[str, list[dict[str, object]]] = {name: [] for name in images.sets}
    for item in written:
        if item.shard:
            sets[item.subset].append(dataclasses.asdict(item.shard))
    if empty := [name for name, shards in sets.items() if not shards]:
        raise DataError(f"no image is left in {' and '.join(empty)}")
    manifest: dict[str, object] = {
        "format": FORMAT,
        "fingerprint": images.fingerprint,
        "files": images.files,
        "size": images.form.size,
        "resize": images.form.resize,
        "orientation": images.form.orientation,
        "classes": images.classes,
        "sets": sets,
        "left_out": [name for item in written for name, _ in item.corrupt],
        "pillow": PIL.__version__,
    }
    return manifest | {"hash": digest(manifest)}


@contextlib.contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Keep other packings out of a folder, and leave no half-written file in it.

    The lock ends with the process that holds it: a packing that was killed blocks no other one.
    """
    lock = filelock.FileLock(partial / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise DataError(f"another process is packing into {partial}") from error
    try:
        _clear(partial)
        yield
    except BaseException:
        if partial.exists():  # not renamed: it is still this packing's
            _clear(partial)
            (partial / LOCK).unlink()
            if not any(partial.iterdir()):
                partial.rmdir()
        raise
    finally:
        lock.release()


def _clear(partial: Path) -> None:
    """Remove the half-written files that a killed packing left."""
    for half in partial.glob("*.tmp"):
        half.unlink()
