"""Scheduling at size: many slots, long and short trials. Everything is real but the training.

    python -m benchmarks.cluster                                  all parts: an hour on two cores
    python -m benchmarks.cluster --only simulation                half a minute, without Ray
    python -m benchmarks.cluster --only makespan --jitter 0 0.3   up to 25 minutes per jitter
    python -m benchmarks.cluster --only overhead                  5 to 15 minutes
    python -m benchmarks.cluster --only overhead --full           10,000 trials of a second: an hour

Trials sleep. Each program runs alone in its own process, with a fresh Ray on loopback and a fresh
folder. README.md in this folder describes the comparison and defines each figure.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import scheduling
from benchmarks.scheduling import BARRIERS, Compared, Durations
from benchmarks.versus_tune import attend, hardware, positive, say
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.sweep.load import load_sweep

LAYERWISE = "layerwise"
GRID, SHORT = "balanced", "digits"
CPU = 0.01  # per trial of the grid, beside its GPU: processors do not limit the grid
BOOKKEEPING_SLOTS, SOME, MANY = 16, 1_000, 10_000
SLOTS, JITTERS, SEEDS = (8, 16, 32, 64, 128), (0.0, 0.1, 0.3), range(20)
TESTS = {"Ray's own test": True, "Ray's own test, no loggers": False}
PARTS = ("simulation", "makespan", "overhead")


def planned(sweep: str, *changes: str) -> Plan:
    return make_plan(resolve(*load_sweep(sweep, changes)))


def write_settings(folder: Path, **settings: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(settings))


def run(name: str, program: str, folder: Path) -> float:
    """Run a program to its end. Return its wall time in seconds."""
    say(f"{name}, load {os.getloadavg()[0]:.1f}")
    line = [sys.executable, "-m", "benchmarks.cluster_programs", program, str(folder)]
    return attend(name, line, folder / "log.txt")


# The grid -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A plan, with the expected and the real duration of each trial in seconds."""

    plan: Plan
    changes: tuple[str, ...]
    slots: int
    expected: Durations
    durations: Durations

    @classmethod
    def of(
        cls, *, slots: int, base: float, jitter: float, seed: int, changes: Sequence[str] = ()
    ) -> Grid:
        """Build the grid. `base` is the expected duration of a base in seconds."""
        of_trial = (f"resources.default={{cpu: {CPU}, gpu: 1}}", *changes)
        plan = planned(GRID, *of_trial)
        expected = {id: base * value for id, value in scheduling.expected(plan).items()}
        return cls(
            plan=plan,
            changes=of_trial,
            slots=slots,
            expected=expected,
            durations=scheduling.jittered(expected, jitter, seed),
        )

    def stages(self, barrier: str) -> scheduling.Stages:
        return scheduling.stages(self.plan, self.expected, BARRIERS[barrier])


@dataclass(frozen=True, kw_only=True)
class Makespan:
    """Seconds of one program from the arrival of its workers; `outside` is the rest of its time.

    `restarts` counts workers that started while trials ran.
    """

    seconds: float
    outside: float
    restarts: int


def makespan(folders: Iterable[Path], wall: float) -> Makespan:
    """Return the makespan of one program from the folders of its experiments."""
    seconds, restarts = 0.0, 0
    for folder in folders:
        asked = json.loads((folder / "settings.json").read_text())["seconds"]
        ended = {it.name: json.loads(it.read_text())[1] for it in (folder / "spans").iterdir()}
        assert ended.keys() == asked.keys(), f"trials are missing in {folder}"
        seconds += max(ended.values()) - float((folder / "go").read_text())
        restarts += len(list((folder / "late").glob("*")))
    return Makespan(seconds=seconds, outside=wall - seconds, restarts=restarts)


def of_layerwise(grid: Grid, folder: Path) -> Makespan:
    """Measure layerwise: one experiment, without a barrier."""
    write_settings(
        folder,
        seconds=grid.durations,
        meet=min(grid.slots, sum(not trial.parents for trial in grid.plan.trials.values())),
        sweep=GRID,
        changes=grid.changes,
        cpus=1,
        gpus=grid.slots,
    )
    return makespan([folder], run(LAYERWISE, "layerwise", folder))


