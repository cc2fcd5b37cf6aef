"""Processes of this machine, from /proc, and the environment of those that tests start."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Ray gives its workers niceness 15. Beside other work, such as other tests, they then hardly run.
AWAKE = {"RAY_worker_niceness": "0"}


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without settings of Ray and Tune, and with these."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_"))}
    return inherited | AWAKE | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"} | more


def descendants(process: int) -> dict[int, str]:
    """Return the command lines of all processes below `process`, by process id."""
    parents, lines = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            lines[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it ended in between
        parents[int(folder.name)] = int(status[1])
    below = {process}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    return {child: lines[child] for child in below if child != process}
