"""A valid sweep file, changes of it, and the mistakes that are reported for a sweep."""

from __future__ import annotations

import importlib
import linecache
import sys
from pathlib import Path

import pytest

from orchestrator.errors import SweepError
from orchestrator.plan.resolve import resolve
from orchestrator.sweep.load import load_sweep
from orchestrator.sweep.schema import Sweep
from trainers import datasets

VALID = """\
name: tiny
dataset: digits
network: conv8
splits: {random: [0]}
treatments: [base, transfer]
layers: [1, 2]
recipe: {rate: 0.03, steps: 4}
"""


def valid_but(lines: str) -> str:
    """The valid sweep with these lines in place of those with the same keys, or at its end."""
    result = VALID.splitlines()
    for line in lines.splitlines():
        key = line.partition(":")[0] + ":"
        same = [number for number, old in enumerate(result) if old.startswith(key)]
        if same:
            result[same[0]] = line
        else:
            result.append(line)
    return "\n".join(result) + "\n"


def valid_without(key: str) -> str:
    return "".join(line for line in VALID.splitlines(True) if not line.startswith(f"{key}:"))


def mistakes(text: str | bytes, *changes: str) -> list[str]:
    """The lines that are reported for the sweep file `bad.yaml` with this text."""
    Path("bad.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return mistakes_of("bad.yaml", *changes)


def mistakes_of(argument: str, *changes: str) -> list[str]:
    """The lines that are reported for a sweep by name or path."""
    with pytest.raises(SweepError) as error:
        resolve(*load_sweep(argument, changes))
    return error.value.mistakes


def assert_mistake(lines: list[str], place: str, reason: str) -> None:
    """Check that there is one line, with this file, line number and key, and this reason."""
    [line] = lines
    where, message = line[: len(place) + 2], line[len(place) + 2 :]
    assert where == f"{place}: "
    assert reason in message


def valid(text: str, *changes: str) -> Sweep:
    """The sweep of a valid text, checked against its data and network."""
    Path("valid.yaml").write_text(text)
    sweep, source = load_sweep("valid.yaml", changes)
    resolve(sweep, source)
    return sweep


def forget_own_code(*names: str) -> None:
    """Start as a new process would: no own module is imported, no dataset is loaded."""
    for name in names:
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    linecache.clearcache()
    datasets.forget()
