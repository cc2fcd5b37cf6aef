"""The errors that a user can cause. The command line prints each as one line and exits with 2."""

from __future__ import annotations


class LayerwiseError(Exception):
    """Base class: the message says what is wrong, where, and the way out."""


class SweepError(LayerwiseError):
    """One or more mistakes in a sweep file; `mistakes` has one line for each."""

    def __init__(self, mistakes: list[str]):
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class StoreError(LayerwiseError):
    """The store cannot be read or written, or holds what this version does not know."""
