"""Short form of `make chaos`: one sweep on real raylets, and a fault of each of six kinds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PATIENCE = 900.0  # seconds


def test_a_sweep_under_faults_ends_as_one_without() -> None:
    """The suite runs in another process: a cluster takes its settings from the environment."""
    options = [
        "--only",
        "each in turn",
        "--faults",
        "6",
        "--steps",
        "500",
        "--seed",
        "1",
        "--untimed",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.suite", *options],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\neach in turn: 6 faults, " in done.stdout
    assert "\n6 kills in " in done.stdout
