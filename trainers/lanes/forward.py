"""Equal layers of several networks as one operation.

A convolution of K lanes is one convolution with K groups, and a linear layer of K lanes is one
batched matrix product. Modules without weights see the values of all lanes at once, and so does
normalisation (`normalisation.py`). A block of torchvision runs on joined parts (`blocks.py`). Any
other module runs lane by lane. The bits of a lane do not depend on the number of lanes from two on,
so a single lane is computed twice.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from trainers.lanes.blocks import Block, is_block
from trainers.lanes.normalisation import Stacker, is_joined, normalisation
from trainers.lanes.values import LAST, Values, lay_out_gradient
from trainers.networks import is_random

ELEMENTWISE = (
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh),
    *(nn.Hardswish, nn.Hardsigmoid),
)
POOLS = (nn.MaxPool2d, nn.AvgPool2d)

LARGE = 2e7
"""Multiply-adds of a layer of one lane from which lanes are computed one by one.

The libraries have faster kernels for a single large convolution than for one with groups, and the
time of a call no longer counts (`benchmarks/lanes.py` measures both). The bound is fixed, not
measured when a pack starts: a trial must give the same bits in every run.
"""

WEIGHTS, GROUPS = 1e5, 32
"""Weights and groups of a convolution of one lane above which lanes are computed one by one."""

ALIGNED = 16
"""Numbers of four bytes that a cache line holds."""


class Draws:
    """States of the global generators, one per lane, for modules that draw random numbers."""

    def __init__(self, device: torch.device, seeds: Sequence[int]):
        self.generators = [torch.default_generator]
        if device.type == "cuda":
            self.generators.append(torch.cuda.default_generators[device.index or 0])
        self.states: list[list[torch.Tensor]] = []
        for seed in seeds:
            for generator in self.generators:
                generator.manual_seed(seed)
            self.states.append(self._now())

    def _now(self) -> list[torch.Tensor]:
        return [generator.get_state() for generator in self.generators]

    @contextlib.contextmanager
    def of(self, lane: int) -> Iterator[None]:
        """Let the global generators be those of a lane."""
        for generator, state in zip(self.generators, self.states[lane], strict=True):
            generator.set_state(state)
        yield
        self.states[lane] = self._now()


Operation = Callable[[Values, Draws | None], Values]


def unjoined(network: nn.Module) -> list[str]:
    """Return the kinds of modules that have no joined form and run lane by lane, sorted."""
    if _is_chain(network) or is_block(network):
        return sorted({name for part in network.children() for name in unjoined(part)})
    if is_joined(network):
        return []
    is_known = type(network) in (*ELEMENTWISE, *POOLS, nn.Dropout, nn.Flatten, nn.Linear, nn.Conv2d)
    return [] if is_known or _is_mean(network) else [type(network).__name__]


class Joined:
    """Modules of equal place in K networks, as one module on the values of K lanes."""

    def __init__(self, modules: Sequence[Any], stack: Stacker):
        """`stack` joins the weights when the first values come."""
        self.modules, self.stack = list(modules), stack
        self.run: Operation | None = None

    def __call__(self, values: Values, draws: Draws | None) -> Values:
        """Return the outputs; `draws` has the generators of the same lanes, if any is needed."""
        if self.run is None:
            self.run = self._choose(values)
        return self.run(values, draws)

    def _choose(self, values: Values) -> Operation:
        """Return the joined operation, or that of the modules one by one."""
        module = self.modules[0]
        kind = type(module)
        if any(type(one) is not kind or _is_hooked(one) for one in self.modules):
            return self._apart
        operation: Operation = self._apart
        if _is_chain(module):
            operation = self._chain()
        elif is_block(module):
            operation = self._block()
        elif normalise := normalisation(self.modules, self.stack, values):
            operation = lambda values, _: normalise(values)  # noqa: E731
        elif kind in ELEMENTWISE:
            operation = _elementwise(module)
        elif kind in POOLS:
            operation = lambda values, _: values.map_channels(module)  # noqa: E731
        elif _is_mean(module):
            operation = lambda values, _: values.map_channels(_mean)  # noqa: E731
        elif kind is nn.Dropout:
            operation = self._dropout
        elif kind is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
            operation = lambda values, _: values.flat()  # noqa: E731
        elif kind is nn.Linear and values.dim == 2 and self._is_aligned(values):
            operation = self._linear()
        elif kind is nn.Conv2d and self._is_joined_convolution(values):
            operation = self._convolution()
        return operation

    def _chain(self) -> Operation:
        columns = zip(*(list(module) for module in self.modules), strict=True)
        parts = [Joined(column, self.stack) for column in _pooled_first(list(columns))]

        def run(values: Values, draws: Draws | None) -> Values:
            for part in parts:
                values = part(values, draws)
            return values

        return run

    def _block(self) -> Operation:
        block = self.modules[0]
        parts = {
            name: Joined([m._modules[name] for m in self.modules], self.stack)
            for name, part in block._modules.items()
            if part is not None
        }

        def run(values: Values, draws: Draws | None) -> Values:
            called = {name: functools.partial(part, draws=draws) for name, part in parts.items()}
            return Block(block, called)(values)

        return run

    def _apart(self, values: Values, draws: Draws | None) -> Values:
        """Run the modules lane by lane."""
        outputs = []
        for lane, (module, inputs) in enumerate(zip(self.modules, values.apart(), strict=True)):
            draw = draws is not None and is_random(module)
            with draws.of(lane) if draw and draws else contextlib.nullcontext():
                outputs.append(module(inputs))
            lay_out_gradient(outputs[-1])
        return Values.of(outputs)

    def _dropout(self, values: Values, draws: Draws | None) -> Values:
        is_on = any(module.training and module.p for module in self.modules)
        return self._apart(values, draws) if is_on else values

    def _linear(self) -> Operation:
        lanes, (out, inputs) = len(self.modules), self.modules[0].weight.shape
        weight = self.stack([m.weight for m in self.modules])
        bias = None
        if self.modules[0].bias is not None:
            bias = self.stack([m.bias for m in self.modules])

        def run(values: Values, draws: Draws | None) -> Values:  # noqa: ARG001
            weights = _padded(weight.view(lanes, out, inputs)).transpose(1, 2)
            rows = _padded(values.rows())
            if bias is None:
                outputs = torch.bmm(rows, weights)
            else:
                outputs = torch.baddbmm(_padded(bias.view(lanes, 1, out)), rows, weights)
            return Values.of_rows(outputs if lanes > 1 else outputs[:1].clone())

        return run

    def _convolution(self) -> Operation:
        module, lanes = self.modules[0], len(self.modules)
        weight = self.stack([m.weight for m in self.modules])
        bias = None
        if module.bias is not None:
            bias = self.stack([m.bias for m in self.modules])
        settings: dict[str, Any] = {
            name: getattr(module, name) for name in ("stride", "padding", "dilation")
        }

        def run(values: Values, draws: Draws | None) -> Values:  # noqa: ARG001
            images, weights, biases, groups = values.channels(), weight, bias, lanes
            if lanes == 1:
                images, weights, groups = _twice(images, 1), _twice(weights, 0), 2
                biases = None if bias is None else _twice(bias, 0)
            outputs = F.conv2d(images, weights, biases, groups=groups * module.groups, **settings)
            if lanes == 1:
                outputs = outputs[:, : module.out_channels].clone(memory_format=LAST)
            return Values.of_channels(outputs, lanes)

        return run

    def _is_aligned(self, values: Values) -> bool:
        """Return whether each lane's matrices of a linear layer begin at multiples of 64 bytes.

        MKL's products have other bits elsewhere, so that a lane would depend on its place.
        """
        (images, _), (out, inputs) = values.shape, self.modules[0].weight.shape
        sizes = images * inputs, images * out, inputs * out
        return self._is_small(values) and not any(size % ALIGNED for size in sizes)

    def _is_joined_convolution(self, values: Values) -> bool:
        module = self.modules[0]
        is_narrow = module.weight.numel() <= WEIGHTS and module.groups <= GROUPS
        return module.padding_mode == "zeros" and is_narrow and self._is_small(values)

    def _is_small(self, values: Values) -> bool:
        """Return whether one lane has fewer multiply-adds than `LARGE`, about."""
        module = self.modules[0]
        places = math.prod(values.shape[2:]) / math.prod(getattr(module, "stride", ()))
        return bool(values.shape[0] * places * module.weight.numel() < LARGE)


def _pooled_first(columns: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return modules in their order, but max-pooling before a ReLU instead of after it.

    The outputs and gradients are the same, bit for bit, and the ReLU has less to do.
    """
    ordered = list(columns)
    for place in range(1, len(ordered)):
        if type(ordered[place - 1][0]) is nn.ReLU and type(ordered[place][0]) is nn.MaxPool2d:
            ordered[place - 1], ordered[place] = ordered[place], ordered[place - 1]
    return ordered


