"""`; did you mean …?`: the known word that a misspelt one is nearest to."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def hint(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return `; did you mean 'schedule'?` for the nearest known word, or "" if none is near.

    The hint shows `prefix` before that word.
    """
    nearest = difflib.get_close_matches(word, list(known), 1)
    return suggestion(prefix + nearest[0]) if nearest else ""


def suggestion(word: str) -> str:
    """Return `; did you mean 'schedule'?`, the end of an error message."""
    return f"; did you mean {word!r}?"
