"""A store of its own for each test, and workers that die."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.execution import worker
from orchestrator.execution.assignment import Assignment, Report
from orchestrator.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Workers die at trials of these names, as many times as the value says."""
    times: dict[str, int] = {}
    run = worker.run

    def dying_run(assignment: Assignment, **options: Any) -> Report:
        name = assignment.labels["name"]
        if times.get(name, 0) > 0:
            times[name] -= 1
            raise OSError("the cable was pulled")
        return run(assignment, **options)

    monkeypatch.setattr(worker, "run", dying_run)
    return times
