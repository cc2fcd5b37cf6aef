"""Errors that a user can cause. The command line prints the message and exits with code 2."""

from __future__ import annotations


class LayerwiseError(Exception):
    """Base class. The message says what is wrong, where, and the way out."""


MOST_MISTAKES = 10  # lines that a message shows


class SweepError(LayerwiseError):
    """One or more mistakes in a sweep file; `mistakes` holds one line per mistake.

    The message has the first ten lines, and says how many more there are.
    """

    def __init__(self, mistakes: list[str]):
        lines, more = mistakes[:MOST_MISTAKES], len(mistakes) - MOST_MISTAKES
        if more > 0:
            lines = [*lines, f"and {more:,} more {'mistake' if more == 1 else 'mistakes'}"]
        super().__init__("\n".join(lines))
        self.mistakes = mistakes


class StoreError(LayerwiseError):
    """The store cannot be read or written, or was written by a newer version."""