def _elementwise(module: Any) -> Operation:
    """Return the operation of a module that sees single numbers.

    It never works in place on a view: autograd would copy the whole.
    """
    apart = copy.copy(module)
    if getattr(module, "inplace", False):
        apart.inplace = False
    return lambda values, _: values.map(apart if values.is_view else module)


def _is_chain(module: nn.Module) -> bool:
    """Return whether a module calls its parts one after the other, and does nothing else."""
    kind = type(module)
    is_plain = kind.__call__ is nn.Module.__call__
    return is_plain and kind.forward is nn.Sequential.forward


def _is_mean(module: nn.Module) -> bool:
    return type(module) is nn.AdaptiveAvgPool2d and module.output_size in (1, (1, 1))


def _mean(images: torch.Tensor) -> torch.Tensor:
    """Return the mean over all positions. Adaptive pooling adds in another order at some places."""
    return F.avg_pool2d(images, images.shape[2:])


def _is_hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _padded(lanes: torch.Tensor) -> torch.Tensor:
    """Return values (K, …) of at least two lanes."""
    return lanes if len(lanes) > 1 else _twice(lanes, 0)


def _twice(lane: torch.Tensor, dim: int) -> torch.Tensor:
    """Return the values of one lane beside a copy, which gets no gradient."""
    joined = torch.cat([lane, lane.detach()], dim)
    if joined.dim() == 4:
        joined = joined.contiguous(memory_format=LAST)
    return joined
