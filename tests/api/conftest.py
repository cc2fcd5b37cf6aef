"""The results of a small run, made once for the tests of this folder."""

from __future__ import annotations

import pytest

from orchestrator.api.results import Results
from orchestrator.api.run import run
from orchestrator.api.sweeps import Sweep
from tests.small import SMALL

SWEEP = Sweep.from_yaml(SMALL.replace("layers: [1]", "layers: [1, 2]") + "keep: all\n")


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, list[str]]:
    """Results of ten trials, and the lines of progress."""
    lines: list[str] = []
    folder = tmp_path_factory.mktemp("api") / "results"
    return run(SWEEP, folder, inline=True, progress=lines.append), lines
