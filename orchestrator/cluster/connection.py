"""The cluster to run on: one that runs already, or a quiet local one that strangers cannot use.

This module does not import Ray before `prepare` has set what Ray reads from the environment.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.cluster.address import reachable
from orchestrator.cluster.leftovers import end_processes, end_run, scratch
from orchestrator.cluster.shipment import ROOTS, Shipment
from orchestrator.errors import LayerwiseError
from orchestrator.signals import SIGNALS, without_hangups

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
# What Ray calls a cluster has an outside address. Without one, everything listens on loopback.
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


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

    The servers of a local cluster listen on loopback, and a fresh token keeps others out who work
    on this machine. Raises `LayerwiseError` if Ray was imported before without a token.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    if address:
        return
    if _is_locked():
        from orchestrator.cluster import internals

        if not internals.has_outside_address():
            return
    if "ray" in sys.modules:
        raise LayerwiseError(
            "ray was imported before orchestrator.cluster.prepare was called, so a local cluster "
            "would be open to the network: call it first, or give the address of a cluster"
        )
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ.update(token | ALONE)
    os.environ.pop("RAY_AUTH_TOKEN_PATH", None)


def _is_locked() -> bool:
    """Return whether Ray was imported with a token."""
    return "ray" in sys.modules and os.environ.get("RAY_AUTH_MODE") == "token"


@contextlib.contextmanager
def connect(cluster: Cluster) -> Iterator[Path]:
    """Join the cluster at its address, or start a local one on loopback with a fresh token.

    Yields a private folder, which is removed at the end. A local cluster has its files there.
    A local cluster is stopped at the end. Raises `LayerwiseError` if the cluster cannot be joined.
    """
    prepare(cluster.address)
    address = reachable(cluster.address) if cluster.address else None
    import ray

    from orchestrator.cluster import internals

    if ray.is_initialized():
        raise LayerwiseError(
            "this process uses a Ray cluster already: call ray.shutdown() first, or train in the "
            "process itself with inline"
        )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the frontier reports what went wrong
    internals.silence_logs_of_lost_nodes()
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    with scratch() as folder, SIGNALS.farewell(lambda: end_run(folder)):
        try:
            with without_hangups():
                _start(cluster, address, folder, options)
            yield folder
        finally:
            if SIGNALS.lost:  # Ray would wait for what is gone
                end_processes(folder)
            else:
                ray.shutdown()


def _start(cluster: Cluster, address: str | None, folder: Path, options: dict[str, Any]) -> None:
    """Join the cluster at the address, or start a local one. Raises `LayerwiseError`."""
    import ray

    if address:
        try:
            with cluster.code.staged() if cluster.code else contextlib.nullcontext() as staged:
                if staged:
                    options["runtime_env"] = {"py_modules": [staged]}
                ray.init(address=address, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            message = f"cannot join the Ray cluster at {cluster.address}: {reason}"
            raise LayerwiseError(message) from error
        return
    if cluster.dashboard and importlib.util.find_spec("aiohttp_cors") is None:
        raise LayerwiseError("Ray's dashboard is not installed: pip install 'ray[default]'")
    if cluster.code:
        roots = os.pathsep.join(cluster.code.roots)
        options["runtime_env"] = {"env_vars": {ROOTS: roots}}
    ray.init(
        address="local",
        num_cpus=cluster.cpus,
        num_gpus=cluster.gpus,
        include_dashboard=cluster.dashboard,
        **local_folders(folder),
        **options,
    )


def local_folders(folder: Path, shared_memory: str = "/dev/shm") -> dict[str, str]:
    """Return options of `ray.init` for the files of a local cluster.

    In some containers /dev/shm is read-only.
    """
    place = str(folder / "ray")
    needs = sys.platform == "linux" and not os.access(shared_memory, os.W_OK)
    return {"_temp_dir": place} | ({"_plasma_directory": str(folder)} if needs else {})
