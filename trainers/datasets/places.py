"""Where the data of a dataset is on this machine. Never part of an id."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from trainers.datasets.images import DataError

HOME = "LAYERWISE_DATA"


@dataclass(frozen=True)
class Place:
    """The folder of a dataset, the folders in which its packs may be, and the planned fingerprint.

    `expected` is empty where nothing has been planned yet.
    """

    folder: Path
    packs: tuple[Path, ...]
    expected: str = ""

    def within(self, name: str) -> Place:
        """The same for a folder in this one, which has packs of its own."""
        folder = self.folder / name
        packs = (folder / "packs", *self.packs[1:]) if self.packs else ()
        return Place(folder, packs, self.expected)


def home() -> Path:
    """The folder of all data: `LAYERWISE_DATA`, or `~/.cache/layerwise/data`.

    Raises `DataError` for a relative one: workers have other working folders.
    """
    named = os.environ.get(HOME)
    if named and not named.startswith(("/", "~", "$")):
        raise DataError(f"{HOME} is {named!r}: expected an absolute path")
    return expand(named or str(cache() / "data"))


def cache() -> Path:
    """Where what can be made again is kept: `~/.cache/layerwise`, or as `XDG_CACHE_HOME` says."""
    return expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "layerwise"


def place(name: str, root: str | None, expected: str = "") -> Place:
    """Where dataset `name` is: at `root`, or in its own folder of `home()`.

    `root` may use ~ and environment variables, so that each node may have the data elsewhere.
    Raises `DataError` for a variable that is not set.
    """
    folder = expand(root) if root is not None else home() / name
    return Place(folder, (folder / "packs", home() / "packs"), expected)


def expand(root: str) -> Path:
    path = os.path.expandvars(root)
    if unset := re.search(r"\$\{?(\w+)", path):
        raise DataError(f"data folder {root}: the environment variable {unset[1]} is not set here")
    return Path(path).expanduser().absolute()


def portable(root: str | None) -> str | None:
    """A root as it is sent to other processes, which work in other folders."""
    if root is None or root.startswith(("~", "$")):
        return root
    return str(Path(root).absolute())
