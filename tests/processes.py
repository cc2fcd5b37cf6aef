"""Processes of this machine, from /proc."""

from __future__ import annotations

from pathlib import Path


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
