"""Random faults in simulated sweeps, in a folder and in an object store: 100,000 in all."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.processes import environment


@pytest.mark.parametrize(("each", "faults"), [(30, 20_000), (300, 80_000)])
def test_random_faults_lose_nothing(each: int, faults: int) -> None:
    """Other processes carry them out, unmeasured: coverage would take half as much time again."""
    line = [sys.executable, "-m", "tests.simulation", "--first", "0", "--processes", "2"]
    of_run = environment()
    of_run.pop("COVERAGE_PROCESS_CONFIG", None)
    done = subprocess.run(
        [*line, "--each", str(each), "--faults", str(faults)],
        capture_output=True,
        text=True,
        env=of_run,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert int(re.findall(r" sweeps with (\d+) faults ", done.stdout)[-1]) >= faults
