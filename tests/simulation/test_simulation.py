"""Simulated sweeps: crashes at writes of every kind, random faults, replay of a seed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import known, mutants, scenarios
from tests.simulation.scene import undisturbed
from tests.simulation.training import LANES

STRIDE = 101  # a crash at every so many writes; `python -m tests.simulation --crashes` has all


@pytest.mark.parametrize("lanes", [1, LANES])
@pytest.mark.parametrize("drivers", [1, 2])
@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_crash_loses_nothing(kind: str, drivers: int, lanes: int) -> None:
    for what in scenarios.CRASHES:
        points = list(scenarios.crashes(kind, drivers, what, STRIDE, lanes))
        assert len(points) >= 2
        assert [(one.label, one.problems) for one in points if one.problems] == []


@pytest.mark.parametrize("name", known.SCENARIOS)
def test_a_danger_that_is_known(name: str) -> None:
    for variant in known.variants(name):
        assert known.problems_of(name, variant) == [], variant


@pytest.mark.parametrize("seed", [10_090, 5_000_788, 5_000_807, 10_002_712])
def test_a_seed_that_showed_a_fault(seed: int) -> None:
    assert scenarios.at_random(seed).problems == []


def test_a_seed_decides_everything() -> None:
    traces: list[list[str]] = [[], []]
    for trace in traces:
        scenarios.at_random(3, trace=trace.append)
    assert len(traces[0]) > 500
    assert traces[0] == traces[1]


def test_the_command_replays_a_seed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", "3"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    *trace, size, problems = done.stdout.splitlines()
    here: list[str] = []
    scenarios.at_random(3, trace=here.append)
    assert trace == here  # although another process has other hashes of strings
    assert size.startswith("seed 3 (s3, packs): ")
    assert problems == "no problem"


TABLE = re.compile(r"^\| `(\w+)` \| (.+) \| `(\w+)` \((\w+)\) \|$", re.MULTILINE)
PAGE = Path(__file__).parents[2] / "docs" / "safety.md"


def test_the_page_lists_every_mutant() -> None:
    listed = re.findall(r"^\| `(\w+)` \| (.+) \| .+ \|$", PAGE.read_text(), re.MULTILINE)
    assert dict(listed) == {one.name: one.what for one in mutants.MUTANTS.values()}


@pytest.mark.parametrize(
    ("name", "by", "variant"),
    [row[:1] + row[2:] for row in TABLE.findall(PAGE.read_text())[::9]],
)
def test_a_mutant_is_caught(name: str, by: str, variant: str) -> None:
    """Every ninth of those in the page; `python -m tests.simulation --mutants` tries all."""
    undisturbed(known.VARIANTS[variant][0])
    with mutants.broken(mutants.MUTANTS[name]):
        assert known.problems_of(by, variant)
