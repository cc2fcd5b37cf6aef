"""A cluster that grows for what waits and shrinks when idle: Ray's autoscaler, with fake nodes."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

from orchestrator.store.store import Store
from tests.processes import environment
from tests.results import results
from tests.system.conftest import BIN, HEAD, PATIENCE, wait_for

NODES = 4
ADDRESS = f"{HEAD}:6379"
RAY = Path("/tmp/ray/growing")

# One core a node, one trial a core. The first network that a worker builds waits for a file.
SWEEP = """\
name: burst
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: held.nets:build
splits: {random: [0, 1]}
treatments: [base]
recipe: {rate: 0.03, steps: 6, batch: 8}
"""
NETWORK = """
import sys, time
from pathlib import Path
from torch import nn

FOLDER = Path({folder!r})

def build(*, classes, shape):
    if sys.argv[0].endswith("default_worker.py"):
        try:
            (FOLDER / "held").touch(exist_ok=False)
        except FileExistsError:
            pass
        else:
            while not (FOLDER / "go").exists():
                time.sleep(0.1)
    inputs = shape[0] * shape[1] * shape[2]
    return [nn.Sequential(nn.Flatten(), nn.Linear(inputs, 4), nn.ReLU()), nn.Linear(4, classes)]
"""

# As `ray up` leaves it on the head. Ray's own AutoscalingCluster, and the second version of its
# autoscaler with fake nodes, read a file that the wheel lacks.
CLUSTER = {
    "cluster_name": "growing",
    "max_workers": NODES,
    "upscaling_speed": NODES,
    "idle_timeout_minutes": 0.1,
    "provider": {
        "type": "fake_multinode",
        "gcs_address": ADDRESS,
        "head_node_id": FAKE_HEAD_NODE_ID,
        "launch_multiple": True,
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    },
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "core": {
            "resources": {"CPU": 1, "object_store_memory": 10**8},
            "node_config": {},
            "min_workers": 0,
            "max_workers": NODES,
        },
    },
    **{key: {} for key in ("auth", "docker", "file_mounts")},
    **{key: [] for key in ("cluster_synced_files", "initialization_commands", "setup_commands")},
    **{f"{kind}_setup_commands": [] for kind in ("head", "worker")},
    **{f"{kind}_start_ray_commands": [] for kind in ("head", "worker")},
}


@pytest.fixture
def growing(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a shell on the head of a cluster that has no worker yet."""
    config = tmp_path / "ray_bootstrap_config.yaml"
    config.write_text(yaml.safe_dump(CLUSTER))
    shell = environment() | {
        "HOME": str(tmp_path),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    fakes = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_FAKE_CLUSTER": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        "RAY_enable_autoscaler_v2": "0",
    }
    start = ["ray", "start", "--head", "--port=6379", f"--node-ip-address={HEAD}", "--num-cpus=0"]
    start += [f"--autoscaling-config={config}", f"--temp-dir={RAY}", "--include-dashboard=false"]
    subprocess.run(start, env=shell | fakes, check=True, timeout=PATIENCE, capture_output=True)
    try:
        yield shell
    finally:
        subprocess.run(["ray", "stop", "--force"], env=shell, check=True, capture_output=True)


def log() -> str:
    """Lines of the autoscaler: what it launches, and once per second the nodes that exist."""
    return (RAY / "session_latest/logs/monitor.log").read_text()


def asked_for_at_once() -> int:
    """Number of nodes that the autoscaler had requested when it saw the first one.

    It may ask for too many, and ends those again when it sees them.
    """
    before, *later = re.split(r"(?m)^ \d+ core$", log(), maxsplit=1)
    assert later, "no node was there"
    return sum(map(int, re.findall(r"Got (\d+) nodes to launch", before)))


def workers() -> int:
    """Number of nodes that exist now, without the head."""
    return int(re.findall(r"\nActive:\n 1 ray\.head\.default\n(?: (\d+) core)?", log())[-1] or 0)


def ended(driver: subprocess.Popen[str]) -> bool:
    return driver.poll() is not None


def test_a_burst_brings_its_nodes_at_once_and_idle_ones_go(
    growing: dict[str, str], tmp_path: Path
) -> None:
    package = tmp_path / "held"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(NETWORK.format(folder=str(tmp_path)))
    (tmp_path / "burst.yaml").write_text(SWEEP)
    run = ["layerwise", "run", "burst.yaml", "--no-report", "--store"]
    inline = [*run, "whole", "--inline"]
    subprocess.run(inline, cwd=tmp_path, env=growing, check=True, timeout=PATIENCE)

    grown = Store(tmp_path / "grown")
    with subprocess.Popen(
        [*run, "grown", "--address", ADDRESS],
        cwd=tmp_path,
        env=growing,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as driver:
        try:
            wait_for(lambda: ended(driver) or len(grown.outcomes()) == NODES - 1, "end of others")
            wait_for(lambda: ended(driver) or workers() == 1, "end of idle nodes")
            (tmp_path / "go").touch()
            said, _ = driver.communicate(timeout=PATIENCE)
        finally:
            driver.kill()
    assert driver.returncode == 0, said
    assert asked_for_at_once() >= NODES
    wait_for(lambda: workers() == 0, "end of the last node")

    stored, expected = (results(tmp_path / name)["trials"] for name in ("grown", "whole"))
    assert stored.num_rows == NODES
    assert stored == expected
