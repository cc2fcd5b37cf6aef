"""Run a sweep from Python, as `layerwise run` does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace as replaced
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.api.sweeps import Sweep, chosen, planned
from orchestrator.errors import LayerwiseError, StoreError
from orchestrator.signals import SIGNALS, Drained, Lost

if TYPE_CHECKING:
    from orchestrator.api.results import Results
    from orchestrator.cluster import Cluster
    from orchestrator.execution.items import Unit
    from orchestrator.execution.run import Run
    from orchestrator.report.progress import RunProgress

log = logging.getLogger("layerwise")
DERIVED: tuple[Unit, ...] = ("measurement", "extraction")  # what is computed of trained networks


def run(
    sweep: Sweep | str,
    store: str | Path = "results",
    *,
    only: str | Iterable[str] | None = None,
    retry_failed: bool = False,
    replace: bool = False,
    inline: bool = False,
    address: str | None = None,
    cpus: int | None = None,
    gpus: int | None = None,
    progress: bool | Callable[[str], object] = True,
) -> Results:
    """Train what the store lacks, and return the results of the sweep.

    Example: `run("digits", only="treatment = 'base'", inline=True)`. Trainings are spread over a
    Ray cluster: the one at `address`, or one that is started on this machine with `cpus` and
    `gpus`. With `inline` they run in this process, without Ray. `only` is an SQL condition on
    labels, or ids of trials; bases are added. `progress` is shown in a notebook or a terminal; a
    function receives it as one line. Other arguments are those of `layerwise run`.

    Failed trials raise nothing: see `Results.failures`. After an interruption, the same call
    continues. Raises `SweepError` for a mistake in the sweep, `StoreError` for a store that fails,
    and `LayerwiseError` for a cluster that is gone.
    """
    from orchestrator.api.results import Results
    from orchestrator.cluster import Cluster
    from orchestrator.execution.run import Run
    from orchestrator.report.live import progress_of
    from orchestrator.store.leases import in_use
    from orchestrator.store.store import Store

    opened = Store(store)
    plan = planned(sweep, opened)
    shown, wanted = progress_of(progress), chosen(plan, only)
    cluster = None if inline else Cluster(address=address, cpus=cpus, gpus=gpus)
    with in_use(opened, plan.sweep.name, shown.activity):
        begun = Run.open(
            plan, opened, shown, only=wanted, retry_failed=retry_failed, replace=replace
        )
        try:
            carry_out(begun, shown, cluster)
        except Lost as error:
            raise LayerwiseError(f"{error}; the same call goes on from here") from error
        except Drained:
            log.warning("stopped with snapshots; the same call goes on from here")
    if begun.store_failure:
        raise StoreError(f"the store failed: {begun.store_failure}; the same call goes on")
    return Results(opened, plan.sweep.name)


def carry_out(
    run: Run,
    progress: RunProgress,
    cluster: Cluster | None,
    lost: Callable[[], object] = lambda: None,
) -> None:
    """Train what is open: on a cluster, or in this process without one.

    `lost` is called before a process that hangs after the loss of its cluster is ended.
    """
    missing = run.open_items()
    if not missing:
        return
    if cluster is None or cluster.address is None:  # a cluster's own machines have the data
        from orchestrator.plan.resolve import find_data

        find_data(run.plan.sweep, run.plan.source)
    if cluster is not None:
        from orchestrator.cluster import shipment_of

        cluster = replaced(cluster, code=shipment_of(run.plan.sweep))
        if cluster.address and cluster.code and (problem := cluster.code.problem()):
            raise LayerwiseError(problem)
    progress.begin(missing, run.ended_items(), {unit: run.ended_items(unit) for unit in DERIVED})
    try:
        if cluster is None:
            from orchestrator.execution.inline import run_inline

            run_inline(run)
        else:
            from orchestrator.cluster import launch

            with SIGNALS.farewell(lost):
                launch(run, cluster)
    finally:
        progress.close()
        run.compact()
