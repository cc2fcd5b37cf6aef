"""A valid sweep file, one with code of the user, and the mistakes that are reported for a sweep."""

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


# A sweep, a dataset and a network of the user, and the names of modules that tests write.
GARDEN = """\
name: garden
dataset: {name: "garden.data:flowers", size: 9}
network: {name: "garden.nets:build", width: 4}
splits: {named: {wild: {A: [daisy, poppy], B: [rose, tulip]}}}
treatments: [base, transfer, transfer+]
layers: [1]
recipe: {rate: 0.1, steps: 3, batch: 4}
"""
FLOWERS = """\
import numpy as np


def flowers(size: int = 8):
    random = np.random.RandomState(0)

    def some(count):
        labels = np.arange(4).repeat(count)
        images = random.randint(0, 256, size=(len(labels), 3, size, size)).astype(np.uint8)
        return images, labels

    return {
        "train": some(4), "validation": some(2), "test": some(3),
        "classes": ["daisy", "poppy", "rose", "tulip"],
    }
"""
BUILD = """\
from torch import nn


def build(*, classes, shape, width: int = 2):
    return [
        nn.Sequential(
            nn.Conv2d(shape[0], width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ),
        nn.Linear(width, classes),
    ]
"""
MODULES = ("mistaken", "unparsable", "dividing", "garden", "garden.data", "garden.nets")


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
