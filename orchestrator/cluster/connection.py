"""The cluster to run on: one that runs already, or a quiet local one that strangers cannot use.

This module does not import Ray before `prepare` has set what Ray reads from the environment.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.cluster.address import reachable
from orchestrator.cluster.interrupts import Interrupts, without_hangups
from orchestrator.cluster.shipment import Shipment
from orchestrator.errors import LayerwiseError

# Workers stay in their folder, where relative paths of a user's code lead to what they mean.
# No loggers, no reports, no usage statistics. Ctrl-C and SIGTERM are handled here: not by Tune, and
# not by Ray, whose handler takes ours for SIGTERM away when Ray shuts down.
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "60",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "86400",
}
# Ray replaces 127.0.0.1 by the machine's outside address on Linux, and only there.
LOOPBACK = "127.0.0.2" if sys.platform == "linux" else None
LONGEST_TMPDIR = 38  # bytes


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A Ray cluster."""

    address: str | None = None
    """Address of a cluster that runs, or `auto`. None starts a local cluster."""
    cpus: int | None = None
    """CPUs of a local cluster; by default those of the machine."""
    gpus: int | None = None
    """GPUs of a local cluster; by default those of the machine."""
    dashboard: bool = False
    """Start Ray's dashboard with a local cluster."""
    code: Shipment | None = None
    """The user's own code, which workers import."""


def prepare(address: str | None) -> None:
    """Set what Ray reads from the environment when it is imported.

    The servers of a local cluster listen on every interface, so a fresh token keeps others out.
    Raises `LayerwiseError` if Ray was imported before without a token.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    if address or _is_locked():
        return
    if "ray" in sys.modules:
        raise LayerwiseError(
            "ray was imported before orchestrator.cluster.prepare was called, so a local cluster "
            "would be open to the network: call it first, or give the address of a cluster"
        )
    os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)})
    os.environ.pop("RAY_AUTH_TOKEN_PATH", None)


def _is_locked() -> bool:
    """True if Ray was imported with a token."""
    return "ray" in sys.modules and os.environ.get("RAY_AUTH_MODE") == "token"


@contextlib.contextmanager
def connect(cluster: Cluster) -> Iterator[None]:
    """Join the cluster at its address, or start a local one on loopback with a fresh token.

    A local cluster is stopped at the end. Raises `LayerwiseError` if the cluster cannot be joined.
    """
    prepare(cluster.address)
    address = reachable(cluster.address) if cluster.address else None
    import ray

    from orchestrator.cluster import internals

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the frontier reports what went wrong
    internals.silence_logs_of_lost_nodes()
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    interrupts = Interrupts()
    with interrupts.handled():
        try:
            with without_hangups():
                _start(cluster, address, options)
            signal.signal(signal.SIGTERM, interrupts.handle)  # Ray takes it for itself
            yield
        finally:
            ray.shutdown()


def _start(cluster: Cluster, address: str | None, options: dict[str, Any]) -> None:
    """Join the cluster at the address, or start a local one. Raises `LayerwiseError`."""
    import ray

    if address:
        try:
            with cluster.code.staged() if cluster.code else contextlib.nullcontext() as folder:
                if folder:
                    options["runtime_env"] = {"py_modules": [folder]}
                ray.init(address=address, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            message = f"cannot join the Ray cluster at {cluster.address}: {reason}"
            raise LayerwiseError(message) from error
        return
    if cluster.dashboard and importlib.util.find_spec("aiohttp_cors") is None:
        raise LayerwiseError("Ray's dashboard is not installed: pip install 'ray[default]'")
    if cluster.code:
        paths = [*cluster.code.roots, *filter(None, [os.environ.get("PYTHONPATH")])]
        variables = {"PYTHONPATH": os.pathsep.join(paths)}
        options["runtime_env"] = {"env_vars": variables}
    ray.init(
        address="local",
        num_cpus=cluster.cpus,
        num_gpus=cluster.gpus,
        include_dashboard=cluster.dashboard,
        _node_ip_address=LOOPBACK,
        **local_folders(),
        **options,
    )


def local_folders(shared_memory: str = "/dev/shm") -> dict[str, str]:
    """Return folders for a local cluster of ours where Ray's own choice does not work.

    Unix limits the path of a socket to 107 bytes, of which Ray uses 64 below its folder; TMPDIR of
    a batch job can be too long. In some containers /dev/shm is read-only.
    """
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    folders = {}
    if len(os.fsencode(folder)) > LONGEST_TMPDIR:
        place = Path("/tmp", f"layerwise-{os.getuid()}")
        place.mkdir(mode=0o700, exist_ok=True)
        is_ours = place.stat().st_uid == os.getuid()
        folder = str(place) if is_ours else tempfile.mkdtemp(prefix="lw-", dir="/tmp")
        folders["_temp_dir"] = folder
    if sys.platform == "linux" and not os.access(shared_memory, os.W_OK):
        folders["_plasma_directory"] = folder
    return folders
