"""Working folders of the commands: with a sweep file, and with the store of its complete run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orchestrator.execution.inline import run_inline
from orchestrator.execution.run import Run
from orchestrator.report.progress import RunProgress
from orchestrator.store.store import Store
from tests.small import SMALL, small


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `small.yaml` and the store of its complete run. Tests copy it."""
    from rich.console import Console

    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(SMALL)
    planned = small(folder)
    run_inline(Run.open(planned, Store(folder / "results"), RunProgress(Console(quiet=True))))
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: `small.yaml` and no store."""
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL)
    return tmp_path


@pytest.fixture
def full(folder: Path, finished: Path) -> Path:
    """The working folder, with the store of a complete run."""
    shutil.copytree(finished / "results", folder / "results")
    return folder
