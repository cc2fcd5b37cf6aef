"""Leases: files that name the runs which use a store now, and their progress.

`clean` removes nothing that a run with a lease needs. `status --follow` shows these runs.
`leases/<sweep>-<token>.json` holds for a while and is renewed; the lease of a run that was killed
expires. This needs nothing but whole files, so it works on any kind of store.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orchestrator.errors import StoreError
from orchestrator.store.names import LeaseFile
from orchestrator.store.store import Store

log = logging.getLogger(__name__)

RENEWED = 15.0  # seconds between renewals
HOLDS = 120.0  # seconds for which a lease holds
CLOCKS = 300.0  # seconds by which the clocks of two machines may differ, where files are compared
FOLDER = "leases"

Doing = tuple[int, float | None]  # items running, and seconds left or None


@dataclass(frozen=True, kw_only=True)
class Lease:
    """Use of a store by one run, at the time of writing."""

    sweep: str
    host: str
    pid: int
    began: float
    """Seconds since 1970."""
    written: float
    """Seconds since 1970."""
    running: int
    """Items under way."""
    seconds_left: float | None
    """Time left; None as long as nothing has ended."""

    @property
    def holds(self) -> bool:
        return time.time() < self.written + HOLDS


@contextlib.contextmanager
def in_use(
    store: Store, sweep: str, look: Callable[[], Doing] = lambda: (0, None)
) -> Iterator[None]:
    """Hold a lease of the store while a run of this sweep uses it. Raises `StoreError`.

    `look` says what the run is doing; each renewal writes it.
    """
    store.make()
    path = store.path(FOLDER, LeaseFile(sweep, secrets.token_hex(8)).name)
    began, ended, failing = time.time(), threading.Event(), threading.Event()

    def write(doing: Doing) -> None:
        lease = Lease(
            sweep=sweep,
            host=socket.gethostname(),
            pid=os.getpid(),
            began=began,
            written=time.time(),
            running=doing[0],
            seconds_left=doing[1],
        )
        store.put(path, json.dumps(vars(lease)).encode())

    def renew() -> None:
        doing: Doing = 0, None
        while not ended.wait(RENEWED):
            with contextlib.suppress(Exception):  # a failed estimate must not end the lease
                doing = look()
            try:
                with store.files.once():  # there is another renewal soon
                    write(doing)
                failing.clear()
            except StoreError as error:  # the run meets the failure itself
                if not failing.is_set():
                    log.warning("%s; trying again", error)
                failing.set()

    write((0, None))
    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=10.0)
        if not failing.is_set() and not thread.is_alive():  # else it expires
            with contextlib.suppress(StoreError), store.files.once():
                store.delete(path)


def leases(store: Store, sweep: str | None = None) -> list[Lease]:
    """Return the leases that hold now, one per run: of all sweeps, or of one."""
    read = [_read(store, name) for name in store.names(FOLDER) if _is_of(name, sweep)]
    return [lease for lease in read if lease is not None and lease.holds]


def expired(store: Store) -> list[str]:
    """Return the paths of leases that runs left behind when they were killed."""
    read = {name: _read(store, name) for name in store.names(FOLDER) if LeaseFile.parse(name)}
    return [
        store.path(FOLDER, name) for name, lease in read.items() if lease is None or not lease.holds
    ]


def _is_of(name: str, sweep: str | None) -> bool:
    file = LeaseFile.parse(name)
    return file is not None and sweep in (None, file.sweep)


def _read(store: Store, name: str) -> Lease | None:
    """Return a lease; None if it is gone or no lease."""
    try:
        return Lease(**json.loads(store.get(store.path(FOLDER, name))))
    except (FileNotFoundError, ValueError, TypeError):
        return None
