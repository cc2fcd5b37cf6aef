"""CaffeNet's training speed on this device, beside its limits, and what the paper costs at it.

    python -m benchmarks.caffenet [--json FILE] [--every] [--precisions float32 bfloat16 …]
    python -m benchmarks.caffenet --quick --batch 8 --steps 3       # a tiny network, on any CPU

Needs torch, numpy and `trainers/`. Full training is measured in every precision, layout and engine;
frozen layers 1..7 with the plain loop, the trainer and what was fastest (with all: --every).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.paper_cost import CONDITIONS, Rates, hours
from trainers.batches import TaskData, Whole
from trainers.config import DatasetRef, NetworkRef, Recipe, Task, Training, Treatment, training_macs
from trainers.evaluation import evaluate
from trainers.first_weights import initialise
from trainers.learner import Learner
from trainers.networks import build, describe
from trainers.transfer import freeze, held
from trainers.views import View

ENGINES = ("plain", "trainer", "compile", "graph", "compile+graph")
LAYOUTS = ("channels-last", "contiguous")
PRECISIONS = ("float32", "tf32", "bfloat16")
DEPTH = 8
GRAPH_WARM_UP = 3  # steps on a side stream before a capture


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is trained: images, and how many; `shrink` divides the network's widths."""

    side: int = 256
    crop: int = 227
    outputs: int = 1000
    classes: int = 500
    shrink: int = 1
    batch: int = 256
    steps: int = 30
    repeat: int = 3
    images: int = 2048

    @property
    def is_papers(self) -> bool:
        """Whether the network and its images are the paper's, so that its cost can be told."""
        return (self.shrink, self.crop) == (1, 227)


QUICK = Size(side=75, crop=67, outputs=10, classes=10, shrink=8, steps=3, repeat=1, images=32)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to train; `frozen` layers do not learn."""

    engine: str
    precision: str
    layout: str = "channels-last"
    frozen: int = 0


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came out: images a second, the median of the repetitions, or why there is nothing."""

    case: Case
    rate: float | None = None
    evaluate: float | None = None
    memory: int | None = None
    error: str = ""


# Networks ---------------------------------------------------------------------------------------


def training(case: Case, size: Size) -> Training:
    """The paper's recipe. Random filters stand for copied ones: they take as long."""
    options: dict[str, Any] = {"outputs": size.outputs}
    if size.shrink > 1:
        options["shrink"] = size.shrink
    recipe = Recipe(
        optimiser="caffe_sgd",
        rate=1e-4,  # nothing is learned here, and nothing may overflow
        momentum=0.9,
        weight_decay=5e-4,
        batch=size.batch,
        steps=10**9,
        init="network",
        precision=case.precision,  # type: ignore[arg-type]
        crop=size.crop,
        mirror=True,
        pixels="mean_image",
    )
    return Training(
        target=Task(dataset=DatasetRef(name="noise"), classes=tuple(range(size.classes))),
        network=NetworkRef(name="caffenet", options=tuple(sorted(options.items()))),
        treatment=Treatment(kind="random" if case.frozen else "base", n=case.frozen),
        recipe=recipe,
    )


def noise(size: Size, device: torch.device) -> TaskData:
    """Random bytes on the device, seen as the paper sees its images."""
    generator = torch.Generator(device).manual_seed(0)
    shape = (size.images, 3, size.side, size.side)
    images = torch.randint(256, shape, generator=generator, dtype=torch.uint8, device=device)
    labels = torch.randint(size.classes, shape[:1], generator=generator, device=device)
    mean = torch.full(shape[1:], 127.5, device=device)
    part = Whole(images, labels, View(shape[1:], torch.float32, size.crop, mean), size.batch)
    return TaskData(part, part, part)


def set_precision(precision: str, deterministic: bool) -> None:
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"


# Engines: each makes a function of the step that takes one --------------------------------------


def plain(case: Case, size: Size, data: TaskData) -> Callable[[int], object]:
    """What most people write: torch.optim.SGD on float images that are on the device already."""
    device = data.train.labels.device
    one = training(case, size)
    network = build(one.network, size.classes, (3, size.crop, size.crop))
    initialise(network, one.recipe, range(len(network)))
    network.to(device).train()
    learning = list(freeze(network, held(network, one, case.frozen)).values())
    optimiser = torch.optim.SGD(learning, lr=1e-4, momentum=0.9, weight_decay=5e-4)
    assert isinstance(data.train, Whole)
    images = data.view.centre(data.train.images[: size.batch]).contiguous()
    labels = data.train.labels[: size.batch]
    if case.layout == "channels-last":
        network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)

    def step(_: int) -> object:
        optimiser.zero_grad()
        with autocast(case.precision, device):
            loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimiser.step()
        return loss

    return step


