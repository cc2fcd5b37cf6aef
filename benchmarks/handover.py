"""Time of a slot between two trainings, for trials alone and in packs: Ray, Tune and the store.

    python -m benchmarks.handover [--trials N] [--slots N] [--lanes 1 16]

Workers sleep instead of training, and read and write what a trial reads and writes. README.md in
this folder defines each figure.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cluster import SHORT, first_of, planned, run, seeds_for, write_settings
from benchmarks.versus_tune import positive, say


@dataclass(frozen=True, kw_only=True)
class Handover:
    """Milliseconds of a slot per trial, beyond training."""

    files: float
    """Reading before the training and writing after it."""
    next: float
    """From the last file of a job to the arrival of the next one: Ray, Tune and the driver."""

    @property
    def both(self) -> float:
        return self.files + self.next


@dataclass(frozen=True)
class Job:
    """A job in a worker: its trials, and when it came, slept, woke and had written all."""

    trials: int
    came: float
    slept: float
    woke: float
    wrote: float


def handover(workers: Iterable[Sequence[Job]]) -> Handover:
    """Return the means over all jobs of all workers, per trial.

    The medians of the waits count: a worker that finds nothing ready waits for a training, not for
    the programs. The first job of a worker has no wait before it.
    """
    files, waits, trials = 0.0, [], 0
    for jobs in workers:
        for job in jobs:
            files += job.slept - job.came + job.wrote - job.woke
            trials += job.trials
        waits += [(b.came - a.wrote) / b.trials for a, b in itertools.pairwise(jobs)]
    return Handover(files=1000 * files / trials, next=1000 * statistics.median(waits))


def jobs_of(folder: Path) -> list[list[Job]]:
    """Return the jobs of each worker that wrote `jobs/<pid>`, in order."""
    workers = []
    for path in sorted((folder / "jobs").iterdir()):
        lines = map(json.loads, path.read_text().splitlines())
        workers.append([Job(line["trials"], *line["times"]) for line in lines])
    return workers


def measure(trials: int, slots: int, lanes: int) -> Handover:
    """Run layerwise with trials of one second, in packs of at most so many `lanes`."""
    with tempfile.TemporaryDirectory(prefix="handover-") as scratch:
        folder = Path(scratch) / "layerwise"
        ids = first_of(planned(SHORT, seeds_for(trials)), trials)  # `lanes` is part of no id
        write_settings(
            folder,
            seconds=dict.fromkeys(ids, 1.0),
            meet=0,
            sweep=SHORT,
            changes=[seeds_for(trials), f"lanes={lanes}"],
            cpus=slots,
            gpus=0,
        )
        run(f"layerwise, {lanes} lanes", "layerwise", folder)
        return handover(jobs_of(folder))


def table(measured: Mapping[int, Handover]) -> str:
    """Return the figures by number of lanes, as a Markdown table."""
    lines = ["| lanes | files ms | next ms | both ms |", "|---|---|---|---|"]
    for lanes, one in measured.items():
        lines.append(f"| {lanes} | {one.files:.1f} | {one.next:.1f} | {one.both:.1f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each number of lanes, and print the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.handover",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trials", type=positive, default=256, help="trials of a second")
    parser.add_argument("--slots", type=positive, default=2, help="trials or packs at a time")
    parser.add_argument("--lanes", type=positive, nargs="+", default=[1, 16], help="sizes of packs")
    chosen = parser.parse_args(arguments)
    measured = {n: measure(chosen.trials, chosen.slots, n) for n in chosen.lanes}
    say(f"\n{chosen.trials} trials of 1 s, {chosen.slots} slots\n\n{table(measured)}")


if __name__ == "__main__":
    main()
