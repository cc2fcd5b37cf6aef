"""The console that commands print to. Light: rich is imported when a console is made.

Keys of a sweep, names in a store and answers of a query may have characters that steer a terminal.
They are shown, as in `\\x1b[31m`, and never sent.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

__all__ = ["Console", "say", "shown", "terminal"]

# ASCII's and Unicode's control characters but the newline and the tab, and those that turn the
# direction of text around.
STEERING = [
    *range(9),
    *range(11, 32),
    *range(127, 160),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
]
VISIBLE = {code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" for code in STEERING}


def shown(text: str) -> str:
    """Return a string in which characters that steer a terminal are visible."""
    return text.translate(VISIBLE)


def terminal(*, errors: bool = False) -> Console:
    """Return a console, of standard error if `errors`, that prints strings as they are."""
    return _kind()(highlight=False, markup=False, stderr=errors)


@cache
def _kind() -> type[Console]:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.text import Text

    class Visible(Console):
        """A console that sends only its own control sequences to a terminal."""

        def render_str(self, text: str, **options: Any) -> Text:
            """Make a string visible before its width is measured."""
            return super().render_str(shown(text), **options)

        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                text = segment.text if segment.control else shown(segment.text)
                yield Segment(text, segment.style, segment.control)

    return Visible


def say(console: Console, text: str) -> None:
    """Print one line, however wide the terminal is."""
    console.print(text, soft_wrap=True)
