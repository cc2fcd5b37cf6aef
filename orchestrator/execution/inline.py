"""The items of a run one after the other in this process, without Ray: for pdb, and for tests."""

from __future__ import annotations

import traceback
from collections.abc import Iterable

from orchestrator.errors import LayerwiseError
from orchestrator.execution import worker
from orchestrator.execution.assignment import Report
from orchestrator.execution.run import Run
from orchestrator.execution.worker import Watcher
from orchestrator.states import Ending
from orchestrator.sweep.schema import Resources


def run_inline(run: Run, watch: Watcher = lambda _: None) -> None:
    """Train everything that `run` hands out. An exception counts as the death of a worker.

    Raises `LayerwiseError` if an item requests a GPU and there is none.
    """
    require_gpu((item.name, item.node.request) for item in run.open_items())
    while (work := run.take()) is not None:
        attempt, assignments = work
        run.started(attempt)
        reports = {}
        for assignment in assignments:
            trial = assignment.labels["id"]
            try:
                reports[trial] = worker.run(assignment, watch=watch)
            except Exception:
                reports[trial] = Report(trial, Ending.WORKER_DIED, traceback.format_exc(limit=-1))
            if run.tell(attempt, reports[trial]):
                break
        run.end(attempt, reports)


def require_gpu(requests: Iterable[tuple[str, Resources]]) -> None:
    """Raise `LayerwiseError` if one of these (name, request) needs a GPU and there is none."""
    name = next((name for name, request in requests if request.gpu), None)
    if name is None:
        return
    from trainers.devices import gpu_obstacle, has_gpu

    if not has_gpu():
        raise LayerwiseError(
            f"trial {name} asks for a GPU, and PyTorch finds none on this machine "
            f"({gpu_obstacle()}); "
            "try: --set resources.default.gpu=0"
        )
