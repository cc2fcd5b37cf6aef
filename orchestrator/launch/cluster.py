"""A cluster to run on: one that is there, or a quiet local one that strangers cannot use.

The first module here that imports Ray: what Ray reads when it is imported is set before.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Ray reads these when it is imported: no loggers, no reports, no usage statistics, Ctrl-C for us.
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "60",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "86400",
}
# A local cluster of ours listens on every interface: the token is what keeps others out.
LOCKED = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

READY = "ray" not in sys.modules or os.environ.get("RAY_AUTH_MODE") == "token"
os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
if not os.environ.get("RAY_ADDRESS"):
    os.environ.update(LOCKED)
    os.environ.pop("RAY_AUTH_TOKEN_PATH", None)

import ray  # noqa: E402
import ray._private.worker  # noqa: E402

from orchestrator.errors import LayerwiseError  # noqa: E402

# Ray replaces 127.0.0.1 by the machine's outside address; elsewhere than on Linux it does not.
LOOPBACK = "127.0.0.2" if sys.platform == "linux" else None


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What to ask of Ray: the size of a local cluster, and what travels to the workers.

    A cluster that runs is named by `RAY_ADDRESS`, which must be set before this module is imported.
    """

    cpus: int | None = None
    gpus: int | None = None
    dashboard: bool = False
    modules: tuple[str, ...] = ()  # folders and files of the user's own code


@contextlib.contextmanager
def connect(cluster: Cluster) -> Iterator[None]:
    """The cluster at `RAY_ADDRESS`, or a quiet local one on loopback with a fresh access token.

    A local cluster is stopped at the end.
    """
    # What went wrong is told by us. Of a node that is lost, Ray prints the log, and offers no way
    # not to; nothing else comes this way, since workers' logs are not asked for.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if cluster.modules:
        quiet["runtime_env"] = {"py_modules": list(cluster.modules)}
    if address := os.environ.get("RAY_ADDRESS"):
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise LayerwiseError(f"cannot join the Ray cluster at {address}: {reason}") from error
    else:
        if not READY:
            raise LayerwiseError(
                "ray was imported before orchestrator.launch, so a local cluster would be open to "
                "the network: import orchestrator.launch first, or set RAY_ADDRESS"
            )
        if cluster.dashboard and importlib.util.find_spec("aiohttp_cors") is None:
            raise LayerwiseError("Ray's dashboard is not installed: pip install 'ray[default]'")
        ray.init(
            address="local",
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus,
            include_dashboard=cluster.dashboard,
            _node_ip_address=LOOPBACK,
            **quiet,
        )
    # Ray takes SIGTERM for itself; a stop by it should be as clean as one by Ctrl-C.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        ray.shutdown()
