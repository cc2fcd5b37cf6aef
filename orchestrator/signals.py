"""The signals that ask this process to end, from its first moment to its last.

SIGINT and SIGTERM ask it to stop, with exit code 130. SIGUSR1, as a batch system or a spot notice
sends it, and SIGHUP of a terminal that closes ask it to end with snapshots, with 75. The first one
decides; only a request for snapshots can still be cut short by one to stop. A process that hangs
is ended with the same code.

Ray and Tune set handlers of their own when they start: `Signals.take` takes the signals back.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

FAILED, DRAINED, INTERRUPTED = 1, os.EX_TEMPFAIL, 130
CODES = {
    signal.SIGINT: INTERRUPTED,
    signal.SIGTERM: INTERRUPTED,
    signal.SIGUSR1: DRAINED,
    signal.SIGHUP: DRAINED,
}
LIMIT = 30.0  # seconds until a process that has to end, and has not, is ended


class Drained(BaseException):
    """The process was asked to end with snapshots when it had nothing to keep."""


class Lost(BaseException):
    """Loss of something that the run needs, such as the cluster's head. The message names it."""


class Signals:
    """The handlers, and what was asked for so far. There is one for the process: `SIGNALS`."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.lost = ""
        self.ask: Callable[[], None] | None = None
        self.terminals: list[int] = []
        self.is_taken = False
        self.is_guest = False
        """True while a run is under way outside of the main thread."""
        self.farewells: list[Callable[[], object]] = []
        """Actions before a hanging process is ended, newest first."""

    def take(self) -> None:
        """Handle the signals. One that was ignored from the start, as under nohup, stays so."""
        if not self.is_taken:
            self.terminals = [one for one in (0, 1, 2) if os.isatty(one)]
            self.is_taken = True
        for number in CODES:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.handle)

    def handle(self, number: int, frame: object = None) -> None:  # noqa: ARG002
        """Raise `KeyboardInterrupt`, `Drained` or `Lost`, or ask the run for snapshots."""
        if self.lost and self.code != FAILED:
            raise self.loss(self.lost)
        code = CODES[signal.Signals(number)]
        if self.code is not None and (self.code, code) != (DRAINED, INTERRUPTED):
            return
        self.code = code
        if number == signal.SIGHUP:
            self._leave_terminal()
        if code == DRAINED and self.ask is not None:
            self.ask()
            return
        raise KeyboardInterrupt if code == INTERRUPTED else Drained

    def loss(self, reason: str) -> Lost:
        """Return what is to be raised because something is gone. Signals are then ignored."""
        self.lost, self.code = reason, FAILED
        return Lost(reason)

    def give_up(self, reason: str) -> None:
        """From another thread: make the main one raise `Lost`, and end the process if it hangs.

        A run outside of the main thread is asked to end instead; the main thread is another's.
        """
        self.lost = reason
        if self.is_guest:
            if self.ask is not None:
                self.ask()
            return
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)

    def _leave_terminal(self) -> None:
        """Let output go nowhere: the terminal is gone, and printing there would be an error."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        for one in self.terminals:
            os.dup2(nowhere, one)
        os.close(nowhere)

    @contextlib.contextmanager
    def farewell(self, action: Callable[[], object]) -> Iterator[None]:
        """Context in which `action` is done before a process that hangs after a loss is ended."""
        self.farewells.append(action)
        yield
        self.farewells.remove(action)

    @contextlib.contextmanager
    def draining(self, ask: Callable[[], None]) -> Iterator[None]:
        """Context in which a request for snapshots calls `ask`, which may interrupt anything.

        Only the main thread can handle signals. In another one they stay with the program.
        """
        if threading.current_thread() is not threading.main_thread():
            self.ask, self.is_guest = ask, True
            try:
                yield
            finally:
                self.ask, self.is_guest, self.lost = None, False, ""
            return
        before = {number: signal.getsignal(number) for number in CODES}
        self.ask = ask
        self.take()
        try:
            yield
        finally:
            self.ask = None
            if before[signal.SIGINT] != self.handle:  # the process goes on, and may run again
                self.code, self.lost = None, ""
                for number, handler in before.items():
                    if handler is not None:  # None: not installed by Python
                        signal.signal(number, handler)

    def watch(self, limit: float = LIMIT) -> None:
        """End the process if it hangs after a signal, also where Python cannot handle one."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(target=self._end_hanging, args=(reader, limit), daemon=True).start()

    def _end_hanging(self, reader: int, limit: float) -> None:
        while True:
            number = os.read(reader, 1)[0]
            if number not in CODES or (CODES[signal.Signals(number)] == DRAINED and self.ask):
                continue
            time.sleep(limit / 3 if self.lost else limit)
            for farewell in self.farewells[::-1] if self.lost else ():
                with contextlib.suppress(Exception):
                    farewell()
            _leave(FAILED if self.lost else self.code or CODES[signal.Signals(number)])


SIGNALS = Signals()


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Handle the signals until this process ends."""
    SIGNALS.take()
    SIGNALS.watch()
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Drained:
        sys.exit(DRAINED)
    finally:
        for number in CODES:
            signal.signal(number, signal.SIG_IGN)
        if SIGNALS.lost:  # Ray has more to do at the exit, for which it would wait
            _leave(FAILED)


def _leave(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


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
