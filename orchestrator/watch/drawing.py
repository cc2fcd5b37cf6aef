"""`Drawer`: a process that draws the figure of a sweep, since that takes seconds of a large one.

The answer is read when it is there, so no request waits for it. The process is replaced now and
then: what it has drawn stays in its memory.
"""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from orchestrator.errors import LayerwiseError
from orchestrator.states import State
from orchestrator.stats.measurements import arm

if TYPE_CHECKING:
    from orchestrator.watch.observation import Place

DRAWN = 50  # drawings of one process
MOST_PANELS = 6
WIDTH = 760  # pixels of a panel, without the names of its lines
OF_TIMES = ["outcome", "treatment", "frozen", "n", "seconds_total"]
PROGRAM = """\
import sys
sys.path[:] = sys.argv[1:]
from orchestrator.watch.drawing import serve
serve()
"""


@dataclass(frozen=True)
class Drawing:
    """The figure of a sweep, and the numbers that only its rows have."""

    svg: str = ""
    text: str = ""
    """The figure in words, or why there is none."""
    networks: int = 0
    """Complete networks that it rests on."""
    note: str = ""
    """Meaning of the bands, if the figure is of one population."""
    left_out: int = 0
    """Panels that are not drawn."""
    seconds: tuple[tuple[str, int, float], ...] = ()
    """Arm, number of layers, and median seconds of a complete trial."""
    damaged: tuple[str, ...] = ()
    """Files that cannot be read, with the reason."""

    @property
    def times(self) -> Mapping[Place, float]:
        return {(name, n): number for name, n, number in self.seconds}


def draw(place: str, sweep: str) -> Drawing:
    """Draw the mean differences of a sweep to its own bases, with their intervals."""
    import pyarrow.compute as pc

    from orchestrator.report import rendering
    from orchestrator.report.alternatives import text_of
    from orchestrator.report.drawings import effects_figure
    from orchestrator.report.figures import bands_note
    from orchestrator.stats.statistics import Statistics
    from orchestrator.store.store import Store

    store = Store(place)
    store.damage.is_quiet = True
    try:
        statistics = Statistics.of_sweep(store, sweep)
        rows = statistics.results.select(OF_TIMES).to_pylist()
    except LayerwiseError as error:
        return Drawing(text=str(error))
    numbers: dict[Place, list[float]] = {}
    for row in rows:
        if row["outcome"] == State.COMPLETE and row["seconds_total"]:
            key = arm(row["treatment"], row["frozen"]), row["n"]
            numbers.setdefault(key, []).append(row["seconds_total"])
    seconds = tuple((name, n, median(values)) for (name, n), values in sorted(numbers.items()))
    try:
        panels = effects_figure(statistics).panels
    except LayerwiseError as error:  # no effect yet
        return Drawing(text=str(error), seconds=seconds, damaged=_damaged(store))
    drawn = panels[:MOST_PANELS]
    effects = statistics.effects.filter(pc.equal(statistics.effects["at_chance"], "included"))
    return Drawing(
        svg=rendering.picture(drawn, "svg", columns=1, width=WIDTH).decode(),
        text=text_of(drawn),
        networks=len(statistics.networks),
        note=bands_note(effects.to_pylist()) if len(panels) == 1 else "",
        left_out=len(panels) - len(drawn),
        seconds=seconds,
        damaged=_damaged(store),
    )


def _damaged(store: Any) -> tuple[str, ...]:
    reasons = store.damage.reasons
    return tuple(f"{store.relative(path)}: {flaw}" for path, flaw in sorted(reasons.items()))


class Drawer:
    """Draws one figure at a time in a process of its own."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.is_busy = False
        self.drawn = 0

    def ask(self, place: str, sweep: str) -> None:
        """Begin to draw the figure of a sweep. Nothing may be under way."""
        assert not self.is_busy
        if self.process is None or self.process.poll() is not None or self.drawn >= DRAWN:
            self.close()
            # A session of its own: Ctrl-C in the terminal is not for it.
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", PROGRAM, *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `answer` finds that it has ended
            self.process.stdin.write(json.dumps([place, sweep]).encode() + b"\n")
            self.process.stdin.flush()
        self.is_busy, self.drawn = True, self.drawn + 1

    def answer(self, timeout: float) -> Drawing | None:
        """Return the figure that was asked for; None if it is not there in `timeout` seconds."""
        assert self.process is not None
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], timeout)[0]:
            return None
        line = self.process.stdout.readline()
        self.is_busy = False
        if not line:
            self.close()
            return Drawing(text="the figure could not be drawn; the terminal says why")
        return _read(line)

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        self.process, self.is_busy, self.drawn = None, False, 0


def serve() -> None:
    """Draw what is asked for on standard input, line by line, until it ends."""
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # what libraries print is no answer
    with contextlib.suppress(BrokenPipeError):  # the page's server has ended
        for line in sys.stdin.buffer:
            answers.write(json.dumps(asdict(draw(*json.loads(line)))).encode() + b"\n")
            answers.flush()


def _read(line: bytes) -> Drawing:
    values = json.loads(line)
    values["seconds"] = tuple(tuple(one) for one in values["seconds"])
    return Drawing(**values | {"damaged": tuple(values["damaged"])})
