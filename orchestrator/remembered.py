"""Texts that this machine has made before, in its cache.

A text answers a question, which holds all that the text depends on. So what is remembered is never
out of date. A file ends with the hash of its content: a damaged one is made again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

from trainers import whole_file
from trainers.datasets.places import cache


def remembered(kind: str, question: str, make: Callable[[], str]) -> str:
    """Return `make()`, or the text that it gave earlier for the same `question`.

    `kind` names a folder of the cache.
    """
    text = recalled(kind, question)
    if text is None:
        text = make()
        remember(kind, question, text)
    return text


def recalled(kind: str, question: str, place: str | None = None) -> str | None:
    """Return the text that is remembered for a question, at a place if it has one, or None."""
    path, salt = _file(kind, question, place)
    with contextlib.suppress(OSError, ValueError):
        return _read(path.read_bytes(), salt)
    return None


def remember(kind: str, question: str, text: str, place: str | None = None) -> None:
    """Remember the text that answers a question.

    One text is kept for each `place`: that of the latest question. Without it, each question keeps
    its text. A cache that cannot be written is done without.
    """
    path, salt = _file(kind, question, place)
    with contextlib.suppress(OSError):  # the next command makes it again
        whole_file.write(path, f"{text}\n{_digest(salt + text)}\n".encode())


@functools.cache
def surroundings(packages: tuple[str, ...], libraries: tuple[str, ...]) -> str:
    """Return a hash of Python's version, the code of packages and the installed libraries."""
    content = hashlib.sha256(sys.version.encode())
    for package in packages:
        root = _folder(package)
        for path in sorted(root.rglob("*.py")):
            content.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    for library in libraries:
        spec = importlib.util.find_spec(library)
        if spec is not None and spec.origin:
            for file in (Path(spec.origin), Path(spec.origin).with_name("version.py")):
                if file.exists():
                    status = file.stat()
                    content.update(f"{file} {status.st_mtime_ns} {status.st_size}\0".encode())
    return content.hexdigest()


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is part of layerwise"
    assert spec.origin is not None
    return Path(spec.origin).parent


def _file(kind: str, question: str, place: str | None) -> tuple[Path, str]:
    """Return the file of a text, and what its hash covers beside it: the question at a place."""
    key = _digest(question)
    name = key if place is None else _digest(place)
    return cache() / kind / f"{name[:32]}.txt", "" if place is None else key


def _read(data: bytes, salt: str) -> str:
    """Return the text in a file. Raises `ValueError` for a damaged one, or another question's."""
    text, _, digest = data.decode().removesuffix("\n").rpartition("\n")
    if _digest(salt + text) != digest:
        raise ValueError("the text is damaged")
    return text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
