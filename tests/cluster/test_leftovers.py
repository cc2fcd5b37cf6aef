"""The temporary folder of a run, and what dead runs leave."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from orchestrator.cluster.leftovers import LOCK, MARK, PREFIX, end_dead_runs, scratch


def test_dead_runs_are_ended_and_living_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead, young, elsewhere = (
        tmp_path / f"{PREFIX}{name}" for name in ("dead", "young", "elsewhere")
    )
    for folder in (dead, young, elsewhere):
        folder.mkdir()
    with scratch() as of_run:
        (dead / LOCK).write_text(Path(of_run, LOCK).read_text())
    (elsewhere / LOCK).write_text("a container's")
    (tmp_path / f"{PREFIX}link").symlink_to(young)
    line = [sys.executable, "-c", "input()"]
    marked = os.environ | {MARK: str(dead)}
    with (
        subprocess.Popen(line, stdin=subprocess.PIPE, env=marked) as left,
        scratch() as folder,
    ):
        assert left.wait(timeout=60) == -9
        assert not dead.exists()
        assert os.environ[MARK] == folder
        with subprocess.Popen(line, stdin=subprocess.PIPE) as own:
            end_dead_runs()
            assert own.poll() is None
            own.kill()
        assert Path(folder, LOCK).exists()
    assert MARK not in os.environ
    left_alone = {tmp_path / f"{PREFIX}link", young, elsewhere}
    assert set(tmp_path.iterdir()) == left_alone
