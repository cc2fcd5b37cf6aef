"""Processes of this machine, from /proc, and the environment of those that tests start."""

from __future__ import annotations

import contextlib
import os
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Ray gives its workers niceness 15. Beside other work, such as other tests, they then hardly run.
AWAKE = {"RAY_worker_niceness": "0"}


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without settings of Ray and Tune, and with these."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_"))}
    return inherited | AWAKE | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"} | more


def descendants(process: int) -> dict[int, str]:
    """Return the command lines of all processes below `process`, by process id."""
    parents, lines = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            lines[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it ended in between
        parents[int(folder.name)] = int(status[1])
    below = {process}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    return {child: lines[child] for child in below if child != process}


def listening(process: int) -> set[IPv4Address | IPv6Address]:
    """Return the addresses on which a process and all below it listen for TCP connections."""
    sockets, addresses = set(), set()
    for pid in (process, *descendants(process)):
        with contextlib.suppress(OSError):  # it ended in between
            sockets |= {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in sockets:
                number = bytes.fromhex(local.partition(":")[0])  # words in the machine's order
                words = struct.unpack(f"={len(number) // 4}I", number)
                address = ip_address(struct.pack(f"!{len(words)}I", *words))
                addresses.add(getattr(address, "ipv4_mapped", None) or address)
    return addresses