def of_barrier(name: str, grid: Grid, folder: Path) -> Makespan:
    """Measure plain Tune: two experiments. The time between them counts as outside."""
    parts = {f"part{number}": ids for number, ids in enumerate(grid.stages(name))}
    request = {"CPU": CPU, "GPU": 1}
    write_settings(folder, parts=list(parts), request=request, cpus=1, gpus=grid.slots)
    for part, ids in parts.items():
        seconds = {id: grid.durations[id] for id in ids}
        write_settings(folder / part, seconds=seconds, meet=min(grid.slots, len(ids)))
    return makespan([folder / part for part in parts], run(name, "barrier", folder))


def measured(grid: Grid) -> dict[str, Makespan]:
    """Measure every program with the same durations."""
    with tempfile.TemporaryDirectory(prefix="cluster-") as scratch:
        makespans = {LAYERWISE: of_layerwise(grid, Path(scratch) / "layerwise")}
        for number, name in enumerate(BARRIERS):
            makespans[name] = of_barrier(name, grid, Path(scratch) / f"barrier{number}")
    return makespans


def grid_table(grid: Grid, makespans: Mapping[str, Makespan]) -> str:
    """Return makespans by their bounds and by layerwise, as a Markdown table."""
    nodes = scheduling.nodes_of(grid.plan)
    least = scheduling.bound(nodes, grid.durations, grid.slots)
    ideal = {
        name: scheduling.with_barrier(grid.stages(name), grid.durations, grid.slots)
        for name in BARRIERS
    } | {LAYERWISE: scheduling.simulated(nodes, grid.durations, grid.slots)}
    lines = [
        f"{len(grid.plan.trials)} trials, {grid.slots} slots; no schedule is shorter than "
        f"{least.simple:.1f} s (bound), {least.tight:.1f} s (tight bound)\n",
        "| | makespan s | × bound | × tight bound | × simulated | × layerwise "
        "| restarts | outside s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in makespans.items():
        by = (least.simple, least.tight, ideal[name], makespans[LAYERWISE].seconds)
        ratios = " | ".join(f"{one.seconds / seconds:.3f}" for seconds in by)
        lines.append(
            f"| {name} | {one.seconds:.1f} | {ratios} | {one.restarts} | {one.outside:.0f} |"
        )
    return "\n".join(lines)


def simulation_table(rows: Iterable[Compared]) -> str:
    """Return the makespans of a simulated clock, means over seeds, as a Markdown table."""
    lines = [
        "| slots | jitter | × bound | × tight bound | tight × bound | × bound, lengths known "
        f"| {' | '.join(BARRIERS)} |",
        "|---" * (6 + len(BARRIERS)) + "|",
    ]
    for row in rows:
        cells = (row.simple, row.tight, row.floor, row.known, *row.barriers.values())
        ratios = " | ".join(f"{cell:.3f}" for cell in cells)
        lines.append(f"| {row.slots} | {row.jitter:g} | {ratios} |")
    return "\n".join(lines)


# Short trials -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """Seconds of one driver: in all (`wall`), and until every slot had a trial (`warm_up`).

    After the warm-up, a slot spends `trial` seconds per trial beyond the one that it sleeps.
    """

    wall: float
    warm_up: float
    trial: float


def overhead(clock: Mapping[str, Any], slots: int) -> Overhead:
    """Return the figures of `clock.json`: the driver's begin, starts and ends of its trials."""
    begun, starts, ends = clock["begun"], clock["starts"], clock["ends"]
    assert len(starts) == len(ends), "a trial was started more than once, or is missing"
    full = filled(starts, ends, slots)
    after = sum(end > full for end in ends)
    return Overhead(
        wall=max(ends) - begun,
        warm_up=full - begun,
        trial=(max(ends) - full) * slots / after - 1.0,
    )


def filled(starts: Sequence[float], ends: Sequence[float], slots: int) -> float:
    """Return the time at which `slots` trials first ran at once, or the most that ever did."""
    events = heapq.merge(((end, -1) for end in sorted(ends)), ((x, 1) for x in sorted(starts)))
    running, most, moment = 0, 0, min(starts)
    for when, change in events:
        running += change
        if most < running <= slots:
            most, moment = running, when
    return moment


def first_of(short: Plan, count: int) -> list[str]:
    """Return the first trials in canonical order, in which parents come first."""
    return list(short.trials)[:count]


def seeds_for(count: int) -> str:
    """Return the change of `seeds` that gives the grid of digits at least `count` trials."""
    return f"seeds={list(range(-(-count // 296)))}"


def of_short(trials: int, slots: int, tests: Mapping[str, bool]) -> dict[str, Overhead]:
    """Measure layerwise and forms of Ray's own bookkeeping test with trials of one second.

    `tests` gives the forms by name, and whether each has Tune's loggers.
    """
    overheads: dict[str, Overhead] = {}
    with tempfile.TemporaryDirectory(prefix="cluster-") as scratch:
        folder = Path(scratch) / "layerwise"
        ids = first_of(planned(SHORT, seeds_for(trials)), trials)  # `lanes` is part of no id
        write_settings(
            folder,
            seconds=dict.fromkeys(ids, 1.0),
            meet=0,
            sweep=SHORT,
            changes=[seeds_for(trials), "lanes=1"],
            cpus=slots,
            gpus=0,
        )
        run(LAYERWISE, "layerwise", folder)
        overheads[LAYERWISE] = overhead(json.loads((folder / "clock.json").read_text()), slots)
        for number, (name, loggers) in enumerate(tests.items()):
            folder = Path(scratch) / f"ray{number}"
            write_settings(folder, trials=trials, cpus=slots, loggers=loggers)
            run(name, "bookkeeping", folder)
            overheads[name] = overhead(json.loads((folder / "clock.json").read_text()), slots)
    return overheads


def overhead_table(overheads: Mapping[str, Overhead], trials: int, slots: int) -> str:
    """Return wall times by the ideal and by Ray's own test, as a Markdown table."""
    ideal, own = trials / slots, overheads[next(iter(TESTS))]
    lines = [
        f"{trials} trials of 1 s, {slots} slots\n",
        "| | wall s | × ideal | × Ray's own test | warm-up s | overhead a trial, ms |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in overheads.items():
        lines.append(
            f"| {name} | {one.wall:.1f} | {one.wall / ideal:.3f} | {one.wall / own.wall:.3f} "
            f"| {one.warm_up:.1f} | {1000 * one.trial:.0f} |"
        )
    return "\n".join(lines)


# The command --------------------------------------------------------------------------------------


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="parts to measure")
    parser.add_argument("--slots", type=positive, default=64, help="GPUs of the grid (default 64)")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="duration of a base of the grid (default 60)"
    )
    parser.add_argument(
        "--jitter",
        type=float,
        nargs="+",
        default=[0.1],
        help="standard deviation of the logarithm of durations (default 0.1)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the jitter")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--trials", type=positive, default=SOME, help="short trials (default 1000)")
    size.add_argument(
        "--full",
        action="store_const",
        const=MANY,
        dest="trials",
        help="10,000 short trials, and Ray's own test with its loggers only",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = options(arguments)
    say(hardware(len(os.sched_getaffinity(0))))
    if "simulation" in chosen.only:
        grid = planned(GRID)
        rows = [scheduling.compared(grid, n, jitter, SEEDS) for n in SLOTS for jitter in JITTERS]
        say(f"\nsimulated clock, {len(SEEDS)} seeds\n\n{simulation_table(rows)}\n")
    if "makespan" in chosen.only:
        for jitter in chosen.jitter:
            drawn = Grid.of(
                slots=chosen.slots, base=chosen.seconds, jitter=jitter, seed=chosen.seed
            )
            say(f"\n{grid_table(drawn, measured(drawn))}")
            say(f"(a base takes {chosen.seconds:g} s, jitter {jitter:g}, seed {chosen.seed})\n")
    if "overhead" in chosen.only:
        tests = {name: on for name, on in TESTS.items() if on or chosen.trials < MANY}
        overheads = of_short(chosen.trials, BOOKKEEPING_SLOTS, tests)
        say(f"\n{overhead_table(overheads, chosen.trials, BOOKKEEPING_SLOTS)}\n")


if __name__ == "__main__":
    main()
