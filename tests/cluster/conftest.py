"""Results of an undisturbed run to compare with, and a short folder for temporary files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.runs import run


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the small sweep, trained one after the other in a process without Ray."""
    store = tmp_path_factory.mktemp("undisturbed")
    done = run(store, "--inline")
    assert done.returncode == 0, done.stderr
    return store


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for the temporary files of a run. Its path is short, for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)
