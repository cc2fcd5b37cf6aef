"""Before a cluster starts: its environment, and the user's own code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cluster.connection import local_folders
from orchestrator.cluster.leftovers import scratch


def environment_after(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    return (done.stdout + done.stderr).splitlines()


PREPARE = (
    "import os, sys; from orchestrator.cluster import prepare; assert 'ray' not in sys.modules;"
)


def test_a_local_cluster_gets_a_fresh_token_and_another_one_keeps_its_own() -> None:
    show = "print(os.environ.get('RAY_AUTH_MODE'), len(os.environ.get('RAY_AUTH_TOKEN', '')))"
    assert environment_after(f"{PREPARE} prepare(None); {show}") == ["token 64"]
    assert environment_after(f"{PREPARE} prepare('10.0.0.1:6379'); {show}") == ["None 0"]


def test_without_a_token_no_local_cluster_is_started_after_ray_was_imported() -> None:
    last = environment_after(f"{PREPARE} import ray; prepare(None)")[-1]
    assert last.startswith("orchestrator.errors.LayerwiseError: ray was imported before ")


def test_a_process_of_another_ray_program_says_so_and_leaves_its_cluster_alone() -> None:
    """As when `layerwise.run` is called from a program that has a cluster of its own."""
    program = (
        f"{PREPARE} prepare(None); import ray; from orchestrator.cluster import Cluster, connect\n"
        "ray.is_initialized, ray.shutdown = lambda: True, lambda: print('shut down')\n"
        "with connect(Cluster()): pass"
    )
    lines = environment_after(program)
    assert "this process uses a Ray cluster already: call ray.shutdown() first" in lines[-1]
    assert "shut down" not in lines


def test_a_local_cluster_gets_folders_that_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths of sockets are short, and shared memory can be written."""
    ray = str(tmp_path / "ray")
    assert local_folders(tmp_path, str(tmp_path)) == {"_temp_dir": ray}
    unwritable = local_folders(tmp_path, "/proc/nowhere")
    assert unwritable == {"_temp_dir": ray, "_plasma_directory": str(tmp_path)}
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + 100 * "x")
    with scratch() as short:
        socket = "session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
        assert len(f"{short}/ray/{socket}") <= 107
        assert short.stat().st_mode & 0o777 == 0o700
    assert not short.exists()
