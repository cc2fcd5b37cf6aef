"""The items of a run one after the other in this process, without Ray: for pdb, and for tests."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterable

from orchestrator.errors import LayerwiseError
from orchestrator.execution.assignment import Report
from orchestrator.execution.run import Run
from orchestrator.execution.work import carry_out_watched
from orchestrator.execution.worker import Stop, Watcher
from orchestrator.signals import SIGNALS
from orchestrator.states import Ending
from orchestrator.sweep.schema import Resources


def run_inline(run: Run, watch: Watcher = lambda *_: None) -> None:
    """Train everything that `run` hands out. An exception counts as the death of a worker.

    A request for snapshots ends the training under way with one, and the run.
    Raises `LayerwiseError` if an item requests a GPU and there is none.
    """
    require_gpu((item.name, item.node.request) for item in run.open_items())
    drain = threading.Event()
    with SIGNALS.draining(drain.set):
        _run_inline(run, watch, drain.is_set)


def _run_inline(run: Run, watch: Watcher, stop: Stop) -> None:
    while not stop() and (job := run.take()) is not None:
        run.started(job)
        reports: dict[str, Report] = {}
        for work in job.works:
            try:
                ended = carry_out_watched(work, watch=watch, stop=stop)
            except Exception:
                reason = traceback.format_exc(limit=-1)
                ended = [Report(id, Ending.WORKER_DIED, reason) for id in work.ids]
            reports |= {report.trial: report for report in ended}
            if any(run.tell(job, report) for report in ended) or stop():
                break
        run.end(job, reports)


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
