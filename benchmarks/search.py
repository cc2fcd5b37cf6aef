"""The gain of a searched schedule of fine-tuning, measured on digits.

    python -m benchmarks.search --store FOLDER [--cpus N] [--repeats K] [--only held-out|samplers]
    python -m benchmarks.search --store FOLDER --only lanes [--repeats K]

Two measurements with networks in the store below FOLDER. After a stop, the same command continues.
The third one measures time, in stores of its own that go away, and runs only if it is asked for.

held-out   One search on two splits. Then every fine-tuned network of ten other splits, once with
           the chosen schedule and once with the sweep's own: the paired difference of test top-1.
samplers   K small searches by TPE and K by random sampling, in pairs of equal splits, first trials
           and training steps. The ratio of the errors (1 − top-1) of their choices, on the searched
           split (validation) and on another split (test).
lanes      The search of `sweeps/digits_search.yaml` with 100 steps per network, in one process:
           every network by itself, and in packs. The CPU and wall seconds of both.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

HELD_OUT = (
    "splits.random=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]",
    "layers=1..7",
    "treatments=[base, selffer+, transfer+]",
)
SMALL = (  # 32 trials of two networks of 150 steps, from a schedule that can be improved
    "network={name: conv8, conv: [8, 16, 16], pool: [1, 3], fc: [32]}",
    "layers=[2]",
    "treatments=[base, selffer+, transfer+]",
    "dataset.train=20",
    "dataset.renderings=2",
    "recipe.steps=150",
    "recipe.evaluate_every=75",
    "fine_tune.recipe={rate: 0.003, schedule: {family: constant}}",
    "keep=none",
    "fine_tune.search.trials=32",
    "fine_tune.search.layers=[2]",
    "fine_tune.search.targets=[A]",
    "fine_tune.search.startup=8",
    "fine_tune.search.space.rate=[0.0003, 0.3]",
    "fine_tune.search.at_once=1",
    "fine_tune.search.pruner=none",
    "fine_tune.search.compare=false",
)
SAMPLERS = ("tpe", "random")
SHORT = ("recipe.steps=100", "recipe.evaluate_every=25", "splits.random=[0]")
WAYS = ("1", "auto")
"""Values of `lanes`: each network by itself, and packs."""
SEEDS = 1000  # seeds of random splits: most of the 126 divisions of ten digits into halves


@dataclass(frozen=True)
class Small:
    """Result of one small search: the errors of its choice, and its training steps."""

    sampler: str
    repeat: int
    searched: float
    held_out: float
    steps: int


def changes(sampler: str, repeat: int) -> list[str]:
    """Return the changes of the sweep `digits_search` for the small search of a repetition.

    A pair has equal splits, networks and first trials. Only the sampler differs.
    """
    searched, reported = distinct(repeat)
    return [
        *SMALL,
        f"name=small-{sampler}-{repeat}",
        f"splits.random=[{reported}]",
        f"fine_tune.search.splits=[{searched}]",
        f"fine_tune.search.sampler={sampler}",
        f"fine_tune.search.seed={repeat}",
    ]


def distinct(repeat: int) -> tuple[int, int]:
    """Return seeds of two splits with different halves, which no other repetition uses."""
    seeds = divisions()
    return seeds[2 * repeat], seeds[2 * repeat + 1]


@functools.lru_cache(maxsize=1)
def divisions() -> list[int]:
    """Return seeds of random splits of ten digits, one per division."""
    from trainers.splits import random_split

    seeds: dict[frozenset[tuple[int, ...]], int] = {}
    for seed in range(SEEDS):
        split = random_split(seed, 10)
        seeds.setdefault(frozenset((split.a, split.b)), seed)
    return sorted(seeds.values())


def small_search(sampler: str, repeat: int, folder: str) -> Small:
    """Run one small search and the trials that wait for it, in this process."""
    from orchestrator.execution.inline import run_inline
    from orchestrator.execution.run import Run
    from orchestrator.plan.plan import make_plan
    from orchestrator.plan.resolve import resolve
    from orchestrator.plan.study import best
    from orchestrator.report.search_status import rows_of
    from orchestrator.store.store import Store
    from orchestrator.sweep.load import load_sweep

    loaded = load_sweep("digits_search", changes(sampler, repeat))
    planned = make_plan(resolve(*loaded))
    store = Store(Path(folder) / f"{sampler}-{repeat}")
    run = Run.open(planned, store, Quiet())
    run_inline(run)
    assert run.tally()["complete"] == len(run.trials), run.tally()
    [study] = planned.studies
    rows = rows_of(study, store)
    chosen = best(rows)
    assert chosen is not None
    tuned = [trial.id for trial in planned.members if trial.training.schedule_from]
    tested = [row["top1"] for row in store.rows(tuned)]
    steps = study.cells[0].training.recipe.steps or 0
    return Small(
        sampler=sampler,
        repeat=repeat,
        searched=1 - chosen["value"],
        held_out=1 - statistics.mean(tested),
        steps=steps * sum(len(row["cells"]) for row in rows),
    )


class Quiet:
    """Progress without output."""

    def started(self, trial: Any) -> None: ...

    def ended(self, trial: Any, ending: Any, message: str, accuracy: Any = None) -> None: ...

    def given_up(self, trial: Any, state: Any, reason: str) -> None: ...

    def again(self, trial: Any) -> None: ...


def ratio(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Return the geometric mean of first by second, with a 95 % t interval of its logarithm."""
    logs = [math.log(first / second) for first, second in pairs]
    mean, count = statistics.mean(logs), len(logs)
    half = float(stdtrit(count - 1, 0.975)) * statistics.stdev(logs) / math.sqrt(count)
    return {
        "ratio": math.exp(mean),
        "low": math.exp(mean - half),
        "high": math.exp(mean + half),
        "pairs": count,
    }


