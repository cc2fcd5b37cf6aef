"""The trials of a run on a Ray cluster through Ray Tune."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import ray
from ray import tune

from orchestrator import placement
from orchestrator.launch.cluster import Cluster, connect
from orchestrator.launch.draining import Drain
from orchestrator.launch.tuning import FrontierSearcher, Scheduler, Search, Starts
from orchestrator.launch.workers import Worker
from orchestrator.run import Run
from orchestrator.spec import Resources


def launch(run: Run, cluster: Cluster, kind: type[Worker] | None = None) -> None:
    """Carry out a run on a cluster, by workers of a kind: those that train, if none is named.

    Raises `LayerwiseError` for requests that no node can meet.
    SIGUSR1 drains it, as a batch system or a spot notice asks before it takes the machines: every
    trial under way ends with a snapshot, nothing new begins, and this returns with `run` not done.
    """
    drain = Drain()
    scratch_folder = tempfile.TemporaryDirectory(prefix="layerwise-")
    with drain.on_signal(), connect(cluster), scratch_folder as scratch:
        # So many wait at once: the autoscaler starts nodes for what waits, and for nothing else.
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(_slots(run) + 1)
        scheduler = Scheduler(run, drain, keeps_idle=not os.environ.get("RAY_ADDRESS"))
        searcher = FrontierSearcher(run, scheduler)
        tuner = tune.Tuner(
            tune.with_resources(kind or Worker, _placement),
            tune_config=tune.TuneConfig(
                search_alg=Search(searcher),
                scheduler=scheduler,
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=run.plan.sweep.name,
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                callbacks=[Starts(searcher)],
            ),
        )
        tuner.fit()
    assert run.done or drain.asked, "Ray Tune ended before the sweep did"


def _placement(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    request = Resources.model_validate_json(config["request"])
    return tune.PlacementGroupFactory([placement.bundle(request)])


def _slots(run: Run) -> int:
    """How many trials the cluster can come to hold. Raises `LayerwiseError` if it never holds one.

    A cluster of our own grows by nothing; of others, what `ray up` wrote on the head says it.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    growth: placement.Growth | None = placement.Growth()
    if os.environ.get("RAY_ADDRESS"):
        growth = placement.startable(Path.home() / "ray_bootstrap_config.yaml", os.environ)
    run.frontier.can_be_met = lambda request: placement.can_be_met(request, nodes, growth)
    return placement.slots(run.trials.values(), nodes, growth)
