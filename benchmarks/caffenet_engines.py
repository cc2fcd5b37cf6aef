"""Training steps of CaffeNet: plain torch, the trainer, compiled, captured as a CUDA graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from trainers.config import DatasetRef, NetworkRef, Task, Training, Treatment
from trainers.first_weights import initialise
from trainers.learner import Learner
from trainers.networks import build
from trainers.recipe import Recipe
from trainers.task_data import TaskData, Whole
from trainers.transfer import freeze, frozen_names
from trainers.views import View

ENGINES = ("plain", "trainer", "compile", "graph", "compile+graph")
LAYOUTS = ("channels-last", "contiguous")
PRECISIONS = ("float32", "tf32", "bfloat16")
GRAPH_WARM_UP = 3  # steps on a side stream before a capture


@dataclass(frozen=True, kw_only=True)
class Size:
    """Images, classes and repetitions of a measurement; `shrink` divides the network's widths."""

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
        """True if network and images are the paper's, so that the rates give the paper's cost."""
        return (self.shrink, self.crop) == (1, 227)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to train; `frozen` layers do not learn."""

    engine: str
    precision: str
    layout: str = "channels-last"
    frozen: int = 0


# Networks ---------------------------------------------------------------------------------------


def training(case: Case, size: Size) -> Training:
    """Return a training by the paper's recipe. Random filters stand for copied ones: as fast."""
    options: dict[str, Any] = {"outputs": size.outputs}
    if size.shrink > 1:
        options["shrink"] = size.shrink
    recipe = Recipe(
        optimiser="caffe_sgd",
        rate=1e-4,  # so small that no weight overflows
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
    """Return random images on the device, with crops and mirrors as in the paper."""
    generator = torch.Generator(device).manual_seed(0)
    shape = (size.images, 3, size.side, size.side)
    images = torch.randint(256, shape, generator=generator, dtype=torch.uint8, device=device)
    labels = torch.randint(size.classes, shape[:1], generator=generator, device=device)
    mean = torch.full(shape[1:], 127.5, device=device)
    part = Whole(images, labels, View(shape[1:], torch.float32, size.crop, mean), size.batch)
    return TaskData(part, part, part)


def set_precision(precision: str, deterministic: bool) -> None:
    """Set the process-wide flags of cuDNN and cuBLAS."""
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"


# Engines ----------------------------------------------------------------------------------------


def plain(case: Case, size: Size, data: TaskData) -> Callable[[int], object]:
    """Return a step as most people write it: torch.optim.SGD on float images on the device."""
    device = data.train.labels.device
    config = training(case, size)
    network = build(config.network, size.classes, (3, size.crop, size.crop))
    initialise(network, config.recipe, range(len(network)))
    network.to(device).train()
    learning = list(freeze(network, frozen_names(network, config, case.frozen)).values())
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
    """Return a learner and a step: its own, or its network compiled or captured in a graph."""
    learner = Learner(training(case, size), data, None, 0)
    is_last = case.layout == "channels-last"
    if case.engine == "trainer" and is_last:
        return learner, lambda step: learner.step(step, 1e-4)
    layout = torch.channels_last if is_last else torch.contiguous_format
    learner.network.to(memory_format=layout)
    frozen_part, learning_part = learner.frozen_part, learner.learning_part
    if "compile" in case.engine:
        frozen_part, learning_part = torch.compile(frozen_part), torch.compile(learning_part)
    device = data.train.labels.device
    labels_now = torch.zeros(size.batch, dtype=torch.int64, device=device)
    shape = (size.batch, *data.view.seen)
    images_now = torch.zeros(shape, device=device).contiguous(memory_format=layout)

    def learn() -> torch.Tensor:
        learner.optimiser.zero_grad(set_to_none=True)
        with autocast(case.precision, device):
            images = images_now
            if len(learner.frozen_part):
                with torch.no_grad():
                    images = frozen_part(images)
            loss = F.cross_entropy(learning_part(images), labels_now)
        loss.backward()
        learner.optimiser.step()
        return loss

    replay = capture(learn, learner.optimiser) if "graph" in case.engine else learn

    def step(number: int) -> object:
        torch.manual_seed(number)  # as the trainer does: dropout masks are a function of the step
        images, labels = learner.batches(number)
        images_now.copy_(images)
        labels_now.copy_(labels)
        return replay()

    return learner, step


def capture(
    learn: Callable[[], torch.Tensor], optimiser: torch.optim.Optimizer
) -> Callable[[], object]:
    """Capture a step as one CUDA graph: static inputs, gradients and velocities from its own pool.

    The warm-up on a side stream creates the velocities and what cuDNN and cuBLAS allocate once.
    `torch.cuda.graph` registers the default generator, so replays draw new dropout masks.
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
    """Return torch's autocast for bfloat16, and an empty context otherwise."""
    if precision != "bfloat16":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
