"""Batch and group normalisation of several networks as one operation on their channels.

Every channel, or group of channels, is normalised by itself, and its bits depend neither on the
number of channels nor on its place among them. Two exceptions are removed here. torch computes
channels that do not fill a vector of the processor by other instructions, so channels are filled up
to whole cache lines. And it computes other layouts by other instructions, so all have one layout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from trainers.lanes.values import Values, lay_out_gradient

LARGE = 2e5
"""Values of a lane from which lanes are normalised one by one: see `forward.LARGE`."""

LINE = 64  # bytes of a cache line, and of the longest vector

Stacker = Callable[[Sequence[torch.Tensor]], torch.Tensor]
"""Returns the tensors (O, …) of all lanes as one tensor (K·O, …)."""

Normalisation = Callable[[Values], Values]


def is_joined(module: nn.Module) -> bool:
    """Return whether the values of lanes that this module normalises can be joined."""
    if type(module) is nn.GroupNorm:
        return True
    kinds = nn.BatchNorm1d, nn.BatchNorm2d
    # Without a momentum, lanes that have taken unequal numbers of steps have unequal factors.
    is_known = type(module) in kinds and module.momentum is not None
    return is_known and bool(module.track_running_stats)


def normalisation(modules: Sequence[Any], stack: Stacker, values: Values) -> Normalisation | None:
    """Return the modules as one operation on such values. None if there is none.

    On a GPU there is none: its reductions have not been found equal for every number of channels.
    """
    module = modules[0]
    dim = 2 if type(module) is nn.BatchNorm1d else 4
    if not is_joined(module) or values.dim != dim or values.device.type != "cpu":
        return None
    if math.prod(values.shape) >= LARGE:
        return None
    is_batch = type(module) is not nn.GroupNorm
    return _BatchNorm(modules, stack) if is_batch else _group(modules, stack)


def _group(modules: Sequence[Any], stack: Stacker) -> Normalisation:
    lanes, module = len(modules), modules[0]
    weight, bias = _affine(modules, stack)

    def run(values: Values) -> Values:
        groups = lanes * module.num_groups
        inputs = values.channels()
        if math.prod(inputs.shape[2:]) == 1:  # as vectors: such maps have no certain layout
            inputs = inputs.flatten(1).contiguous()
        outputs = F.group_norm(inputs, groups, weight, bias, module.eps)
        lay_out_gradient(outputs)
        return Values.of_channels(outputs.view(values.channels().shape), lanes)

    return run


class _BatchNorm:
    """Batch normalisation. Lanes with frozen statistics use them, the others measure theirs."""

    def __init__(self, modules: Sequence[Any], stack: Stacker):
        self.modules = modules
        self.weight, self.bias = _affine(modules, stack)
        self.mean = stack([m.running_mean for m in modules])
        self.variance = stack([m.running_var for m in modules])

    def __call__(self, values: Values) -> Values:
        lanes_of: dict[bool, list[int]] = {}
        for lane, module in enumerate(self.modules):
            lanes_of.setdefault(module.training, []).append(lane)
        if len(lanes_of) == 1:
            [(measures, lanes)] = lanes_of.items()
            return self._normalised(values, lanes, measures)
        apart = values.apart()
        outputs: dict[int, torch.Tensor] = {}
        for measures, lanes in lanes_of.items():
            some = self._normalised(Values.of([apart[lane] for lane in lanes]), lanes, measures)
            outputs |= dict(zip(lanes, some.apart(), strict=True))
        return Values.of([outputs[lane] for lane in range(values.lanes)])

    def _normalised(self, values: Values, lanes: Sequence[int], measures: bool) -> Values:
        """Return the values of some lanes, all of which measure their statistics or do not."""
        module, count = self.modules[0], len(lanes) * self.modules[0].num_features
        inputs = values.places() if values.dim == 4 else values.side_by_side()
        fill = -count % (LINE // inputs.element_size())
        if fill:
            inputs = torch.cat([inputs, inputs.new_zeros(len(inputs), fill)], 1)
        mean, variance = (self._of(x, lanes, fill) for x in (self.mean, self.variance))
        assert mean is not None
        assert variance is not None
        outputs = F.batch_norm(
            inputs,
            mean,
            variance,
            self._of(self.weight, lanes, fill),
            self._of(self.bias, lanes, fill),
            measures,
            module.momentum,
            module.eps,
        )
        lay_out_gradient(outputs)
        if measures:
            torch._foreach_add_([self.modules[lane].num_batches_tracked for lane in lanes], 1)
            for joined, measured in ((self.mean, mean), (self.variance, variance)):
                if measured is not joined:
                    joined.view(len(self.modules), -1)[lanes] = measured[:count].view(
                        len(lanes), -1
                    )
        outputs = outputs[:, :count].contiguous()
        if values.dim == 4:
            return Values.of_places(outputs, len(lanes), values.shape)
        rows = outputs.view(len(outputs), len(lanes), -1).transpose(0, 1)
        return Values.of_rows(rows.contiguous())

    def _of(
        self, joined: torch.Tensor | None, lanes: Sequence[int], fill: int
    ) -> torch.Tensor | None:
        """Return the part of some lanes of a joined tensor, with ones at its end; or all of it."""
        if joined is None:
            return None
        if len(lanes) < len(self.modules):
            joined = joined.view(len(self.modules), -1)[list(lanes)].flatten()
        return torch.cat([joined, joined.new_ones(fill)]) if fill else joined


def _affine(
    modules: Sequence[Any], stack: Stacker
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the joined scales and shifts, where the modules have any."""
    weight = None if modules[0].weight is None else stack([m.weight for m in modules])
    return weight, None if modules[0].bias is None else stack([m.bias for m in modules])
