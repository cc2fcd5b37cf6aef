"""CaffeNet's training speed on this device, beside its limits, and the paper's cost at that speed.

    python -m benchmarks.caffenet [--json FILE] [--every] [--precisions float32 bfloat16 …]
    python -m benchmarks.caffenet --quick --batch 8 --steps 3       # a tiny network, on any CPU

Needs torch, numpy and `trainers/`. Full training is measured in every precision, layout and engine.
Frozen layers 1..7 are measured with the plain loop, the trainer and the fastest engine; with
`--every`, in all of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.caffenet_engines import (
    ENGINES,
    LAYOUTS,
    PRECISIONS,
    Case,
    Size,
    noise,
    plain,
    set_precision,
    through_learner,
)
from benchmarks.caffenet_limits import Limits, limits
from benchmarks.device import device_name, seconds_per_call
from benchmarks.paper_cost import CONDITIONS, Rates, hours
from trainers.evaluation import evaluate
from trainers.learner import Learner
from trainers.task_data import TaskData

DEPTH = 8
QUICK = Size(side=75, crop=67, outputs=10, classes=10, shrink=8, steps=3, repeat=1, images=32)


@dataclass(frozen=True, kw_only=True)
class Row:
    """Speed of one case in images per second, median over the repetitions; or an error.

    `evaluate` is the speed of evaluation, of the trainer alone; `memory` is the peak in bytes.
    """

    case: Case
    rate: float | None = None
    evaluate: float | None = None
    memory: int | None = None
    error: str = ""


# Measuring --------------------------------------------------------------------------------------


def measure(case: Case, size: Size, data: TaskData) -> Row:
    """Measure one case alone on the device. An engine that fails gives a row with its error."""
    device = data.train.labels.device
    if "graph" in case.engine and device.type != "cuda":
        return Row(case=case, error="CUDA graphs need a CUDA GPU")
    set_precision(case.precision, deterministic=case.engine != "plain")
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    torch.compiler.reset()
    try:
        scored = None
        if case.engine == "plain":
            step = plain(case, size, data)
        else:
            learner, step = through_learner(case, size, data)
        rate = size.batch / seconds_per_call(step, size.steps, size.repeat, device)
        if case.engine == "trainer" and not case.frozen:
            scored = evaluation_rate(learner, size, data)
    except Exception as error:  # the other engines and precisions are measured all the same
        return Row(case=case, error=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return Row(case=case, rate=rate, evaluate=scored, memory=memory)


def evaluation_rate(learner: Learner, size: Size, data: TaskData) -> float:
    """Return test images per second."""
    labels = data.test.labels

    def score(_: int) -> object:
        with learner.autocast:
            return evaluate(learner.network, learner.batches.chunks("test"), labels, size.classes)

    return len(labels) / seconds_per_call(score, 1, size.repeat, labels.device)


def measure_all(chosen: argparse.Namespace, size: Size, device: torch.device) -> Iterator[Row]:
    """Measure full training in every way, then frozen layers in the ways that matter."""
    data = noise(size, device)
    for precision in chosen.precisions:
        speeds: dict[Case, float] = {}
        for engine, layout in itertools.product(chosen.engines, LAYOUTS):
            row = measure(Case(engine=engine, precision=precision, layout=layout), size, data)
            if row.rate is not None:
                speeds[row.case] = row.rate
            yield row
        cases = list(speeds)
        if not chosen.every:
            matter = [Case(engine=e, precision=precision) for e in ("plain", "trainer")]
            fastest = max(speeds, key=lambda case: speeds[case], default=None)
            cases = [case for case in cases if case in (*matter, fastest)]
        for case in cases:
            for n in chosen.frozen:
                yield measure(replace(case, frozen=n), size, data)


# Showing ----------------------------------------------------------------------------------------


def rates(rows: Sequence[Row]) -> dict[tuple[str, str, str], Rates]:
    """Return images per second by (engine, precision, layout), where evaluation was measured too.

    The speed of evaluation is the trainer's, in the same precision.
    """
    evaluated = {row.case.precision: row.evaluate for row in rows if row.evaluate}
    by_way: dict[tuple[str, str, str], Rates] = {}
    for row in rows:
        case = row.case
        if row.rate is None or case.precision not in evaluated:
            continue
        here = by_way.setdefault(
            (case.engine, case.precision, case.layout),
            Rates(full=math.nan, frozen={}, evaluate=evaluated[case.precision] or math.nan),
        )
        if case.frozen:
            here.frozen[case.frozen] = row.rate
        else:
            by_way[case.engine, case.precision, case.layout] = replace(here, full=row.rate)
    return by_way


def as_json(
    rows: Sequence[Row], ceiling: Limits, size: Size, device: torch.device
) -> dict[str, Any]:
    """Return the rates for `layerwise plan --device`: the trainer's in the first precision.

    `ways`, `rows` and `limits` hold everything else that was measured.
    """

    def one(key: tuple[str, str, str], it: Rates) -> dict[str, Any]:
        frozen = {str(n): rate for n, rate in it.frozen.items()}
        speed = {"full": it.full, "frozen": frozen, "evaluate": it.evaluate}
        names = dict(zip(("engine", "precision", "layout"), key, strict=True))
        cost = total(it) if size.is_papers else None
        return {**names, "images_per_second": speed, "paper_gpu_hours": cost}

    ways = [one(key, it) for key, it in rates(rows).items()]
    first = next((way for way in ways if way["engine"] == "trainer"), ways[0] if ways else {})
    return {
        "device": device_name(device),
        **first,
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
        "size": asdict(size),
        "ways": ways,
        "rows": [asdict(row) for row in rows],
        "limits": asdict(ceiling),
    }


def total(it: Rates) -> float | None:
    """Return GPU-hours of the complete paper, or None if the rate of a treatment is missing."""
    known = set(range(1, DEPTH)) <= set(it.frozen) and not math.isnan(it.full)
    return sum(hours(condition, it) for condition in CONDITIONS) if known else None


def show(rows: Sequence[Row], ceiling: Limits, size: Size, device: torch.device) -> None:
    """Print the limits, a row per case, and the cost of the paper."""
    print(f"\n{device_name(device)}, torch {torch.__version__}, batch {size.batch}")
    for precision, flops in ceiling.flops.items():
        by_flops, by_bytes = ceiling.rate(precision, 0)
        print(
            f"limits in {precision}: {flops / 1e12:.1f} TFLOP/s and {ceiling.bytes / 1e9:.0f} GB/s "
            f"measured; full training at most {by_flops:,.0f} images/s by arithmetic, "
            f"{by_bytes:,.0f} by traffic between modules"
        )
    print("\n| precision | layout | engine | n | images/s | of arithmetic | × plain | GB |")
    print("|---|---|---|---|---|---|---|---|")
    base = {(r.case.precision, r.case.frozen): r.rate for r in rows if is_reference(r.case)}
    for row in rows:
        case = row.case
        cells = [case.precision, case.layout, case.engine, str(case.frozen or "full")]
        if row.rate is None:
            cells += [row.error, "", "", ""]
        else:
            share = row.rate / ceiling.rate(case.precision, case.frozen)[0]
            reference = base.get((case.precision, case.frozen))
            times = f"{row.rate / reference:.2f}" if reference else ""
            memory = f"{row.memory / 1e9:.1f}" if row.memory else ""
            cells += [f"{row.rate:,.0f}", f"{100 * share:.0f} %", times, memory]
        print("| " + " | ".join(cells) + " |")
    for key, it in rates(rows).items() if size.is_papers else ():
        if (cost := total(it)) is None:
            continue
        print(f"\nThe paper's 163 networks, {', '.join(key)}: {cost:,.1f} hours of this device")
        for condition in CONDITIONS:
            print(f"  {condition.name:32} {condition.networks:4} {hours(condition, it):10,.1f}")


def is_reference(case: Case) -> bool:
    """Return whether the other cases are shown as multiples of this one."""
    return (case.engine, case.layout) == ("plain", LAYOUTS[0])


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.caffenet", description=__doc__)
    parser.add_argument("--batch", type=int, help="images per step")
    parser.add_argument("--steps", type=int, help="steps per repetition")
    parser.add_argument("--quick", action="store_true", help="a tiny network, to try it out")
    parser.add_argument("--every", action="store_true", help="measure frozen layers in every way")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--frozen", nargs="*", type=int, default=list(range(1, DEPTH)))
    parser.add_argument("--json", type=Path, help="write all measurements to this file")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args(arguments)
    for name in ("batch", "steps"):
        if (value := getattr(chosen, name)) is not None and value < 1:
            parser.error(f"--{name}: expected a whole number, x ≥ 1")
    if wrong := [n for n in chosen.frozen if not 1 <= n < DEPTH]:
        parser.error(f"--frozen: expected layers 1..{DEPTH - 1}, found {wrong[0]}")
    return chosen


def main(arguments: Sequence[str]) -> None:
    chosen = options(arguments)
    device = torch.device(chosen.device)
    size = QUICK if chosen.quick else Size()
    changes = {name: v for name in ("batch", "steps") if (v := getattr(chosen, name)) is not None}
    size = replace(size, **changes)
    size = replace(size, images=max(size.images, 2 * size.batch))
    ceiling = limits(size, chosen.precisions, device, chosen.frozen)
    rows = []
    for row in measure_all(chosen, size, device):
        rows.append(row)
        speed = row.error or f"{row.rate:,.0f} images/s"
        print(f"{row.case.precision} {row.case.layout} {row.case.engine}", end=" ", flush=True)
        print(f"n = {row.case.frozen}: {speed}", flush=True)
        if chosen.json:  # after every row, for a long run that is cut short
            text = json.dumps(as_json(rows, ceiling, size, device), indent=1)
            chosen.json.write_text(text + "\n")
    show(rows, ceiling, size, device)


if __name__ == "__main__":
    main(sys.argv[1:])
