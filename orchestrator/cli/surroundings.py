"""The process that the commands run in: what its terminal, user and folders may lack."""

from __future__ import annotations

import codecs
import logging
import os
import sys
import tempfile
from importlib.abc import MetaPathFinder
from pathlib import Path

import typer

from orchestrator.report.console import shown

SIMPLE = str.maketrans(
    {"−": "-", "±": "+-", "·": ";", "…": "...", "×": "x", "≥": ">=", "≤": "<=", "→": "->", "–": "-"}
)


def echo(text: object, *, err: bool = False) -> None:
    """Print a line. Characters that steer a terminal are shown."""
    typer.echo(shown(str(text)), err=err)


def _shown_in_logs(record: logging.LogRecord) -> bool:
    record.msg, record.args = shown(record.getMessage()), ()
    return True


def settle() -> None:
    """Let the commands work in a terminal without `−`, and for a user without a home folder."""
    logging.getLogger("layerwise").addFilter(_shown_in_logs)
    codecs.register_error("layerwise", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="layerwise")
    give_home()


def do_without_pandas() -> None:
    """Spare a command the import of pandas, which takes 0.4 s of CPU, where it is installed.

    Arrow imports pandas with its first array, to know pandas' objects when it sees them. No command
    has any. `to_pandas` imports it all the same.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    hidden = _Hidden()
    sys.meta_path.insert(0, hidden)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(hidden)


class _Hidden(MetaPathFinder):
    """A finder to which pandas is not installed."""

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError(name=fullname)


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace characters that an encoding lacks by those that every encoding has."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(SIMPLE)
    return text.encode("ascii", "backslashreplace").decode(), error.end


def give_home() -> None:
    """Set HOME and USER where neither the environment nor the system knows them.

    Libraries look for both, and fail without. A container may run as a user that has no entry.
    """
    try:
        Path.home()
    except RuntimeError:
        folder = Path(tempfile.gettempdir(), f"layerwise-home-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():  # another user could write there
            folder = Path(tempfile.mkdtemp(prefix="layerwise-home-"))
        os.environ["HOME"] = str(folder)
        print(f"layerwise: HOME is not set, so caches are kept in {folder}", file=sys.stderr)
    if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        import pwd

        try:
            pwd.getpwuid(os.getuid())
        except KeyError:
            os.environ["USER"] = str(os.getuid())
