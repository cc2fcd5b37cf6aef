"""Provenance of a number: versions and commit."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path

LIBRARIES = (
    "layerwise",
    "torch",
    "torchvision",
    "numpy",
    "ray",
    "pyarrow",
    "scikit-learn",
    "optuna",
)


@lru_cache(maxsize=1)
def versions() -> str:
    """Versions of Python and of the libraries that can change a number, as a JSON object."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    if commit := layerwise_commit():
        versions["layerwise_commit"] = commit
    return json.dumps(versions, sort_keys=True)


@lru_cache(maxsize=1)
def git_commit() -> str | None:
    """Commit of the working folder, with + if it has changes. None outside a repository."""
    return _described()


@lru_cache(maxsize=1)
def layerwise_commit() -> str | None:
    """Commit of layerwise itself, with + if its folder has changes.

    None for an installation that is neither a repository's folder nor installed by pip from one.
    """
    here = Path(__file__).resolve()
    if _git("ls-files", "--error-unmatch", here.name, folder=here.parent) is not None:
        return _described(here.parent)
    with contextlib.suppress(metadata.PackageNotFoundError, ValueError):
        origin = metadata.distribution("layerwise").read_text("direct_url.json")
        commit = json.loads(origin or "{}").get("vcs_info", {}).get("commit_id")
        return None if commit is None else str(commit)
    return None


def _described(folder: Path | None = None) -> str | None:
    """Return the commit of a folder's repository, with + if files differ from it.

    No program that the repository's own settings name is run: it may be a stranger's.
    """
    commit = _git("rev-parse", "--verify", "--quiet", "HEAD", folder=folder)
    if not commit:
        return None
    filters = _git("config", "--name-only", "--get-regexp", r"^filter\.", folder=folder) or ""
    off = [option for name in filters.splitlines() for option in ("-c", f"{name}=")]
    changes = ("--name-only", "--ignore-submodules")
    changed = _git(*off, "diff-files", *changes, folder=folder) or _git(
        *off, "diff-index", "--cached", *changes, "HEAD", folder=folder
    )
    return f"{commit}+" if changed else commit


def _git(*arguments: str, folder: Path | None = None) -> str | None:
    """Return the output of git; None if it fails. It runs no hook and no file-system monitor."""
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
            cwd=folder,
            env=os.environ | {"GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
