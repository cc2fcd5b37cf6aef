"""Damaged sweep files, `--set` values and `--only` conditions: errors of ours, in bounds."""

from __future__ import annotations

import contextlib
import importlib.resources
import random
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from orchestrator.errors import MOST_MISTAKES, LayerwiseError, SweepError
from orchestrator.report.query import matching
from orchestrator.sweep.load import load_sweep

SECONDS = 10  # for one case
MEGABYTES = 300  # for all cases
ODD = (
    "", " ", "~", "4.0", "-1", "1e999", ".nan", "9" * 5000, "²", "٣", "&a [*a]", "*b",
    "!!python/x y", "{}", "[]", "[[]]", "{a: {b: c}}", "null", "true", "'", '"', "\t", "\0",
    "\ud800", "\u2028", "é" * 50, "%", "- ", ": ", "#", "|", ">-", "<<: 3", "? [x]", "---", "0x10",
    "1..9999999", "A", "(" * 500,
    "' OR 1", "--", "/*", ";", "n", " " * 1000, "SELECT", "CAST(n AS BLOB)", "1/0", "n IN (n)",
)  # fmt: skip
CONDITION = "treatment = 'transfer' AND n IN (1, 2) OR seed < 3"
CHANGES = ("recipe.steps=20", "splits.random=[0]", "grids.x.layers=[1]", "fine_tune.search={}")


def damaged(text: str, choose: random.Random) -> str:
    """Return a text with one to three mistakes."""
    for _ in range(choose.randint(1, 3)):
        at, end = sorted(choose.randrange(len(text) + 1) for _ in range(2))
        end = min(end, at + choose.choice((1, 5, 40)))
        match choose.randrange(4):
            case 0:
                text = text[:at] + text[end:]
            case 1:
                text = text[:at] + choose.choice(ODD) + text[end:]
            case 2:
                text = text[:end] + text[at:end] * choose.choice((1, 2, 50)) + text[end:]
            case 3:
                lines = text.split("\n")
                choose.shuffle(lines)
                text = "\n".join(lines)
    return text


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Raise `TimeoutError` in a case that takes long, and fail if the cases took much memory."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MEGABYTES * 1000


def refuses_or_takes(action: Callable[[str], object], cases: Iterator[str]) -> None:
    """Run every case. Each error is a `LayerwiseError` of a few short lines."""
    refused = 0
    with bounded():
        for case in cases:
            signal.alarm(SECONDS)
            try:
                action(case)
            except LayerwiseError as error:
                refused += 1
                lines = str(error).splitlines()
                assert 0 < len(lines) <= MOST_MISTAKES + 1, case
            except Exception as error:
                raise AssertionError(f"{type(error).__name__}: {error} at {case!r}") from error
    assert refused > 10


def test_damaged_sweep_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    folder, choose = importlib.resources.files("sweeps"), random.Random(12)
    texts = [(folder / f"{name}.yaml").read_text(encoding="utf-8") for name in ("digits", "paper")]
    path = tmp_path / "x.yaml"

    def load(text: str) -> None:
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        load_sweep(str(path))

    refuses_or_takes(load, (damaged(texts[number % 2], choose) for number in range(150)))


def test_damaged_changes() -> None:
    choose = random.Random(12)
    changes = (damaged(CHANGES[number % 4], choose) for number in range(150))
    refuses_or_takes(lambda change: load_sweep("digits", [change]), changes)


def test_damaged_conditions() -> None:
    choose = random.Random(12)
    labels = pa.table({"id": ["a"], "treatment": ["transfer"], "n": [1], "seed": [0]})
    conditions = (damaged(CONDITION, choose) for _ in range(60))
    refuses_or_takes(lambda condition: matching(labels, condition), conditions)


def test_of_a_thousand_mistakes_ten_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: x\n" + "".join(f"k{number}: 1\n" for number in range(1000)))
    with pytest.raises(SweepError) as caught:
        load_sweep(str(path))
    lines = str(caught.value).splitlines()
    assert len(lines) == MOST_MISTAKES + 1
    assert lines[-1] == f"and {len(caught.value.mistakes) - MOST_MISTAKES:,} more mistakes"
    assert len(caught.value.mistakes) >= 1000
