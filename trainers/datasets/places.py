"""The places of data on this machine. A place is never part of an id."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from trainers.datasets.images import DataError

HOME = "LAYERWISE_DATA"


@dataclass(frozen=True)
class Place:
    """Folder of a dataset's files, and the data expected in it."""

    folder: Path
    """The folder of the dataset's files."""

    packs: tuple[Path, ...]
    """The folders in which packs of the dataset may be, in the order of search."""

    expected: str = ""
    """The fingerprint that the plan was made with; empty while planning."""

    def within(self, name: str) -> Place:
        """Return the place of a subfolder, which has its own `packs` folder."""
        folder = self.folder / name
        packs = (folder / "packs", *self.packs[1:]) if self.packs else ()
        return Place(folder, packs, self.expected)


def home() -> Path:
    """Return the folder of all data: `LAYERWISE_DATA`, or `~/.cache/layerwise/data`.

    Raises `DataError` if `LAYERWISE_DATA` is relative: workers have other working folders.
    """
    named = os.environ.get(HOME)
    if named and not named.startswith(("/", "~", "$")):
        raise DataError(f"{HOME} is {named!r}: expected an absolute path")
    return expand(named or str(cache() / "data"))


def cache() -> Path:
    """Return the folder for data that can be computed again: `~/.cache/layerwise`.

    `XDG_CACHE_HOME` takes the place of `~/.cache`.
    """
    return expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "layerwise"


def node_folder() -> Path:
    """Return the folder in which processes of this node and user share what can be made again.

    It is `LAYERWISE_CACHE`, or in the folder of temporary files.
    """
    named = os.environ.get("LAYERWISE_CACHE")
    return Path(named or Path(tempfile.gettempdir(), f"layerwise-cache-{os.getuid()}"))


def make_own(folder: Path) -> None:
    """Make a folder that only this user may use, unless it is there.

    Raises `OSError`, also if another user owns it, who could redirect writes.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise PermissionError(errno.EPERM, "another user owns it", str(folder))


def place(name: str, root: str | None, expected: str = "") -> Place:
    """Return the place of dataset `name`: `root`, or the folder `name` of `home()`.

    `root` may contain ~ and environment variables, so that each node can have the data elsewhere.
    Raises `DataError` if a variable is not set.
    """
    folder = expand(root) if root is not None else home() / name
    return Place(folder, (folder / "packs", home() / "packs"), expected)


def expand(root: str, what: str = "data folder") -> Path:
    """Return `root` as an absolute path, with ~ and environment variables replaced.

    Raises `DataError`, which calls the path `what`, if a variable is not set.
    """
    path = os.path.expandvars(root)
    if unset := re.search(r"\$\{?(\w+)", path):
        raise DataError(f"{what} {root}: the environment variable {unset[1]} is not set here")
    return Path(path).expanduser().absolute()


def portable(root: str | None) -> str | None:
    """Return a root in the form that is sent to other processes: absolute, or with ~ or $ kept."""
    if root is None or root.startswith(("~", "$")):
        return root
    return str(Path(root).absolute())
