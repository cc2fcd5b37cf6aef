"""The programs that `cluster.py` compares, each the driver of a fresh Ray of its own.

    python -m benchmarks.cluster_programs layerwise|barrier|bookkeeping FOLDER

FOLDER holds what `cluster.py` wrote for it, `settings.json`.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.sleeping import plain, settings


class Clock:
    """When a driver began, and when it saw trials start and end. Progress of a run, too."""

    def __init__(self) -> None:
        self.begun: float | None = None
        self.starts: list[float] = []
        self.ends: list[float] = []

    def begin(self) -> None:
        """Ray is there, and the driver looks for its first trial. Only the first call counts."""
        self.begun = self.begun or time.time()

    def started(self, trial: Any) -> None:  # noqa: ARG002
        self.starts.append(time.time())

    def ended(self, trial: Any, ending: Any, message: str) -> None:
        self.ends.append(time.time())
        assert ending.value == "complete", f"{trial}: {message}"

    def given_up(self, trial: Any, state: Any, reason: str) -> None:
        raise AssertionError(f"{trial} is {state}: {reason}")

    def write(self, folder: Path) -> None:
        """Leave `clock.json`."""
        found = {"begun": self.begun, "starts": self.starts, "ends": self.ends}
        (folder / "clock.json").write_text(json.dumps(found))


def layerwise(folder: Path) -> None:
    """Our way: plan, run, frontier, searcher and scheduler of ours, and the store."""
    from benchmarks.sleeper import Sleeper
    from orchestrator import experiment, sweep_file
    from orchestrator.launch import Cluster, launch
    from orchestrator.plan import plan
    from orchestrator.run import Run
    from orchestrator.store import Store

    asked, clock = settings(folder), Clock()

    class Timed(Run):
        """One that says when it was first asked for a job."""

        def take(self) -> Any:
            clock.begin()
            return super().take()

    planned = plan(experiment.examine(*sweep_file.load(asked["sweep"], asked["changes"])))
    run = Timed(planned, Store(folder / "store"), clock, only=asked["seconds"])
    launch(run, Cluster(cpus=asked["cpus"], gpus=asked["gpus"]), Sleeper)
    clock.write(folder)


def barrier(folder: Path) -> None:
    """Plain Tune: an experiment for each folder below, one after the other."""
    from orchestrator.launch import Cluster, connect

    asked = settings(folder)
    with connect(Cluster(cpus=asked["cpus"], gpus=asked["gpus"])):
        from ray import tune

        request = tune.PlacementGroupFactory([asked["request"]])
        for part in asked["parts"]:
            ids = list(settings(folder / part)["seconds"])
            results = tune.Tuner(
                tune.with_resources(plain, request),
                param_space={"id": tune.grid_search(ids), "folder": str(folder / part)},
                tune_config=tune.TuneConfig(reuse_actors=True),
                run_config=tune.RunConfig(storage_path=str(folder / "scratch"), verbose=0),
            ).fit()
            assert not results.errors, results.errors


def bookkeeping(folder: Path) -> None:
    """Ray's own test of bookkeeping, as its releases run it, on loopback with a token."""
    asked = settings(folder)
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "100"  # as the release test sets it
    os.environ["TEST_OUTPUT_JSON"] = str(folder / "tune_test.json")
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0"}
    if not asked["loggers"]:
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    import ray
    from ray import tune
    from ray.tune.utils.release_test_util import timed_tune_run

    class Watch(tune.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.clock = Clock()

        def setup(self, *_: Any, **info: Any) -> None:  # noqa: ARG002
            self.clock.begin()

        def on_trial_start(self, *_: Any, **info: Any) -> None:  # noqa: ARG002
            self.clock.starts.append(time.time())

        def on_trial_complete(self, *_: Any, **info: Any) -> None:  # noqa: ARG002
            self.clock.ends.append(time.time())

    ray.init(
        address="local",
        num_cpus=asked["cpus"],
        include_dashboard=False,
        _node_ip_address="127.0.0.2" if sys.platform == "linux" else None,
    )
    watch = Watch()
    timed_tune_run(
        name="bookkeeping overhead",
        num_samples=asked["trials"],
        results_per_second=1,
        trial_length_s=1,
        max_runtime=10**6,
        storage_path=str(folder / "scratch"),
        callbacks=[watch],
    )
    ray.shutdown()
    watch.clock.write(folder)


PROGRAMS = {"layerwise": layerwise, "barrier": barrier, "bookkeeping": bookkeeping}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](Path(sys.argv[2]))
