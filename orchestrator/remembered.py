"""Texts that this machine has made before, in its cache.

The name of a file is the hash of all that the text depends on, and the file ends with the hash of
its content: what is remembered is never out of date, and a damaged file is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable

from trainers import whole_file
from trainers.datasets.places import cache


def remembered(kind: str, question: str, make: Callable[[], str]) -> str:
    """Return `make()`, or the text that it gave earlier for the same `question`.

    `kind` names a folder of the cache.
    """
    key = hashlib.sha256(question.encode()).hexdigest()
    path = cache() / kind / f"{key[:32]}.txt"
    with contextlib.suppress(OSError, ValueError):
        return _read(path.read_bytes())
    text = make()
    with contextlib.suppress(OSError):  # the next command makes it again
        whole_file.write(path, f"{text}\n{_digest(text)}\n".encode())
    return text


def _read(data: bytes) -> str:
    """Return the text in a file. Raises `ValueError` for a damaged one."""
    text, _, digest = data.decode().removesuffix("\n").rpartition("\n")
    if _digest(text) != digest:
        raise ValueError("the text is damaged")
    return text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
