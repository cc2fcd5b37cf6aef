"""`Watcher`: a thread that looks at a sweep's store while somebody watches it.

The web server never waits for the store. It sends what the thread saw last, and is told when there
is more.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator

from orchestrator.store.store import Store
from orchestrator.watch.drawing import Drawer, Drawing
from orchestrator.watch.fragments import Fragments, fragments
from orchestrator.watch.observation import Observation, Observer, with_problem

NEAR, FAR = 0.5, 5.0  # seconds between looks at a folder, and at an object store, which bills them
GLANCED = 0.05  # seconds between glances at whether a folder has changed, between two looks
GLANCED_AT = ("rows", "trials", "sweeps", "studies", "measurements", "extractions")
CALM = 4.0  # a look that took a second is followed by so many without one
LINGER = 15.0  # seconds of looking on after the last request
REDRAWN = 3.0  # least seconds between two figures, of which drawing takes a quarter at most
TRIED_AGAIN = 30.0  # seconds after which files are read again that could not be read


class Watcher:
    """Looks at one sweep. Pages read `parts`, and `changes` tells them of new ones."""

    def __init__(self, place: str, sweep: str, token: str):
        """`place` is the store. The thread begins with the first request."""
        self.observer, self.token = Observer(place, sweep), token
        self.store = Store(place)
        self.every = FAR if self.store.is_remote else NEAR
        self.drawer = Drawer()
        self.drawing: Drawing | None = None
        self.drawn: tuple[object, ...] = ()
        self.asked = self.looked = self.draw_due = float("-inf")
        self.draw_began = 0.0
        self.seen: Observation = self.observer.last
        self.parts: Fragments = fragments(self.seen, None, token)
        self.listeners: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self.awake = threading.Event()
        self.thread: threading.Thread | None = None
        self.is_closed = False

    async def latest(self, patience: float) -> Observation:
        """Return the last observation, after a new look if there was none of late.

        Waits for it at most `patience` seconds.
        """
        self.asked = time.monotonic()
        if time.monotonic() - self.looked > 2 * self.every + 1.0:
            with self.changes() as changed, contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), patience)
        return self.seen

    @contextlib.contextmanager
    def changes(self) -> Iterator[asyncio.Event]:
        """Yield an event that is set after each look, for as long as the context lasts."""
        listener = asyncio.get_running_loop(), asyncio.Event()
        self.listeners.add(listener)
        self._wake()
        try:
            yield listener[1]
        finally:
            self.listeners.discard(listener)
            self.asked = time.monotonic()

    def close(self) -> None:
        """Let the thread end soon, and tell all who listen. A signal's handler may do so."""
        self.is_closed = True
        self.awake.set()
        self._tell()

    def _wake(self) -> None:
        if self.thread is None or not self.thread.is_alive():
            self.thread = threading.Thread(target=self._run, daemon=True)
            self.thread.start()
        self.awake.set()

    def _run(self) -> None:
        try:
            while not self.is_closed:
                self.awake.clear()
                if not self.listeners and time.monotonic() > self.asked + LINGER:
                    self.drawer.close()
                    self.awake.wait()
                began, folders = time.monotonic(), self._glance()
                self.step()
                self._pause(CALM * (time.monotonic() - began), folders)
        except Exception as error:  # a page must not look as if it were up to date
            text = f"layerwise no longer looks at the store: {error!r}. Load the page to try again."
            self.seen = with_problem(self.seen, text)
            self.parts = fragments(self.seen, self.drawing, self.token)
            self._tell()
            raise
        finally:
            self.drawer.close()

    def step(self) -> None:
        """Look at the store, and make the parts of the page anew."""
        self.seen = self.observer.look(self.drawing.times if self.drawing else None)
        if self._is_due():
            self.drawn, self.draw_began = self.seen.content, time.monotonic()
            self.drawer.ask(self.observer.place, self.seen.sweep)
        self.parts = fragments(self.seen, self.drawing, self.token)
        self.looked = time.monotonic()
        self._tell()

    def _is_due(self) -> bool:
        """Return whether to draw the figure: there are new results, or files to try again."""
        if self.drawer.is_busy or not self.seen.whole.complete or self.seen.problem:
            return False
        if self.seen.content != self.drawn:
            return time.monotonic() >= self.draw_due
        has_gaps = self.drawing is not None and bool(self.drawing.damaged)
        return has_gaps and time.monotonic() >= self.draw_due + TRIED_AGAIN

    def _glance(self) -> object:
        """Return what differs as soon as a trial or another item has ended, in a folder."""
        return self.store.files.glance([self.store.path(name) for name in GLANCED_AT])

    def _pause(self, least: float, folders: object) -> None:
        """Wait until the next look is due, and take the figure if it is drawn meanwhile.

        A look is due after so many seconds at least, when the folders are no longer as they were
        or somebody has come, and at the latest after the usual time.
        """
        began = time.monotonic()
        while not self.is_closed and (waited := time.monotonic() - began) < max(least, self.every):
            if not self.drawer.is_busy:
                time.sleep(GLANCED)
            elif (drawing := self.drawer.answer(GLANCED)) is not None:
                self._take(drawing)
            if waited >= least and (self.awake.is_set() or self._glance() != folders):
                return

    def _take(self, drawing: Drawing) -> None:
        """Show a figure that has been drawn."""
        self.drawing = drawing
        took = time.monotonic() - self.draw_began
        self.draw_due = time.monotonic() + max(REDRAWN, 3 * took)
        self.parts = fragments(self.seen, drawing, self.token)
        self._tell()

    def _tell(self) -> None:
        for loop, event in list(self.listeners):
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(event.set)
