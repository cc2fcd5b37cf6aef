"""Workers that die, for runs of trials and of studies."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.execution import worker
from orchestrator.execution.assignment import Assignment, Report


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
