"""A sweep of six trials on digits, for tests of the command line."""

from __future__ import annotations

from pathlib import Path

from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.sweep.load import load_sweep

SMALL = """\
name: small
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {random: [0]}
treatments: [base, selffer, transfer]
layers: [1]
recipe: {rate: 0.03, steps: 3, batch: 8}
"""


def small(folder: Path) -> Plan:
    """Return the plan of `small.yaml` in a folder."""
    return make_plan(resolve(*load_sweep(str(folder / "small.yaml"))))


def files(folder: Path) -> list[str]:
    """Return the sorted paths of all files below a folder, relative to it."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