def through_learner(
    case: Case, size: Size, data: TaskData
) -> tuple[Learner, Callable[[int], object]]:
    """The trainer's own step; or its network and optimiser, compiled or captured in a graph."""
    learner = Learner(training(case, size), data, None, 0)
    is_last = case.layout == "channels-last"
    if case.engine == "trainer" and is_last:
        return learner, lambda step: learner.step(step, 1e-4)
    layout = torch.channels_last if is_last else torch.contiguous_format
    learner.network.to(memory_format=layout)
    below, above = learner.below, learner.above
    if "compile" in case.engine:
        below, above = torch.compile(below), torch.compile(above)
    device = data.train.labels.device
    labels_now = torch.zeros(size.batch, dtype=torch.int64, device=device)
    shape = (size.batch, *data.view.seen)
    images_now = torch.zeros(shape, device=device).contiguous(memory_format=layout)

    def learn() -> torch.Tensor:
        learner.optimiser.zero_grad(set_to_none=True)
        with autocast(case.precision, device):
            images = images_now
            if len(learner.below):
                with torch.no_grad():
                    images = below(images)
            loss = F.cross_entropy(above(images), labels_now)
        loss.backward()
        learner.optimiser.step()
        return loss

    replay = captured(learn, learner.optimiser) if "graph" in case.engine else learn

    def step(number: int) -> object:
        torch.manual_seed(number)  # as the trainer does: masks are a function of the step
        images, labels = learner.batches(number)
        images_now.copy_(images)
        labels_now.copy_(labels)
        return replay()

    return learner, step


def captured(
    learn: Callable[[], torch.Tensor], optimiser: torch.optim.Optimizer
) -> Callable[[], object]:
    """A whole step as one CUDA graph: static inputs, gradients and velocities from its own pool.

    Warm-up on a side stream makes the velocities and whatever cuDNN and cuBLAS allocate once. The
    default generator is registered by `torch.cuda.graph`, so replays draw new dropout masks.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(GRAPH_WARM_UP):
            learn()
    torch.cuda.current_stream().wait_stream(side)
    optimiser.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        learn()
    return graph.replay


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    if precision != "bfloat16":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


# Measuring --------------------------------------------------------------------------------------


def seconds_a_call(call: Callable[[int], object], size: Size, device: torch.device) -> float:
    """The median over the repetitions, after a warm-up, each from synchronised to synchronised."""
    number = 0
    found = []
    for repetition in range(size.repeat + 1):
        synchronise(device)
        began = time.perf_counter()
        for _ in range(size.steps):
            call(number)
            number += 1
        synchronise(device)
        if repetition:
            found.append((time.perf_counter() - began) / size.steps)
    return statistics.median(found)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(case: Case, size: Size, data: TaskData) -> Row:
    """One case alone on the device. What an engine cannot do is a row too."""
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
        rate = size.batch / seconds_a_call(step, size, device)
        if case.engine == "trainer" and not case.frozen:
            scored = evaluation_rate(learner, size, data)
    except Exception as error:  # of one engine in one precision; the others go on
        return Row(case=case, error=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return Row(case=case, rate=rate, evaluate=scored, memory=memory)


def evaluation_rate(learner: Learner, size: Size, data: TaskData) -> float:
    """Test images a second."""
    once = replace(size, steps=1)
    labels = data.test.labels

    def score(_: int) -> object:
        with learner.autocast:
            return evaluate(learner.network, learner.batches.chunks("test"), labels, size.classes)

    return len(labels) / seconds_a_call(score, once, labels.device)


def measure_all(chosen: argparse.Namespace, size: Size, device: torch.device) -> Iterator[Row]:
    """Full training in every way; then frozen layers, in the ways that matter."""
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


# Limits -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the device does at best, measured, and what a training image needs at least."""

    flops: dict[str, float]
    bytes: float
    needed_flops: dict[int, float]
    needed_bytes: dict[int, dict[str, float]]

    def rate(self, precision: str, frozen: int) -> tuple[float, float]:
        """Images a second by arithmetic alone, and by memory traffic alone."""
        moved = self.needed_bytes[frozen][precision]
        return self.flops[precision] / self.needed_flops[frozen], self.bytes / moved


def limits(
    size: Size, precisions: Sequence[str], device: torch.device, frozen: Sequence[int]
) -> Limits:
    network = training(Case(engine="", precision="float32"), size).network
    macs = describe(network, size.classes, (3, size.crop, size.crop)).macs
    return Limits(
        flops={precision: peak_flops(precision, size, device) for precision in precisions},
        bytes=peak_bytes(size, device),
        needed_flops={n: 2 * training_macs(macs, n) for n in (0, *frozen)},
        needed_bytes={n: needed_bytes(size, n) for n in (0, *frozen)},
    )


