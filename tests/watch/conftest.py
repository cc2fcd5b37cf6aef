"""A store in each of the states that a page may show."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.store.store import Store
from tests.watched import STATES

Make = Callable[[str], Store]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that makes the store of a state once. Tests copy it."""
    folder = tmp_path_factory.mktemp("states")

    def path_of(state: str) -> Path:
        path = folder / state.replace(" ", "_")
        if not path.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "fsync", lambda _: None)  # of a thousand files
                STATES[state](Store(path))
        return path

    return path_of


@pytest.fixture
def make(tmp_path: Path, built: Callable[[str], Path]) -> Make:
    """A function that makes the store of a state, in place of one before."""

    def made(state: str) -> Store:
        folder = tmp_path / "store"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(built(state), folder)
        return Store(folder)

    return made
