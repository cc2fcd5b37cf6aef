"""The driver alone: a large run on a simulated cluster, whose workers cost nothing.

    python -m benchmarks.driver                         # 100,000 trials on 1,000 slots
    python -m benchmarks.driver --trials 1000 10000     # growth with the size of a run

Trials come from `sweeps/digits.yaml` with more seeds. The driver's own code is real: planning,
opening the run in an empty store, the frontier, the assignments as they travel to workers, the
reports, the progress. Durations are drawn, and the clock is simulated. Neither Tune nor the store's
rows are part of it.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import random
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from orchestrator.execution.assignment import Report
from orchestrator.execution.frontier import Attempt
from orchestrator.execution.run import Run
from orchestrator.execution.work import pack
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.report.progress import RunProgress
from orchestrator.states import Ending
from orchestrator.store.store import Store
from orchestrator.sweep.load import load_sweep

PER_SEED = 296  # trials of `digits`, with its four splits, per seed
MEAN = 60.0  # simulated seconds of a trial


@dataclass
class Spent:
    """Processor seconds of the driver by phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def on(self, phase: str) -> Iterator[None]:
        begun = time.process_time()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.process_time() - begun


@dataclass
class Figures:
    """Size of a run, what its driver took, and how long it lasted on the simulated clock."""

    trials: int
    slots: int
    spent: Spent
    makespan: float
    memory: float
    """Peak of the process, in GiB."""

    @property
    def per_trial(self) -> float:
        """Milliseconds of the driver per trial, from the first attempt to the last."""
        phases = ("take", "pack", "end", "show")
        return 1e3 * sum(self.spent.seconds[phase] for phase in phases) / self.trials


def planned(trials: int, spent: Spent) -> Plan:
    """Return a plan of about so many trials."""
    with spent.on("plan"):
        seeds = list(range(max(1, round(trials / PER_SEED))))
        sweep, source = load_sweep("digits", [f"seeds={seeds}"])
        return make_plan(resolve(sweep, source))


def carried_out(plan: Plan, folder: Path, slots: int, spent: Spent, seed: int = 0) -> float:
    """Carry out a run on a simulated clock. Return its makespan in seconds."""
    draw, now = random.Random(seed), 0.0
    with spent.on("open"):
        progress = RunProgress(Console(file=(folder / "shown.txt").open("w"), force_terminal=False))
        run = Run.open(plan, Store(folder / "store"), progress)
        progress.clock = lambda: now
        progress.begin(run.open_items())
    running: list[tuple[float, int]] = []
    attempts: list[Attempt] = []
    shown = 0.0
    while not run.done:
        while len(running) < slots:
            with spent.on("take"):
                work = run.take()
            if work is None:
                break
            attempt, assignments = work
            with spent.on("pack"):
                for assignment in assignments:
                    pack(assignment)
            run.started(attempt)
            attempts.append(attempt)
            heapq.heappush(running, (now + draw.expovariate(1 / MEAN), len(attempts) - 1))
        now, number = heapq.heappop(running)
        item = attempts[number].item
        report = Report(item, Ending.COMPLETE, "", hashlib.sha256(item.encode()).hexdigest())
        with spent.on("end"):
            run.end(attempts[number], {item: report})
        while shown <= now:  # a terminal draws twice a second
            with spent.on("show"):
                progress.state()
            shown += 0.5
    return now


def measured(trials: int, slots: int) -> Figures:
    """Plan and carry out a run."""
    spent = Spent()
    plan = planned(trials, spent)
    with tempfile.TemporaryDirectory(prefix="driver-") as folder:
        makespan = carried_out(plan, Path(folder), slots, spent)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Figures(len(plan.trials), slots, spent, makespan, memory)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[100_000])
    parser.add_argument("--slots", type=int, default=1_000)
    asked = parser.parse_args(arguments)
    for trials in asked.trials:
        one = measured(trials, asked.slots)
        phases = " ".join(f"{phase} {s:.2f}" for phase, s in one.spent.seconds.items())
        print(
            f"{one.trials} trials on {one.slots} slots: {one.per_trial:.3f} ms per trial, "
            f"{one.memory:.2f} GiB; seconds: {phases}; makespan {one.makespan:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
