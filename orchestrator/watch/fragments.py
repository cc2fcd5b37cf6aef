"""Parts of the page as HTML. Each has a hash, so that only what changed is sent."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.charts import DARK
from orchestrator.report.templates import style, template
from orchestrator.report.wording import count, percent
from orchestrator.watch.drawing import Drawing
from orchestrator.watch.observation import Cell, Observation, Running
from orchestrator.watch.sentences import described

NAMES = ("title", "notes", "state", "map", "figure", "running", "failures", "sweeps")
WIDE, HIGH = 180, 34  # pixels of a curve
MOST_NAMED = 3  # files that are left out
Fragments = Mapping[str, str]


def fragments(seen: Observation, drawing: Drawing | None, token: str) -> Fragments:
    """Return the parts of the page by name. `drawing` is None until the figure is there.

    `token` is for links to other sweeps.
    """
    module = _template("fragments.html").module
    span = _span(seen.running)
    last = max((one.step for one in seen.running), default=1)
    rows = [(one, described(one.curve), _points(one.curve, last, span)) for one in seen.running]
    parts = {
        "title": module.title(seen),
        "notes": module.notes(_notes(seen, drawing)),
        "state": module.state(seen, _shares(seen.whole)),
        "map": module.map(seen, _cells(seen)),
        "figure": module.figure(seen, drawing),
        "running": module.running(seen, rows, [percent(x, 0) for x in span]),
        "failures": module.failures(seen),
        "sweeps": module.sweeps(seen, token),
    }
    return {name: str(parts[name]).strip() for name in NAMES}


def hashes(parts: Fragments) -> str:
    """Return the names of parts with hashes of their content: `notes:0123abcd,state:…`."""
    return ",".join(f"{name}:{_hash(text)}" for name, text in parts.items())


def changed(parts: Fragments, seen: str) -> Fragments:
    """Return the parts that are not as `seen`, the hashes of what a page shows, says."""
    known = set(seen.split(","))
    return {name: text for name, text in parts.items() if hashes({name: text}) not in known}


def page(seen: Observation, parts: Fragments, token: str) -> str:
    """Return the whole page."""
    values = {"seen": seen, "parts": parts, "hashes": hashes(parts), "token": token}
    return str(_template("watch.html").render(values))


def style_sheet() -> str:
    """Return the report's style sheet, the page's own, and the colours of figures in the dark."""
    dark = [
        f'.figure [{kind}="{day}"] {{ {kind}: {night}; }}'
        for day, night in (DARK | {"white": "none"}).items()
        for kind in ("fill", "stroke")
    ]
    own = _source("watch.css")
    return f"{style()}\n{own}\n@media (prefers-color-scheme: dark) {{\n{chr(10).join(dark)}\n}}\n"


def script() -> str:
    return _source("watch.js")


def _source(name: str) -> str:
    from importlib.resources import files

    return files(__package__).joinpath(name).read_text(encoding="utf-8")


@functools.cache
def _template(name: str) -> Any:
    return template(name, __package__)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _notes(seen: Observation, drawing: Drawing | None) -> list[str]:
    notes = [seen.problem] if seen.problem else []
    if drawing and drawing.damaged:
        number, named = len(drawing.damaged), drawing.damaged[:MOST_NAMED]
        more = f"; and {number - len(named)} more" if number > len(named) else ""
        are = "is" if number == 1 else "are"
        notes.append(
            f"{count(number, 'file')} cannot be read and {are} left out of the figure: "
            f"{'; '.join(named)}{more}"
        )
    return notes


def _cells(seen: Observation) -> list[tuple[str, Cell | None, Sequence[Cell | None]]]:
    """Return the rows of the map: a name, and one cell for the whole row or one per layer."""
    return [
        (name, row.get(0), [row.get(n) for n in seen.layers] if 0 not in row else [])
        for name, row in seen.rows.items()
    ]


def _shares(cell: Cell) -> tuple[float, float, float]:
    """Return the parts of a cell that are complete, ended badly, and run, in percent."""
    total = max(1, cell.total)
    return 100 * cell.complete / total, 100 * cell.bad / total, 100 * cell.running / total


def _span(running: Sequence[Running]) -> tuple[float, float]:
    heights = [height for one in running for _, height in one.curve] or [0.0, 1.0]
    return min(heights), max(heights)


def _points(curve: Sequence[tuple[int, float]], last: int, span: tuple[float, float]) -> str:
    """Return a curve as the points of a line. All curves have the same scales."""
    low, high = span[0], max(span[1], span[0] + 1e-9)
    places = [
        (WIDE * step / max(1, last), (HIGH - 4) * (high - y) / (high - low) + 2)
        for step, y in curve
    ]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
