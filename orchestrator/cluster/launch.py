"""Carry out a run on a cluster. Ray is imported when the run begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.cluster.connection import Cluster, prepare

if TYPE_CHECKING:
    from orchestrator.cluster.actor import Worker
    from orchestrator.execution.run import Run


def launch(run: Run, cluster: Cluster, kind: type[Worker] | None = None) -> None:
    """Carry out a run on a cluster, by workers of this kind; by default those that train.

    Raises `LayerwiseError` for a request that no node can meet.
    SIGUSR1, as a batch system or a spot notice sends it, and SIGHUP drain the run:
    every trial under way ends with a snapshot, nothing new begins, and `run` is not done.
    """
    prepare(cluster.address)
    from orchestrator.cluster.tune import launch_with_tune

    launch_with_tune(run, cluster, kind)
