"""Ray cluster of real raylets on this machine, for tests that kill, freeze and drain its nodes.

Every node has its own loopback address, and the cluster a fresh token. Signals reach only processes
that the cluster started.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.processes import AWAKE, descendants
from tests.s3_server import CREDENTIALS

HEAD = "127.0.0.2"
PATIENCE = 120.0  # seconds
# Shorter than Ray's defaults, so that the cost of a fault is that of layerwise.
HEALTH = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}
TOKEN = secrets.token_hex(32)  # one for all clusters: a process of Ray reads it once
QUIET = AWAKE | {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",  # until nodes give up a dead head
    "RAY_DEDUP_LOGS": "0",
}


def wait_for(happened: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Poll every 50 ms until `happened()`. Raises `TimeoutError` after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} in {patience:.0f} s")
        time.sleep(0.05)


def send(pid: int, what: signal.Signals) -> bool:
    """Signal a process. Return whether it was there."""
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        return False
    return True


class Node:
    """Node of the cluster: a raylet with the processes below it."""

    def __init__(self, started: Any):
        self.started = started
        self.id: str = started.node_id

    @property
    def raylet(self) -> int:
        return int(self.started.all_processes["raylet"][0].process.pid)

    def workers(self) -> list[int]:
        """Return the process ids of workers that run trials."""
        return [pid for pid, line in descendants(self.raylet).items() if "Trainable" in line]

    def processes(self) -> list[int]:
        return [self.raylet, *descendants(self.raylet)]

    def signal(self, what: signal.Signals) -> None:
        for pid in self.processes():
            send(pid, what)

    def bury(self) -> None:
        """Kill all its processes."""
        below = self.processes()
        self.started.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        for pid in below:
            send(pid, signal.SIGKILL)


class Machines:
    """A head without trials, and nodes of one CPU each. Sets environment variables of Ray."""

    def __init__(self, nodes: int = 2):
        self.size = nodes
        self.nodes: list[Node] = []
        self.made = 0

    def start(self) -> None:
        """Start a new head and new nodes."""
        self.folder = tempfile.mkdtemp(prefix="lw")  # short: sockets lie in it
        own = {"RAY_TMPDIR": self.folder, "LAYERWISE_CACHE": f"{self.folder}/cache"}
        own["RAY_AUTH_TOKEN"] = TOKEN
        os.environ.update(QUIET | CREDENTIALS | own)
        from ray.cluster_utils import Cluster

        for name in ("ray._private.utils", "ray._private.node"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self.cluster = Cluster(
            initialize_head=True,
            shutdown_at_exit=False,
            head_node_args={
                "num_cpus": 0,
                "node_ip_address": HEAD,
                "include_dashboard": False,
                "_system_config": HEALTH,
            },
        )
        self.head = Node(self.cluster.head_node)
        self.address = str(self.cluster.gcs_address)
        for _ in range(self.size):
            self.add()

    def add(self) -> None:
        self.made += 1
        address = f"127.0.1.{self.made % 250 + 1}"
        self.nodes.append(Node(self.cluster.add_node(node_ip_address=address, num_cpus=1)))

    def forget(self, node: Node) -> None:
        """Remove a node, and kill its remaining processes."""
        self.nodes.remove(node)
        self.cluster.worker_nodes.discard(node.started)
        node.bury()

    def lose(self, node: Node) -> None:
        """Remove a node, and add another one."""
        self.forget(node)
        self.add()

    def alive(self, node: Node) -> bool:
        """Return whether the head believes that a node is alive."""
        table = self.cluster.global_state.node_table()
        return any(row["NodeID"] == node.id and row["Alive"] for row in table)

    def drain(self, node: Node, seconds: int) -> None:
        """Announce the end of a node in `seconds`, as a cloud does for a spot node."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node"]
        command += ["--address", self.address, "--node-id", node.id]
        command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
        command += ["--deadline-remaining-seconds", str(seconds)]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)

    def kill_head(self) -> None:
        """Kill all processes of the head at once, and not the driver."""
        for processes in list(self.head.started.all_processes.values()):
            for one in processes:
                send(one.process.pid, signal.SIGKILL)

    def stop(self) -> None:
        for node in [*self.nodes, self.head]:
            node.bury()
        self.nodes.clear()
        self.cluster.global_state.disconnect()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def machines(nodes: int = 2) -> Iterator[Machines]:
    made = Machines(nodes)
    made.start()
    try:
        yield made
    finally:
        made.stop()
