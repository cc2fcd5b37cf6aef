"""A store of its own for each test, and workers that die."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.execution import pack, worker
from orchestrator.execution.assignment import Assignment, Report
from orchestrator.execution.pack import PackAssignment
from orchestrator.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Workers die at trials of these names, as many times as the value says."""
    times: dict[str, int] = {}
    run, run_pack = worker.run, pack.run

    def die_at(name: str) -> None:
        if times.get(name, 0) > 0:
            times[name] -= 1
            raise OSError("the cable was pulled")

    def dying_run(assignment: Assignment, **options: Any) -> Report:
        die_at(assignment.labels["name"])
        return run(assignment, **options)

    def dying_pack(work: PackAssignment, **options: Any) -> list[Report]:
        for assignment in work.assignments:
            die_at(assignment.labels["name"])
        return run_pack(work, **options)

    monkeypatch.setattr(worker, "run", dying_run)
    monkeypatch.setattr(pack, "run", dying_pack)
    return times
