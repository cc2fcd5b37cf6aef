"""Complete runs through real Ray, as a user starts them: quiet, equal to training without Ray."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cluster.connection import ALONE
from orchestrator.store.store import Store
from tests.cluster.runs import PATIENCE, TRIALS, command, run
from tests.processes import environment, listening
from tests.results import results

pytestmark = pytest.mark.slow

ONE_SPLIT = "one split: differences get no interval; splits.random adds splits"


def test_complete_run_is_quiet_and_equals_training_without_ray(
    undisturbed: Path, tmp_path: Path
) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == f"digits: {TRIALS} trials, 0 complete in {tmp_path}"
    assert lines[1] == ONE_SPLIT
    progress = [line for line in lines[2:] if re.match(r"\d+/\d+ done · ", line)]
    assert lines[2 + len(progress)] == "Test top-1, difference to the own base in points"
    assert lines[-1] == "one split: no interval"
    assert results(tmp_path) == results(undisturbed)

    again = run(tmp_path)
    assert again.returncode == 0
    assert again.stdout.splitlines()[0] == (
        f"digits: {TRIALS} trials, {TRIALS} complete in {tmp_path}"
    )
    rows = Store(tmp_path).table("trials").to_pylist()
    assert all(row["frozen_proven"] for row in rows if row["frozen"])
    assert {row["exact"] for row in rows} == {True}
    assert not list(tmp_path.rglob(".*.tmp"))
    assert not (tmp_path / "progress").exists() or not list((tmp_path / "progress").iterdir())


CLUSTER = """
import os, sys
from orchestrator.cluster import Cluster, connect
with connect(Cluster(cpus=2)):
    import ray
    print(ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"], flush=True)
    sys.stdin.read()
"""

CLIENT = """
import logging, sys, ray
ray.init(address=sys.argv[1], logging_level=logging.ERROR)
print("joined")
"""


def test_a_local_cluster_refuses_clients_without_its_token_and_serves_those_with_it(
    undisturbed: Path, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as cluster:
        assert cluster.stdout is not None
        address, token = cluster.stdout.readline().split()
        assert address.startswith("127.0.0.1:")
        assert {str(one) for one in listening(cluster.pid)} == {"127.0.0.1"}
        strangers = [
            subprocess.Popen(
                [sys.executable, "-c", CLIENT, address],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment(**ALONE, **credentials),
            )
            for credentials in (
                {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
                {"RAY_AUTH_MODE": "disabled"},
            )
        ]
        served = subprocess.run(
            command(tmp_path, "--address", address, "--only", "n = 0"),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=environment(**ALONE, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token),
            check=False,
        )
        assert served.returncode == 0, served.stderr
        for stranger in strangers:
            said, _ = stranger.communicate(timeout=PATIENCE)
            assert stranger.returncode != 0
            assert "InvalidAuthToken" in said
            assert "joined" not in said
        cluster.communicate(timeout=PATIENCE)
    bases = Store(tmp_path).table("trials").to_pylist()
    assert sorted(row["name"] for row in bases) == ["A s0", "A-long s0", "B s0", "B-long s0"]
    expected = {
        row["id"]: row["checkpoint"] for row in Store(undisturbed).table("trials").to_pylist()
    }
    assert all(expected[row["id"]] == row["checkpoint"] for row in bases)
