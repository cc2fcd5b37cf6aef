"""A Ray cluster of real raylets on this machine, whose processes can be killed, frozen, drained.

Every node has a loopback address of its own and the cluster a fresh token. Only processes that the
cluster started are ever signalled.
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

from tests.processes import descendants
from tests.s3_server import CREDENTIALS

HEAD = "127.0.0.2"
PATIENCE = 120.0
# Faster than Ray's own seconds, so that what a fault costs is what layerwise makes of it.
HEALTH = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}
TOKEN = secrets.token_hex(32)  # a process of Ray's reads it once
QUIET = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",  # how long nodes wait for a head that is gone
    "RAY_DEDUP_LOGS": "0",
}


def wait_for(happened: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Look every 50 ms until it happened. Raises `TimeoutError`."""
    deadline = time.monotonic() + patience
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} in {patience:.0f} s")
        time.sleep(0.05)


def send(pid: int, what: signal.Signals) -> bool:
    """Signal a process; whether it was there."""
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        return False
    return True


class Node:
    """A machine of the cluster: a raylet with the processes below it."""

    def __init__(self, started: Any):
        self.started = started
        self.id: str = started.node_id

    @property
    def raylet(self) -> int:
        return int(self.started.all_processes["raylet"][0].process.pid)

    def workers(self) -> list[int]:
        """The processes that carry out trials."""
        return [pid for pid, line in descendants(self.raylet).items() if "Trainable" in line]

    def processes(self) -> list[int]:
        return [self.raylet, *descendants(self.raylet)]

    def signal(self, what: signal.Signals) -> None:
        for pid in self.processes():
            send(pid, what)

    def bury(self) -> None:
        """End what is left of it, and forget it."""
        below = self.processes()
        self.started.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        for pid in below:
            send(pid, signal.SIGKILL)


class Machines:
    """A head that runs no trial, and nodes of one CPU each. Their settings are this process's."""

    def __init__(self, nodes: int = 2):
        self.size = nodes
        self.nodes: list[Node] = []
        self.made = 0

    def start(self) -> None:
        """A new head and new nodes."""
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
        """A node that is dead, or is to be, leaves with all that is left of it."""
        self.nodes.remove(node)
        self.cluster.worker_nodes.discard(node.started)
        node.bury()

    def lose(self, node: Node) -> None:
        """The same, and another one takes its place."""
        self.forget(node)
        self.add()

    def alive(self, node: Node) -> bool:
        """Whether the head thinks that a node lives."""
        table = self.cluster.global_state.node_table()
        return any(row["NodeID"] == node.id and row["Alive"] for row in table)

    def drain(self, node: Node, seconds: int) -> None:
        """Announce that a node goes away, as a cloud does for a spot node."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node"]
        command += ["--address", self.address, "--node-id", node.id]
        command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
        command += ["--deadline-remaining-seconds", str(seconds)]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)

    def kill_head(self) -> None:
        """Everything on the head's machine but the driver ends at once."""
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
