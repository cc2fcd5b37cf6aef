"""A watch over what a run needs: the head of its cluster, the processes of its own Ray, its store.

Ray waits for minutes, or for ever, for a head or a node manager that is gone.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from orchestrator.cluster import internals
from orchestrator.signals import SIGNALS

PERIOD = 2.0  # seconds between two looks
SILENT = 12  # looks, one after the other, to which the head has not answered
GRACE = 3  # looks after a failure of the store, in which other trials may still end


@contextlib.contextmanager
def watched(store_failure: Callable[[], str], is_ours: bool) -> Iterator[None]:
    """Context in which the run ends with `Lost` once the cluster or the store is gone.

    `is_ours`: the cluster runs on this machine alone, and was started for this run.
    """
    ended = threading.Event()
    head = Head(ended)

    def look() -> None:
        failing = 0
        while not ended.wait(PERIOD):
            failing = failing + 1 if store_failure() else 0
            if is_ours and (died := dead()):
                reason = died
            elif head.is_silent():
                reason = "the head of the Ray cluster does not answer"
            elif failing > GRACE:
                reason = f"the store failed: {store_failure()}"
            else:
                continue
            if not ended.is_set():
                SIGNALS.give_up(reason)
            return

    threads = [threading.Thread(target=one, daemon=True) for one in (look, head.ask)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()


def dead() -> str | None:
    """Return a sentence on the process of this machine's own cluster that has died, or None."""
    name = internals.dead_process()
    return f"Ray's {name} on this machine has died" if name else None


class Head:
    """Counter of the head's answers.

    Counts, not times, so that a suspended driver reports no failure.
    """

    def __init__(self, ended: threading.Event):
        self.ended = ended
        self.answers = self.seen = self.misses = 0

    def ask(self) -> None:
        """Ask the head again and again. A head that is gone can hold this up for a minute."""
        while not self.ended.wait(PERIOD):
            self.answers += internals.head_answers()

    def is_silent(self) -> bool:
        """Return whether the head has not answered at the last looks. Call it at each look."""
        self.misses = self.misses + 1 if self.answers == self.seen else 0
        self.seen = self.answers
        return self.misses > SILENT
