"""Programs that `cluster.py` compares. Each is the driver of a fresh Ray.

    python -m benchmarks.cluster_programs layerwise|barrier|bookkeeping FOLDER

`cluster.py` wrote `settings.json` in FOLDER.
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
    """Times at which a driver began and saw trials start and end; the progress of a run."""

    def __init__(self) -> None:
        self.begun: float | None = None
        self.starts: list[float] = []
        self.ends: list[float] = []

    def begin(self) -> None:
        """Note that the driver looks for its first trial. Only the first call counts."""
        self.begun = self.begun or time.time()

    def started(self, trial: Any) -> None:  # noqa: ARG002
        self.starts.append(time.time())

    def ended(self, trial: Any, ending: Any, message: str, accuracy: Any = None) -> None:  # noqa: ARG002
        self.ends.append(time.time())
        assert ending.value == "complete", f"{trial}: {message}"

    def given_up(self, trial: Any, state: Any, reason: str) -> None:
        raise AssertionError(f"{trial} is {state}: {reason}")

    def write(self, folder: Path) -> None:
        """Write `clock.json`."""
        times = {"begun": self.begun, "starts": self.starts, "ends": self.ends}
        (folder / "clock.json").write_text(json.dumps(times))


def layerwise(folder: Path) -> None:
    """Run layerwise: its plan, run, frontier, searcher, scheduler and store."""
    from orchestrator.cluster import Cluster, launch, prepare

    prepare(address=None)  # the next import brings Ray
    from benchmarks.sleeper import Sleeper
    from orchestrator.execution.run import Run
    from orchestrator.plan.plan import make_plan
    from orchestrator.plan.resolve import resolve
    from orchestrator.store.store import Store
    from orchestrator.sweep.load import load_sweep

    asked, clock = settings(folder), Clock()

    class Timed(Run):
        """A run that notes the time at which it was first asked for a job."""

        def take(self) -> Any:
            clock.begin()
            return super().take()

    planned = make_plan(resolve(*load_sweep(asked["sweep"], asked["changes"])))
    run = Timed.open(planned, Store(folder / "store"), clock, only=asked["seconds"])
    launch(run, Cluster(cpus=asked["cpus"], gpus=asked["gpus"]), Sleeper)
    clock.write(folder)


def barrier(folder: Path) -> None:
    """Run plain Tune: an experiment per folder below, one after the other."""
    from orchestrator.cluster import Cluster, connect

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
    """Run Ray's own bookkeeping test as its releases run it, on loopback with a token."""
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
