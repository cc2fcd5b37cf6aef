"""Progress of a run outside of a command: in a notebook's cell, or as lines to a function."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console

from orchestrator.execution.items import Item, Unit
from orchestrator.report.console import terminal
from orchestrator.report.progress import RunProgress
from orchestrator.states import State

WIDTH = 120  # characters of a line
Show = Callable[[str], object]


class LineProgress(RunProgress):
    """Progress as one line, given to a function whenever it changes. Messages are lines too."""

    def __init__(self, show: Show, message: Show | None = None):
        super().__init__(Console(file=io.StringIO(), width=WIDTH))
        self.show, self.message = show, message or show

    def begin(
        self,
        items: Sequence[Item],
        ended: Mapping[State, int] | None = None,
        others: Mapping[Unit, Mapping[State, int]] | None = None,
    ) -> None:
        super().begin(items, ended, others)
        self.line_due = math.inf  # the line changes with every event
        self._show()

    def close(self) -> None:
        self.running = 0
        self._show()

    def _show(self) -> None:
        self.show(self.state())

    def _say(self, text: str) -> None:
        self.message(text)


def progress_of(wanted: bool | Show) -> RunProgress:
    """Return the progress that a caller wants: a function's, none, or what fits the surroundings.

    A notebook shows one line that changes; a terminal shows what the commands show there.
    """
    if callable(wanted):
        return LineProgress(wanted)
    if not wanted:
        return LineProgress(lambda _: None)
    if show := _cell():
        return LineProgress(show, print)
    return RunProgress(terminal())


def _cell() -> Show | None:
    """Return a function that replaces a line below the cell of a notebook; None elsewhere."""
    return _marimo() or _jupyter()


def _marimo() -> Show | None:
    marimo: Any = sys.modules.get("marimo")
    if marimo is None or not marimo.running_in_notebook():
        return None
    return lambda text: marimo.output.replace(marimo.plain_text(text))


def _jupyter() -> Show | None:
    ipython: Any = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    if not shell or not hasattr(shell, "kernel"):
        return None
    handle: Any = None

    def show(text: str) -> None:
        nonlocal handle
        content = {"text/plain": text}
        if handle is None:
            handle = ipython.display.display(content, raw=True, display_id=True)
        else:
            handle.update(content, raw=True)

    return show
