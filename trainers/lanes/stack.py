"""Weights of several learners in shared tensors, and the passes through their joined layers.

The parameters of the learners become views of the shared tensors, and so do their gradients. A
learner's optimiser, its snapshots and its hashes see its own parameters as ever.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from trainers.lanes.forward import Draws, Joined
from trainers.lanes.values import Values
from trainers.learner import Learner


class Stack:
    """The layers of several learners, joined; a lane may enter above the first layer.

    The lanes that pass through a layer are those that entered at it or below, in the order of their
    entries. Lanes of equal entry keep the order of `learners`.
    """

    def __init__(self, learners: Sequence[Learner], entries: Sequence[int], *, shares: bool = True):
        """Join the layers from each learner's entry (0 is the first layer) to the last.

        With `shares` the parameters and buffers become views of the joined ones, until the next
        stack of these learners. Otherwise the joined ones are copies, without gradients.
        """
        self.learners, self.entries, self.shares = learners, entries, shares
        self.order = sorted(range(len(learners)), key=lambda lane: entries[lane])
        self.shared: list[tuple[nn.Parameter, list[nn.Parameter]]] = []
        """Joined tensors, and the parameters that are their views."""
        depth = len(learners[0].network)
        self.layers = [
            Joined([learners[lane].network[layer] for lane in self._inside(layer)], self._join)
            for layer in range(min(entries, default=depth), depth)
        ]
        self.unshared: list[nn.Parameter] = []
        self._layout: object = None

    def _inside(self, layer: int) -> list[int]:
        return [lane for lane in self.order if self.entries[lane] <= layer]

    def outputs(self, inputs: Sequence[torch.Tensor], draws: Draws | None = None) -> torch.Tensor:
        """Return the scores (K, B, C) for the `inputs` of each lane's entry, in lane order.

        `draws` has a generator for each lane in `order`.
        """
        values: Values | None = None
        depth = len(self.learners[0].network)
        first = depth - len(self.layers)
        for layer in range(first, depth + 1):
            entering = [inputs[lane] for lane in self.order if self.entries[lane] == layer]
            if entering:
                joined = Values.of(entering)
                values = joined if values is None else values.joined(joined)
            if layer < depth:
                assert values is not None
                values = self.layers[layer - first](values, draws)
        assert values is not None
        places = {lane: place for place, lane in enumerate(self.order)}
        rows = values.rows()
        if self.order == list(range(len(self.order))):
            return rows
        return rows[[places[lane] for lane in range(len(self.learners))]]

    def enter(self) -> None:
        """Let the joined weights learn that some learner lets learn now. Call it before a pass."""
        for joined, parameters in self.shared:
            joined.requires_grad_(any(parameter.requires_grad for parameter in parameters))

    def clear_gradients(self) -> None:
        """Set all gradients to zero, or to none for weights that are not joined or are frozen."""
        layout = len(self.shared), [learner.frozen_now for learner in self.learners]
        if layout != self._layout:
            self._lay_out_gradients()
            self._layout = layout
        for parameter in self.unshared:
            parameter.grad = None
        gradients = [joined.grad for joined, _ in self.shared if joined.grad is not None]
        if gradients:
            torch._foreach_zero_(gradients)

    def _lay_out_gradients(self) -> None:
        """Let the gradients of learning parameters be views of the joined ones."""
        views = set()
        for joined, parameters in self.shared:
            joined.grad = torch.zeros_like(joined) if joined.requires_grad else None
            for number, parameter in enumerate(parameters):
                views.add(id(parameter))
                parameter.grad = None
                if parameter.requires_grad and joined.grad is not None:
                    parameter.grad = _part(joined.grad, number, len(parameter))
        self.unshared = [
            parameter
            for learner in self.learners
            for parameter in learner.network.parameters()
            if id(parameter) not in views
        ]

    def _join(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the parameters or buffers of all lanes as one tensor, of which they are views."""
        values = torch.cat([tensor.detach() for tensor in tensors])
        if values.dim() == 4:
            values = values.contiguous(memory_format=torch.channels_last)
        if not self.shares:
            return values
        for number, tensor in enumerate(tensors):
            tensor.data = _part(values, number, len(tensor))
        parameters = [tensor for tensor in tensors if isinstance(tensor, nn.Parameter)]
        if not parameters:
            return values
        joined = nn.Parameter(values, requires_grad=any(p.requires_grad for p in parameters))
        self.shared.append((joined, parameters))
        return joined


def _part(joined: torch.Tensor, number: int, size: int) -> torch.Tensor:
    return joined[number * size : (number + 1) * size]
