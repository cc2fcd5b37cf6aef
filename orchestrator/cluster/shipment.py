"""Files of the user's own code that travel to the workers of a cluster, in their own layout.

On the machine of the driver, workers import the code from where it is. Elsewhere they get a copy of
the files, and work in its folder, so that relative paths mean the same.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.sweep.schema import Sweep

ROOTS = "LAYERWISE_OWN_CODE"  # variable with the folders of the code on the driver's machine
NAME = "layerwise_shipment"  # of the folder that travels
MOST_BYTES = 500 * 2**20  # Ray refuses larger packages
MOST_NAMES = 10  # of files in a line


@dataclass(frozen=True)
class Shipment:
    """Files of a sweep's own code."""

    roots: tuple[str, ...]
    """Folders that the code is imported from."""

    files: Mapping[str, Path]
    """Files by their path in the folder that travels."""

    missing: tuple[str, ...]
    """Relative paths that a data function opened and that lie outside of the working folder."""

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files.values())

    def line(self) -> str:
        """Return a line that counts and names the files."""
        names = sorted(self.files, key=lambda name: -self.files[name].stat().st_size)
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        shown = ", ".join(names[:MOST_NAMES])
        return (
            f"own code that travels to a cluster: {len(names)} files, {self.bytes / 1e6:.1f} MB: "
            f"{shown}{more}"
        )

    def problem(self) -> str:
        """Return a line on what a cluster would lack, and what to do; empty if it lacks nothing."""
        if self.missing:
            return (
                f"{self.missing[0]} is a relative path that leads out of {Path.cwd()}, and other "
                "machines do not have it: name a path below this folder, or an absolute path on a "
                "disk that all machines share"
            )
        if self.bytes > MOST_BYTES:
            largest = max(self.files.values(), key=lambda path: path.stat().st_size)
            return (
                f"own code with its files has {self.bytes / 1e6:,.0f} MB ({largest} has "
                f"{largest.stat().st_size / 1e6:,.0f} MB), and at most {MOST_BYTES / 1e6:,.0f} MB "
                "travel to a cluster: keep large files on a disk that all machines share, and name "
                "them by an absolute path"
            )
        return ""

    @contextlib.contextmanager
    def staged(self) -> Iterator[str]:
        """Yield a folder with links to all files, as `Worker` expects it; it is removed after."""
        with tempfile.TemporaryDirectory(prefix="layerwise-") as folder:
            for name, path in self.files.items():
                link = Path(folder, NAME, name)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
            yield str(Path(folder, NAME))


def shipment_of(sweep: Sweep) -> Shipment | None:
    """Return the files of the dataset's and the networks' own code; None without own code."""
    from trainers.own_code import files_of

    roots: list[str] = []
    files: dict[str, Path] = {}
    for component in (*sweep.datasets.values(), sweep.network, sweep.target_network):
        if component is not None and component.is_own:
            code = files_of(component.name, component.frozen_options)
            roots.append(str(code.root))
            files |= {name: code.root / name for name in (*code.modules, *code.data)}
    if not roots:
        return None
    opened, missing = _opened(sweep, roots)
    return Shipment(tuple(dict.fromkeys(roots)), opened | files, missing)


def _opened(sweep: Sweep, roots: list[str]) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Return files that the data function opened: those that travel, and those that cannot.

    Absolute paths outside of the code's folders are taken to be on a disk that is shared.
    """
    from trainers import datasets

    files: dict[str, Path] = {}
    missing: list[str] = []
    functions = [dataset for dataset in sweep.datasets.values() if dataset.is_own]
    names = (name for x in functions for name in datasets.opened_files(x.name, x.frozen_options))
    for name in dict.fromkeys(names):
        path, is_shared = Path(name).resolve(), Path(name).is_absolute()
        folders = [Path(root).resolve() for root in (roots if is_shared else [Path.cwd()])]
        inside = [folder for folder in folders if path.is_relative_to(folder)]
        if inside and "site-packages" not in path.parts:
            files[path.relative_to(inside[0]).as_posix()] = path
        elif not is_shared:
            missing.append(name)
    return files, tuple(missing)


def arrive() -> None:
    """Import from the folder that travelled to this worker, and work in it, if there is one.

    On the driver's machine, import from where the code is. What is installed goes first.
    """
    for root in filter(None, os.environ.get(ROOTS, "").split(os.pathsep)):
        if root not in sys.path:
            sys.path.append(root)
    spec = importlib.util.find_spec(NAME)
    if spec is not None and spec.submodule_search_locations:
        folder = next(iter(spec.submodule_search_locations))
        if folder not in sys.path:
            sys.path.append(folder)
        os.chdir(folder)
