"""The driver with Ray Tune: processor time per trial by the number of slots.

    python -m benchmarks.driver_tune                              four sizes: ten minutes
    python -m benchmarks.driver_tune --slots 16 64 --real         beside real worker processes
    python -m benchmarks.driver_tune --slots 1000 --trials 10000  growth with the size of a run
    python -m benchmarks.driver_tune --slots 64 --trials 6000 --lanes 16    trials in packs

Trials come from `sweeps/digits.yaml` with more seeds. The driver is that of `layerwise run`, with
Ray, Tune's controller and placement groups; workers wait where others train and write no rows. They
live in one process, or with `--real`, in a second run, each in its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cluster import planned, seeds_for, write_settings
from benchmarks.cluster_programs import Clock
from benchmarks.sleeping import settings
from benchmarks.versus_tune import attend, hardware, positive, say

SWEEP = "digits"
CPU = 0.001  # per trial, beside its GPU: processors of the machine do not limit the slots
PER_SECOND = 100  # trials that would end per second if the driver cost nothing
ROUNDS = 3  # trials per slot, at least
SHARED, OWN = "one process", "own process each"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Cost of the driver of one run."""

    trial: float
    """Milliseconds of the processor per trial, while all slots had work."""
    rate: float
    """Trials that ended per second meanwhile."""
    start: float
    """Seconds of the processor from the start of Ray until as many trials ended as are slots."""
    end: float
    """Seconds of the processor after the last trial."""
    memory: float
    """Peak of the driver's process, in GiB."""


class Meter(Clock):
    """Clock that also notes the processor seconds of the driver's process."""

    def __init__(self) -> None:
        super().__init__()
        self.spent: list[float] = []

    def ended(self, trial: Any, ending: Any, message: str, accuracy: Any = None) -> None:
        super().ended(trial, ending, message, accuracy)
        self.spent.append(time.process_time())


def program(folder: Path) -> None:
    """Be the driver that `settings.json` in the folder describes, and write `figures.json`."""
    from orchestrator.cluster import Cluster, launch, prepare

    prepare(address=None)  # the next import brings Ray
    from benchmarks.shared_process import Waiting, share_one_process
    from orchestrator.execution.run import Run
    from orchestrator.store.store import Store

    asked, meter = settings(folder), Meter()
    if asked["shared"]:
        share_one_process()
    plan = planned(SWEEP, *asked["changes"])
    only = list(plan.trials)[: asked["trials"]]
    run = Run.open(plan, Store(folder / "store"), meter, only=only)
    begun = time.process_time()
    launch(run, Cluster(cpus=1, gpus=asked["slots"]), Waiting)
    assert len(meter.ends) == len(only), "a trial is missing"
    first, last = asked["slots"] - 1, len(only) - asked["slots"] - 1
    count = last - first
    figures = {
        "trial": 1e3 * (meter.spent[last] - meter.spent[first]) / count,
        "rate": count / (meter.ends[last] - meter.ends[first]),
        "start": meter.spent[first] - begun,
        "end": time.process_time() - meter.spent[-1],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    (folder / "figures.json").write_text(json.dumps(figures))


def measured(slots: int, trials: int, lanes: int = 1, *, shared: bool = True) -> Figures:
    """Run a driver in a process of its own, and return its figures."""
    gpu = f"resources.default={{cpu: {CPU}, gpu: 1}}"
    name = f"{trials} trials on {slots} slots, {SHARED if shared else OWN}"
    with tempfile.TemporaryDirectory(prefix="driver-") as scratch:
        folder = Path(scratch)
        write_settings(
            folder,
            slots=slots,
            trials=trials,
            shared=shared,
            mean=slots / PER_SECOND,
            changes=[seeds_for(trials), f"lanes={lanes}", gpu],
        )
        code = f"from benchmarks.driver_tune import *; program(Path({scratch!r}))"
        attend(name, [sys.executable, "-c", code], folder / "log.txt")
        return Figures(**json.loads((folder / "figures.json").read_text()))


HEAD = (
    "| slots | trials | lanes | workers | driver ms per trial | trials per second, at most "
    "| passed here | shortest trial s | start CPU s | end CPU s | memory GiB |\n"
    + "|---" * 11
    + "|"
)


def line(slots: int, trials: int, lanes: int, workers: str, one: Figures) -> str:
    """Return a run as a line of a Markdown table."""
    return (
        f"| {slots} | {trials} | {lanes} | {workers} | {one.trial:.2f} | {1e3 / one.trial:.0f} "
        f"| {one.rate:.0f} | {slots * one.trial / 1e3:.2f} | {one.start:.1f} | {one.end:.1f} "
        f"| {one.memory:.2f} |"
    )


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.driver_tune", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--slots", type=positive, nargs="+", default=[16, 64, 256, 1000], help="trials at a time"
    )
    parser.add_argument(
        "--trials", type=positive, help="trials of a run (default: 3 per slot, at least 1000)"
    )
    parser.add_argument("--lanes", type=positive, default=1, help="most trials of a pack")
    parser.add_argument(
        "--real", action="store_true", help="repeat each run with a process for each worker"
    )
    chosen = parser.parse_args(arguments)
    if chosen.trials and chosen.trials < ROUNDS * max(chosen.slots):
        parser.error(f"--trials: expected at least {ROUNDS} per slot, found {chosen.trials}")
    return chosen


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = options(arguments)
    say(hardware(len(os.sched_getaffinity(0))) + "\n\n" + HEAD)
    for slots in chosen.slots:
        trials = chosen.trials or max(1000, ROUNDS * slots)
        one = measured(slots, trials, chosen.lanes)
        say(line(slots, trials, chosen.lanes, SHARED, one))
        if chosen.real:
            own = measured(slots, trials, chosen.lanes, shared=False)
            say(line(slots, trials, chosen.lanes, OWN, own))
            say(f"({OWN} / {SHARED}: {own.trial / one.trial:.2f} times the ms per trial)")


if __name__ == "__main__":
    main()
