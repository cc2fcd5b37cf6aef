"""The trials of a run one after the other in this process, without Ray: for pdb, and for tests."""

from __future__ import annotations

import traceback
from collections.abc import Iterable

from orchestrator import worker
from orchestrator.errors import LayerwiseError
from orchestrator.frontier import Ending
from orchestrator.plan import Trial
from orchestrator.run import Run
from orchestrator.worker import Report, Watcher


def run_inline(run: Run, watch: Watcher = lambda _: None) -> None:
    """Train everything that `run` hands out. Errors end a trial as a dead worker would.

    Raises `LayerwiseError` if a trial needs a GPU and there is none.
    """
    require_gpu(run.trials[id] for id in run.open_trials())
    while (taken := run.take()) is not None:
        job, assignments = taken
        run.started(job)
        reports = {}
        for assignment in assignments:
            trial = assignment.labels["id"]
            try:
                reports[trial] = worker.run(assignment, watch=watch)
            except Exception:
                reports[trial] = Report(trial, Ending.WORKER_DIED, traceback.format_exc(limit=-1))
            if run.stops(job, reports[trial]):
                break
        run.end(job, reports)


def require_gpu(trials: Iterable[Trial]) -> None:
    """Raise `LayerwiseError` if one of these asks for a GPU and this machine has none."""
    asking = next((trial for trial in trials if trial.request.gpu), None)
    if asking is None:
        return
    import torch

    if not torch.cuda.is_available():
        raise LayerwiseError(
            f"trial {asking.name} asks for a GPU, and PyTorch finds none on this machine; "
            "try: --set resources.default.gpu=0"
        )
