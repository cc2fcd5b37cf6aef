"""The trials of a run one after the other in this process, without Ray: for pdb, and for tests."""

from __future__ import annotations

import traceback

from orchestrator import worker
from orchestrator.frontier import Ending
from orchestrator.run import Run
from orchestrator.worker import Report, Watcher


def run_inline(run: Run, watch: Watcher | None = None) -> None:
    """Train everything that `run` hands out. Errors end a trial as a dead worker would."""
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
        run.end(job, reports)
