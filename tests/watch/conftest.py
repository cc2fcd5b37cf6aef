"""A store in each of the states that a page may show."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.store.store import Store
from tests.watched import Built

Make = Callable[[str], Store]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(tmp_path_factory.mktemp("states"))


@pytest.fixture
def make(tmp_path: Path, built: Built) -> Make:
    """A function that makes the store of a state, in place of one before."""

    def made(state: str) -> Store:
        folder = tmp_path / "store"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(built(state), folder)
        return Store(folder)

    return made
