"""The known word that a misspelt one is nearest to."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def hint(word: str, known: Iterable[str], prefix: str = "") -> str:
    """Return `; did you mean 'schedule'?` for the nearest known word, or "" if none is near.

    The hint shows `prefix` before that word.
    """
    nearest = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {prefix + nearest[0]!r}?" if nearest else ""
