"""`debug` in front of a user's code: pdb at the line that raised, and `breakpoint()`."""

from __future__ import annotations

import io
import pdb
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.sweep_files import forget_own_code

SWEEP = """\
name: mended
dataset: mending:data
network: mending:build
splits: {named: {x: {A: [0, 1], B: [2, 3]}}}
treatments: [base]
recipe: {rate: 0.03, steps: 2, batch: 4}
"""
MODULE = """\
import numpy as np
from torch import nn


class Layer(nn.Linear):
    def forward(self, x):
        images = len(x) if self.training else 0
        if {when}: {what}
        return super().forward(x)


def build(*, classes, shape):
    return [nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), Layer(4, classes)]


def data():
    labels = np.arange(4).repeat(4)
    {in_data}
    images = np.random.RandomState(0).rand(3, 16, 8, 8)
    return {{s: (images[i], labels) for i, s in enumerate(("train", "validation", "test"))}}
"""


def open_pdb() -> None:
    """Open pdb in the caller, as `breakpoint()` does outside of pytest, which has a debugger."""
    pdb.Pdb().set_trace(sys._getframe(1))


@pytest.fixture
def debug(
    folder: Path, layerwise: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """A function that debugs a trial of a changed `MODULE` with these lines of input."""

    def run(lines: str, *options: str, when: str = "False", what: str = "", data: str = "") -> Any:
        forget_own_code("mending")
        text = MODULE.format(when=when, what=what or "pass", in_data=data or "pass")
        (folder / "mending.py").write_text(text)
        (folder / "mending.yaml").write_text(SWEEP)
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        monkeypatch.setattr("sys.breakpointhook", open_pdb)
        return layerwise("debug", "mending.yaml", "A x", "--store", "none", *options)

    return run


@pytest.mark.parametrize(
    ("when", "what", "raised"),
    [
        ("True", "x @ x", "mat1 and mat2 shapes cannot be multiplied"),  # in planning
        ("images == 2", "{}['a']", "KeyError: 'a'"),  # in planning
        ("images == 4", "{}['a']", "KeyError: 'a'"),
        ("images == 4", "nn.Linear(3, 3)(x)", "mat1 and mat2 shapes cannot be multiplied"),
    ],
)
def test_pdb_opens_at_the_users_line(
    when: str, what: str, raised: str, debug: Callable[..., Any], folder: Path
) -> None:
    code, out, err = debug("p 'images', images\nq\n", "--pdb", when=when, what=what)
    assert code == 1
    assert raised in err
    assert f"({folder}/mending.py:8)" in err
    assert f"{folder}/mending.py(8)forward()\n-> if {when}: {what}" in out
    assert "('images', " in out


def test_a_breakpoint_in_a_dataset_function_and_in_forward(debug: Callable[..., Any]) -> None:
    code, out, err = debug("p 'labels', len(labels)\nc\n", data="breakpoint()")
    assert (code, err) == (0, "")
    assert "('labels', 16)" in out
    code, out, err = debug("p 'x', x.shape\nc\nc\n", when="images == 4", what="breakpoint()")
    assert (code, err) == (0, "")
    assert "('x', torch.Size([4, 4]))" in out
    assert "test top-1" in out


@pytest.mark.parametrize(
    "where",
    [
        {"data": "breakpoint()"},
        {"when": "True", "what": "breakpoint()"},
        {"when": "images == 4", "what": "breakpoint()"},
    ],
)
def test_leaving_the_debugger_ends_the_command(
    where: dict[str, str], debug: Callable[..., Any]
) -> None:
    code, _, err = debug("q\n", "--pdb", **where)
    assert (code, err) == (130, "")


def test_a_mistake_without_a_line_of_the_user_opens_no_debugger(
    debug: Callable[..., Any],
) -> None:
    code, _, err = debug("q\n", "--pdb", "--set", "network=mending:nothing")
    assert code == 2
    assert err == "--set network: module 'mending' has no function 'nothing'\n"
