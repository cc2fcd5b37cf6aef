"""Addresses of running clusters, tried before Ray tries them: Ray does so for minutes."""

from __future__ import annotations

import re
import subprocess
import sys
import time

from orchestrator.errors import LayerwiseError
from orchestrator.store.reachable import obstacle

SECONDS = 10.0  # time limit for the cluster's answer, in seconds
LEAST = 1.0  # seconds for the head, if its name and the connection took long
LEAVE_OUT = "leave out --address and unset RAY_ADDRESS to use this machine alone"
CLIENT_PORT = 10001


def reachable(address: str) -> str:
    """Return the address that Ray is to join: `auto` becomes host:port.

    Raises `LayerwiseError` within about ten seconds, mostly at once, if no cluster answers there.
    """
    begun = time.monotonic()
    where = _address_here() if address == "auto" else address
    tried = f"auto ({where})" if address == "auto" else where
    is_client = where.startswith("ray://")
    text = where.removeprefix("ray://")
    match = re.fullmatch(r"\[?([^\s/\[\]]+?)\]?(?::(\d{1,5}))?", text)
    if match is None or not (match[2] or is_client) or int(match[2] or 1) > 65535:
        raise LayerwiseError(
            f"--address (RAY_ADDRESS) {address}: expected auto, or host:port of a running cluster, "
            "such as 10.0.0.5:6379"
        )
    host, port = match[1], int(match[2] or CLIENT_PORT)
    if reason := obstacle(host, port):
        raise LayerwiseError(
            f"no Ray cluster at {tried}, which --address or RAY_ADDRESS names: {reason}; start one "
            f"there with `ray start --head`, give the address of one that runs, or {LEAVE_OUT}"
        )
    if is_client:
        return where
    from orchestrator.cluster import internals

    if reason := refusal(where, internals.ASK, max(LEAST, SECONDS + begun - time.monotonic())):
        raise LayerwiseError(f"cannot join the Ray cluster at {tried}: {reason}")
    return where


def _address_here() -> str:
    """Return host:port of the cluster that runs on this machine."""
    from orchestrator.cluster import internals

    try:
        return internals.address_here()
    except ConnectionError as error:
        raise LayerwiseError(
            "--address auto (RAY_ADDRESS): no Ray cluster runs on this machine; start one with "
            f"`ray start --head`, give host:port of one that runs, or {LEAVE_OUT}"
        ) from error


def refusal(address: str, program: str, seconds: float) -> str | None:
    """Return the reason that the head at an address does not answer `program`; None if it does.

    Another process asks: Ray's client cannot be given a time limit, and it prints.
    """
    command = [sys.executable, "-c", program, address]
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False
        )
        said = asked.stdout + asked.stderr
        if asked.returncode == 0:
            return None
    except subprocess.TimeoutExpired as error:
        said = f"{error.stdout!r} {error.stderr!r}"
    if "InvalidAuthToken" in said:
        return (
            "it asks for a token that this shell does not have: set RAY_AUTH_MODE=token and "
            f"RAY_AUTH_TOKEN_PATH to its token file, name another cluster, or {LEAVE_OUT}"
        )
    return (
        "something listens there that does not answer as the head of a Ray cluster; expected the "
        f"port of the head (6379), not of the dashboard, and one version of Ray; else {LEAVE_OUT}"
    )
