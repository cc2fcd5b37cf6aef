"""The temporary folder of a run, and the end of what killed runs left on this machine.

A run locks its folder, and the processes of its local Ray carry the folder's name in their
environment. The system releases the lock when the run dies, however it dies. Containers may share
the folder of temporary files, but not see each other's processes: a run looks only at those of its
own kind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "layerwise-run-"
LOCK = "lock"
MARK = "LAYERWISE_RUN"  # variable in the environment of the processes that a run starts


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """Yield a temporary folder for one run, after the end of what dead runs left."""
    end_dead_runs()
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as folder,
        Path(folder, LOCK).open("w") as lock,
    ):
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(_visible())
        lock.flush()
        os.environ[MARK] = folder
        try:
            yield folder
        finally:
            os.environ.pop(MARK, None)


def end_dead_runs() -> None:
    """End the processes of this user's dead runs, and remove their folders."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # it is locked by a run that lives, or not locked yet
            if folder.is_symlink() or folder.lstat().st_uid != os.getuid():
                continue
            with (folder / LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if lock.read() != _visible():
                    continue
                for process in _processes(folder):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                shutil.rmtree(folder, ignore_errors=True)


def _visible() -> str:
    """Return a name of the set of processes that this one can see."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def _processes(folder: Path) -> set[int]:
    """Return the processes that a run started, and their descendants; Linux only.

    Ray's workers overwrite their environment with a title, so they are found by their parents.
    """
    mark, parents, marked = f"{MARK}={folder}".encode(), {}, set()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or belongs to another user
            pid = int(place.name)
            parents[pid] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if mark in (place / "environ").read_bytes().split(b"\0"):
                marked.add(pid)
    while below := {pid for pid, parent in parents.items() if parent in marked} - marked:
        marked |= below
    return marked - {os.getpid()}
