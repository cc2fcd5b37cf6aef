"""Signals to the driver of a run that ask it to end, and those that its processes must not get."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

PATIENCE = 20.0  # seconds after the first interrupt; a later one then ends the process at once


class Interrupts:
    """SIGINT and SIGTERM as one `KeyboardInterrupt`: later ones do not disturb the shutdown."""

    def __init__(self) -> None:
        self.first: float | None = None

    def handle(self, *_: object) -> None:
        """Raise `KeyboardInterrupt` the first time. End a shutdown that hangs."""
        now = time.monotonic()
        if self.first is None:
            self.first = now
            raise KeyboardInterrupt
        if now > self.first + PATIENCE:
            os._exit(130)

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """While this holds, handle both signals; after an interrupt, until the process ends."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle) for number in numbers}
        try:
            yield
        finally:
            if self.first is None:
                for number, handler in before.items():
                    signal.signal(number, handler)


@contextlib.contextmanager
def without_hangups() -> Iterator[None]:
    """Block SIGHUP, also in the processes that are started meanwhile.

    A terminal that closes sends it to all of them. Only the driver may act on it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
