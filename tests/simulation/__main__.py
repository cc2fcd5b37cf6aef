"""Simulated sweeps under faults.

python -m tests.simulation --seed 7            # replay one seed, with every operation
python -m tests.simulation --faults 100000     # random faults, until there were so many
python -m tests.simulation --faults 100000 --each 300   # likewise, 300 in each sweep and not 30
python -m tests.simulation --faults 100000 --record tests/simulation/records.json
                                               # likewise, on from the last seed in the record
python -m tests.simulation --crashes           # a crash at every write of a sweep
python -m tests.simulation --mutants           # the protocol, broken on purpose
"""

from __future__ import annotations

import argparse
import functools
import itertools
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.execution.provenance import layerwise_commit
from tests.simulation import records, scenarios
from tests.simulation.records import Record
from tests.simulation.scenarios import EACH, Outcome
from tests.simulation.training import LANES

RECORDED = 100  # sweeps after which the record of a run is written again
PROGRESS = 1000  # sweeps between two lines of progress
BATCH = 200  # seeds that are handed out together to several processes


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--seed", type=int, help="replay one seed")
    parser.add_argument("--faults", type=int, help="faults in all")
    parser.add_argument("--each", type=int, default=EACH, help="faults in each sweep; 30")
    parser.add_argument("--first", type=int, help="first seed; 0, or the one after the record")
    parser.add_argument("--record", type=Path, help="file to which the run is added as it goes")
    parser.add_argument("--processes", type=int, default=1, help="processes for --faults")
    parser.add_argument("--crashes", action="store_true", help="a crash at every write")
    parser.add_argument("--mutants", action="store_true", help="break the protocol on purpose")
    parser.add_argument("--every", type=int, default=1, help="crash at every so many writes")
    asked = parser.parse_args()
    if asked.seed is not None:
        one = scenarios.at_random(asked.seed, faults=asked.each, trace=print)
        print(f"{one.label}: {one.faults} faults, {one.operations} operations")
        print("\n".join(one.problems) or "no problem")
        sys.exit(bool(one.problems))
    if asked.mutants:
        sys.exit(bool(survivors()))
    begun, wrong = _cpu_seconds(), 0
    if asked.crashes:
        for kind in ("folder", "s3"):
            for drivers in (1, 2):
                for what, lanes in itertools.product(scenarios.CRASHES, (1, LANES)):
                    points = list(scenarios.crashes(kind, drivers, what, asked.every, lanes))
                    wrong += sum(told(one) for one in points)
                    print(
                        f"{kind}, {drivers} drivers, {lanes} lanes, {what}: "
                        f"{len(points)} crash points",
                        flush=True,
                    )
    if asked.faults:
        wrong += at_random(
            asked.first, asked.faults, asked.processes, asked.record, each=asked.each
        )
    print(f"{wrong} sweeps with problems, {_cpu_seconds() - begun:.0f} s of CPU")
    sys.exit(bool(wrong))


def at_random(
    first: int | None,
    faults: int,
    processes: int,
    file: Path | None = None,
    *,
    each: int = EACH,
) -> int:
    """Carry out sweeps with random faults. Return the number of those with problems.

    With `file`, they are recorded every `RECORDED` sweeps, so that the run may be stopped at any
    time; without `first`, it goes on from the last seed that is recorded.
    """
    before = records.read(file) if file else []
    first = records.next_seed(before) if first is None else first
    done = wrong = sweeps = 0
    begun, kinds = time.monotonic(), Counter[str]()
    commit, cpu_seconds = layerwise_commit() or "unknown", 0.0
    for one in _sweeps(first, processes, each):
        wrong += told(one)
        kinds.update(one.kinds)
        cpu_seconds += one.cpu_seconds
        done, sweeps = done + one.faults, sweeps + 1
        if sweeps % PROGRESS == 0 or done >= faults:
            minutes = (time.monotonic() - begun) / 60
            print(
                f"{sweeps} sweeps with {done} faults in {minutes:.1f} minutes, "
                f"{wrong} with problems, seeds {first} to {first + sweeps - 1}",
                flush=True,
            )
        if file and (sweeps % RECORDED == 0 or done >= faults):
            record = Record(
                date=f"{datetime.now(UTC):%Y-%m-%d}",
                commit=commit,
                first=first,
                last=first + sweeps - 1,
                each=each,
                sweeps=sweeps,
                faults=done,
                wrong=wrong,
                cpu_minutes=round(cpu_seconds / 60, 2),
            )
            records.write(file, [*before, record])
        if done >= faults:
            break
    print(", ".join(f"{kind} {number}" for kind, number in kinds.items()))
    return wrong


def _sweeps(first: int, processes: int, each: int) -> Iterator[Outcome]:
    """Yield the sweeps of all seeds from `first` on, in their order."""
    sweep = functools.partial(scenarios.one_of_many, faults=each)
    if processes < 2:
        yield from map(sweep, itertools.count(first))
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for start in itertools.count(first, BATCH):
            yield from pool.imap(sweep, range(start, start + BATCH), chunksize=5)


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and of those that it waited for."""
    return sum(os.times()[:4])


def survivors() -> int:
    """Try all mutants, and print a row of the table in docs/safety.md for each of them."""
    from tests.simulation.mutants import MUTANTS, caught

    alive = 0
    for one in MUTANTS.values():
        by = caught(one)
        alive += not by
        print(f"| `{one.name}` | {one.what} | {by.partition(':')[0] or 'nothing'} |", flush=True)
    print(f"{len(MUTANTS) - alive} of {len(MUTANTS)} are caught")
    return alive


def told(one: Outcome) -> bool:
    """Print the problems of a sweep. Return whether it has any."""
    if one.problems:
        print(f"{one.label}: {'; '.join(one.problems[:5])}", flush=True)
    return bool(one.problems)


if __name__ == "__main__":
    main()
