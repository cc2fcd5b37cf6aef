"""The user's own lines in the traceback of an exception, and the text of the traceback."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Collection
from pathlib import Path
from types import FrameType, TracebackType

HERE = Path(__file__).resolve().parents[1]
OUR_FOLDERS = tuple(str(HERE / name) for name in ("trainers", "orchestrator"))
LIBRARIES = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
MESSAGE = 300  # characters of an exception's message that one line shows
HEAD, TAIL = 2_000, 6_000  # characters of a traceback's beginning and end that are kept

Line = tuple[FrameType, int]


def raised(error: BaseException, names: Collection[str] = ()) -> str:
    """Return `RuntimeError: no such disk (/home/me/mine.py:8)`: the exception and the user's line.

    `names` are the functions that a sweep names. The line is the last one in their packages, or
    the last one outside of libraries, or the last one.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"SyntaxError: {_first_line(error)}"  # it names file and line itself
    below = lines_below(error.__traceback__, names)
    below = _last_line(error.__traceback__) if below is None else below
    return f"{type(error).__name__}: {_first_line(error)}{_place(error, below)}"


def message(error: BaseException, names: Collection[str] = ()) -> str:
    """Return the first line of a message, with the user's line if there is one; see `raised`."""
    below = lines_below(error.__traceback__, names)
    return _first_line(error) + ("" if below is None else _place(error, below))


def _first_line(error: BaseException) -> str:
    text = str(error).partition("\n")[0]
    return text if len(text) <= MESSAGE else text[: MESSAGE - 1] + "…"


def _place(error: BaseException, below: int) -> str:
    """Return ` (/home/me/mine.py:8)`, or "" for an exception that was never raised."""
    if not (lines := _lines(error.__traceback__)):
        return ""
    frame, number = lines[-1 - below]
    return f" ({frame.f_code.co_filename}:{number})"


def lines_below(trace: TracebackType | None, names: Collection[str] = ()) -> int | None:
    """Return how many lines of a traceback come after the user's last one; None without one.

    `names` are as in `raised`.
    """
    packages = {name.partition(":")[0].partition(".")[0] for name in names if ":" in name}
    frames = [frame for frame, _ in reversed(_lines(trace))]
    in_package = [below for below, frame in enumerate(frames) if _package(frame) in packages]
    outside = [below for below, frame in enumerate(frames) if _is_outside(frame)]
    return next(iter(in_package or outside), None)


def _last_line(trace: TracebackType | None) -> int:
    """Return how many lines of generated code come after the last line of a file."""
    frames = [frame for frame, _ in reversed(_lines(trace))]
    return next((below for below, frame in enumerate(frames) if not _is_generated(frame)), 0)


def is_ours(error: BaseException, package: str) -> bool:
    """Return whether layerwise's last line in a traceback is in `package`, such as `trainers`."""
    ours = [_package(frame) for frame, _ in _lines(error.__traceback__)]
    ours = [name for name in ours if name in ("trainers", "orchestrator")]
    return ours[-1:] == [package]


def refuse_breakpoint(*_: object, **__: object) -> None:
    """Raise `RuntimeError`: the `breakpoint()` of a process without a terminal."""
    raise RuntimeError("breakpoint() needs a terminal: train this trial with layerwise debug")


def traceback_text(error: BaseException) -> str:
    """Return the traceback, of which the middle is left out if it is long."""
    text = "".join(traceback.format_exception(error)).rstrip()
    left_out = len(text) - HEAD - TAIL
    if left_out <= 0:
        return text
    return f"{text[:HEAD]}\n… {left_out:,} characters …\n{text[-TAIL:]}"


def _lines(trace: TracebackType | None) -> list[Line]:
    """Return the frames of a traceback with their line numbers."""
    return list(traceback.walk_tb(trace))


def _is_generated(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith("<")


def _package(frame: FrameType) -> str:
    name: str = frame.f_globals.get("__name__", "")
    return name.partition(".")[0]


def _is_outside(frame: FrameType) -> bool:
    """Return whether a frame's file belongs neither to layerwise nor to a library."""
    path = frame.f_code.co_filename
    parts = Path(path).parts
    is_installed = "site-packages" in parts or "dist-packages" in parts
    is_library = is_installed or path.startswith((*OUR_FOLDERS, *LIBRARIES))
    return not is_library and not _is_generated(frame)