def needed_bytes(size: Size, frozen: int) -> dict[str, float]:
    """Memory traffic of one training image, by precision, if every module reads and writes memory.

    Forwards each output is written and read; backwards its gradient is too, and it is read again.
    Weights, float32: read forwards and backwards, their gradient written and read, and the
    optimiser reads and writes weights and velocities; shared by the images of a batch.
    """
    network = training(Case(engine="", precision="float32"), size).network
    layers = build(network, size.classes, (3, size.crop, size.crop)).eval()
    values = [0] * len(layers)
    for number, layer in enumerate(layers):
        for module in layer.modules():
            if not list(module.children()) and not isinstance(module, nn.Flatten | nn.Dropout):
                module.register_forward_hook(_counter(values, number))
    with torch.no_grad():
        layers(torch.zeros(1, 3, size.crop, size.crop))
    weights = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    moved = 2 * sum(values) + 3 * sum(values[frozen:]) + 3 * size.crop**2
    of_weights = 4 * (sum(weights) + (1 + 2 + 4) * sum(weights[frozen:])) / size.batch
    return {p: moved * (2 if p == "bfloat16" else 4) + of_weights for p in PRECISIONS}


def _counter(values: list[int], number: int) -> Callable[..., None]:
    def count(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        values[number] += output.numel()

    return count


def peak_flops(precision: str, size: Size, device: torch.device) -> float:
    """FLOP a second of the largest product of matrices that is tried."""
    set_precision(precision, deterministic=True)
    side = 8192 if device.type == "cuda" else 512
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds_a_call(lambda _: a @ b, size, device)


def peak_bytes(size: Size, device: torch.device) -> float:
    """Bytes a second of a copy, read and written."""
    values = 2**30 if device.type == "cuda" else 2**24
    a = torch.empty(values, dtype=torch.uint8, device=device)
    b = torch.empty_like(a)
    return 2 * values / seconds_a_call(lambda _: b.copy_(a), size, device)


# Showing ----------------------------------------------------------------------------------------


def rates(rows: Sequence[Row]) -> dict[tuple[str, str, str], Rates]:
    """Images a second by (engine, precision, layout), of the ways measured completely enough.

    Evaluations are the trainer's own, in the same precision.
    """
    scored = {row.case.precision: row.evaluate for row in rows if row.evaluate}
    found: dict[tuple[str, str, str], Rates] = {}
    for row in rows:
        case = row.case
        if row.rate is None or case.precision not in scored:
            continue
        here = found.setdefault(
            (case.engine, case.precision, case.layout),
            Rates(full=math.nan, frozen={}, evaluate=scored[case.precision] or math.nan),
        )
        if case.frozen:
            here.frozen[case.frozen] = row.rate
        else:
            found[case.engine, case.precision, case.layout] = replace(here, full=row.rate)
    return found


def as_json(
    rows: Sequence[Row], ceiling: Limits, size: Size, device: torch.device
) -> dict[str, Any]:
    """Rates for `layerwise plan`: the trainer's in the first precision; all others beside them."""

    def one(key: tuple[str, str, str], it: Rates) -> dict[str, Any]:
        frozen = {str(n): rate for n, rate in it.frozen.items()}
        speed = {"full": it.full, "frozen": frozen, "evaluate": it.evaluate}
        names = dict(zip(("engine", "precision", "layout"), key, strict=True))
        whole = total(it) if size.is_papers else None
        return {**names, "images_per_second": speed, "paper_gpu_hours": whole}

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
    """GPU-hours of the whole paper, if every treatment's rate is known."""
    known = set(range(1, DEPTH)) <= set(it.frozen) and not math.isnan(it.full)
    return sum(hours(condition, it) for condition in CONDITIONS) if known else None


def show(rows: Sequence[Row], ceiling: Limits, size: Size, device: torch.device) -> None:
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
        if (whole := total(it)) is None:
            continue
        print(f"\nThe paper's 163 networks, {', '.join(key)}: {whole:,.1f} hours of this device")
        for condition in CONDITIONS:
            print(f"  {condition.name:32} {condition.networks:4} {hours(condition, it):10,.1f}")


def is_reference(case: Case) -> bool:
    """Whether this is what others are shown as multiples of."""
    return (case.engine, case.layout) == ("plain", LAYOUTS[0])


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.caffenet", description=__doc__)
    parser.add_argument("--batch", type=int, help="images a step")
    parser.add_argument("--steps", type=int, help="steps a repetition")
    parser.add_argument("--quick", action="store_true", help="a tiny network, to try it out")
    parser.add_argument("--every", action="store_true", help="frozen layers in every way")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--frozen", nargs="*", type=int, default=list(range(1, DEPTH)))
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
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
        if chosen.json:  # after every row: a long run that is cut short has told what it knew
            text = json.dumps(as_json(rows, ceiling, size, device), indent=1)
            chosen.json.write_text(text + "\n")
    show(rows, ceiling, size, device)


if __name__ == "__main__":
    main(sys.argv[1:])
