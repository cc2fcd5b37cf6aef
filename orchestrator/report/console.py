"""The console that commands print to. Light: rich is imported when a console is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Console", "say", "terminal"]


def terminal(*, errors: bool = False) -> Console:
    """Return a console, of standard error if `errors`, that prints strings as they are."""
    from rich.console import Console

    return Console(highlight=False, markup=False, stderr=errors)


def say(console: Console, text: str) -> None:
    """Print one line, however wide the terminal is."""
    console.print(text, soft_wrap=True)
