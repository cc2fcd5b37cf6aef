"""The private folder of a run, and the end of what killed runs left on this machine.

`lw-abcd1234/` among the temporary files is open to its user only. It has the lock of the run, the
files of its local Ray, logs included, and those of Tune. It is removed at the end. The system
releases the lock of a run that dies, however it dies; the next run then ends the processes that it
left, and removes its folder.

Containers may share the folder of temporary files but not see each other's processes: a run looks
only at those of its own kind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "lw-"
LOCK = "layerwise.lock"
PATIENCE = 5.0  # seconds until a process has ended; one that waits for a dead disk never does
MARK = "LAYERWISE_RUN"  # variable in the environment of the processes that a run starts
# Unix limits the path of a socket to 107 bytes. Ray uses 64 below its own folder, which is
# `lw-abcd1234/ray` here; TMPDIR of a batch job can be too long.
LONGEST = 107 - 64 - len("/lw-abcd1234/ray/")  # bytes of the folder of temporary files


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Yield a private folder for one run, after the end of what dead runs left."""
    place = temporary()
    end_dead_runs(place)
    with (
        tempfile.TemporaryDirectory(prefix=PREFIX, dir=place, ignore_cleanup_errors=True) as name,
        Path(name, LOCK).open("w") as lock,
    ):
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("\n".join(_visible()))
        lock.flush()
        os.environ[MARK] = name
        try:
            yield Path(name)
        finally:
            os.environ.pop(MARK, None)


def temporary() -> Path:
    """Return the folder of temporary files: RAY_TMPDIR or TMPDIR, or /tmp if those are too long."""
    wanted = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return Path(wanted if len(os.fsencode(wanted)) <= LONGEST else "/tmp")


def end_dead_runs(place: Path) -> None:
    """End the processes of this user's dead runs, and remove their folders."""
    for folder in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # it is locked by a run that lives, or not locked yet
            if folder.is_symlink() or folder.lstat().st_uid != os.getuid():
                continue
            with (folder / LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                machine, boot, processes = lock.read().split("\n")
                here, boot_here, processes_here = _visible()
                if machine != here or (boot == boot_here and processes != processes_here):
                    continue
                end_run(folder)


def end_run(folder: Path) -> None:
    """End the processes of the run that has this folder, and remove it."""
    end_processes(folder)
    shutil.rmtree(folder, ignore_errors=True)


def end_processes(folder: Path) -> None:
    """End the processes of the run that has this folder, but not this process."""
    deadline = time.monotonic() + PATIENCE
    while (processes := _processes(folder)) and time.monotonic() < deadline:
        for process in processes:  # some may have been starting others
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


def _visible() -> tuple[str, str, str]:
    """Return names of this machine, of its start, and of the set of processes seen from here."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return socket.gethostname(), boot, str(Path("/proc/self/ns/pid").readlink())
    return socket.gethostname(), "", ""


def _processes(folder: Path) -> set[int]:
    """Return the living processes that a run started, and their descendants; Linux only.

    Ray's workers overwrite their environment with a title, and outlive their parent. They are
    found by their logs in the folder, to which they write; a user may be reading them.
    """
    mark, inside = f"{MARK}={folder}".encode(), f"{folder}/"
    parents, marked = {}, set()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or belongs to another user
            pid = int(place.name)
            state, parent = (place / "stat").read_text().rpartition(")")[2].split()[:2]
            if state in "ZX" or pid == os.getpid():  # which holds the lock of the folder open
                continue
            parents[pid] = int(parent)
            if mark in (place / "environ").read_bytes().split(b"\0") or any(
                str(file.readlink()).startswith(inside) and _is_written(file)
                for file in (place / "fd").iterdir()
            ):
                marked.add(pid)
    while below := {pid for pid, parent in parents.items() if parent in marked} - marked:
        marked |= below
    return marked


def _is_written(file: Path) -> bool:
    """Return whether a descriptor in /proc/<pid>/fd is open for writing."""
    info = (file.parent.parent / "fdinfo" / file.name).read_text()
    flags = next(line.split()[1] for line in info.splitlines() if line.startswith("flags:"))
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
