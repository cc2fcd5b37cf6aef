"""The temporary folder of a run, and what dead runs leave."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cluster import leftovers
from orchestrator.cluster.leftovers import LOCK, MARK, PREFIX, end_dead_runs, scratch


def test_dead_runs_are_ended_and_living_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "temporary", lambda: tmp_path)
    dead, orphaned, before, young, elsewhere, inside = (
        tmp_path / f"{PREFIX}{name}"
        for name in ("dead", "orphaned", "before", "young", "elsewhere", "inside")
    )
    for folder in (dead, orphaned, before, young, elsewhere, inside):
        folder.mkdir()
    with scratch() as of_run:
        seen = (of_run / LOCK).read_text()
    (dead / LOCK).write_text(seen)
    (orphaned / LOCK).write_text(seen)
    machine, boot, processes = seen.split("\n")
    (before / LOCK).write_text(f"{machine}\nanother start\n{processes}")
    (elsewhere / LOCK).write_text(f"another machine\n{boot}\n{processes}")
    (inside / LOCK).write_text(f"{machine}\n{boot}\na container's")
    (tmp_path / f"{PREFIX}link").symlink_to(young)
    line = [sys.executable, "-c", "input()"]
    marked = os.environ | {MARK: str(dead)}
    with (
        (orphaned / "its.log").open("w") as log,
        subprocess.Popen(line, stdin=subprocess.PIPE, env=marked) as left,
        subprocess.Popen(line, stdin=subprocess.PIPE, stderr=log) as without_parent,
    ):
        log.close()
        with scratch() as folder:
            assert (left.wait(timeout=60), without_parent.wait(timeout=60)) == (-9, -9)
    with scratch() as folder:
        assert not any(folder.exists() for folder in (dead, orphaned, before))
        assert os.environ[MARK] == str(folder)
        with subprocess.Popen(line, stdin=subprocess.PIPE) as own:
            end_dead_runs(tmp_path)
            assert own.poll() is None
            own.kill()
        assert (folder / LOCK).exists()
    assert MARK not in os.environ
    left_alone = {tmp_path / f"{PREFIX}link", young, elsewhere, inside}
    assert set(tmp_path.iterdir()) == left_alone