def samplers(folder: Path, repeats: int, cpus: int) -> dict[str, Any]:
    """Run the small searches. Return the errors of TPE's choices by those of random sampling."""
    jobs = [(sampler, repeat) for repeat in range(repeats) for sampler in SAMPLERS]
    context = multiprocessing.get_context("spawn")
    results: dict[tuple[str, int], Small] = {}
    with ProcessPoolExecutor(cpus, mp_context=context) as pool:
        running = [pool.submit(small_search, *job, str(folder)) for job in jobs]
        for job, future in zip(jobs, running, strict=True):
            results[job] = one = future.result()
            print(
                f"{job[0]} {job[1]}: error {100 * one.searched:.1f} % where it searched, "
                f"{100 * one.held_out:.1f} % held out, {one.steps} steps",
                flush=True,
            )
    pairs = [tuple(results[sampler, repeat] for sampler in SAMPLERS) for repeat in range(repeats)]
    assert all(tpe.steps == random.steps for tpe, random in pairs)
    return {
        "steps of a search": pairs[0][0].steps,
        "searched": ratio([(tpe.searched, random.searched) for tpe, random in pairs]),
        "held out": ratio([(tpe.held_out, random.held_out) for tpe, random in pairs]),
    }


def held_out(folder: Path, cpus: int) -> dict[str, Any]:
    """Run one search. Return the gain of its choice on ten splits that it never saw."""
    from orchestrator.report.query import run_query
    from orchestrator.store.store import Store

    store = folder / "held-out"
    sets = [part for change in HELD_OUT for part in ("--set", change)]
    command = [sys.executable, "-m", "orchestrator", "run", "digits_search", "--store", str(store)]
    subprocess.run([*command, "--cpus", str(cpus), "--no-report", *sets], check=True)
    opened = Store(store)
    columns = "arm, n, estimate, low, high, n_pairs, n_splits"
    rows = run_query(opened, f"SELECT {columns} FROM held_out ORDER BY arm, n").to_pylist()
    studies = "SELECT number, state, value, planned, parameters FROM studies ORDER BY number"
    trials = run_query(opened, studies).to_pylist()
    return {"differences": rows, "trials": trials}


def search_seconds(lanes: str) -> dict[str, float]:
    """Run one search in a process of its own. Return its seconds, imports included."""
    sets = ["--set", f"lanes={lanes}", *(part for x in SHORT for part in ("--set", x))]
    search = [sys.executable, "-m", "orchestrator", "search", "digits_search", "--inline"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as store:
        subprocess.run([*search, "--store", store, *sets], check=True, capture_output=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu": cpu, "wall": wall}


def lanes(repeats: int) -> dict[str, Any]:
    """Return the seconds of a search alone and in packs, and how many times less packs take.

    Every other repetition reverses the order.
    """
    rounds: list[dict[str, dict[str, float]]] = []
    for number in range(repeats):
        order = WAYS[::-1] if number % 2 else WAYS
        rounds.append({way: search_seconds(way) for way in order})
        print(f"{number + 1}/{repeats}, load {os.getloadavg()[0]:.1f}: {rounds[-1]}", flush=True)
    alone, packs = WAYS
    times = {
        name: [one[alone][name] / one[packs][name] for one in rounds] for name in ("cpu", "wall")
    }
    summary = {
        name: {"least": min(x), "median": statistics.median(x), "most": max(x)}
        for name, x in times.items()
    }
    return {"times less": summary, "rounds": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", type=Path, required=True, help="folder, kept for the next start")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20, help="pairs of small searches")
    parser.add_argument("--only", choices=["held-out", "samplers", "lanes"])
    chosen = parser.parse_args()
    results: dict[str, Any] = {}
    if chosen.only == "lanes":
        print(json.dumps(lanes(chosen.repeats)["times less"], indent=1))
        return
    if chosen.only != "samplers":
        results["held-out"] = held_out(chosen.store, chosen.cpus)
    if chosen.only != "held-out":
        results["samplers"] = samplers(chosen.store, chosen.repeats, chosen.cpus)
    (chosen.store / "search.json").write_text(json.dumps(results, indent=1))
    print(json.dumps(results.get("samplers"), indent=1))
    for row in results.get("held-out", {}).get("differences", []):
        points = {name: 100 * row[name] for name in ("estimate", "low", "high")}
        print(
            f"{row['arm']} n={row['n'] or 'all'}: {points['estimate']:+.2f} points "
            f"[{points['low']:+.2f}, {points['high']:+.2f}] over {row['n_pairs']} pairs, "
            f"{row['n_splits']} splits"
        )


if __name__ == "__main__":
    main()
