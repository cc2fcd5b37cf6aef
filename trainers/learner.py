"""A network with its optimiser and its images: what takes a step, is scored, and is saved."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F

from trainers.batches import BatchOrder, TaskData
from trainers.config import Training, digest, key
from trainers.evaluation import Score, evaluate, features
from trainers.networks import is_random
from trainers.optim import load_optimiser_state, optimiser, optimiser_state, set_rate
from trainers.transfer import fingerprint, freeze, starting_network, training_mode


class Learner:
    """A network before its first step, made from `parent`, its base's checkpoint, where it has one.

    Frozen layers see each image once, here, and not at every step, unless they draw random numbers
    or what they make of all images takes more than `feature_bytes`.
    """

    def __init__(
        self, training: Training, data: TaskData, parent: bytes | None, feature_bytes: int
    ):
        images, labels = data.train
        self.classes = len(training.target.labels)
        self.frozen = training.treatment.frozen_layers
        _, c, h, w = images.shape
        network = starting_network(training, (c, h, w), images.dtype, parent)
        self.network = network.to(images.device).to(memory_format=torch.channels_last)
        self.optimiser = optimiser(training.recipe, freeze(self.network, self.frozen))
        self.autocast = _autocast(training.recipe.precision, images.device)
        self.order = BatchOrder(training, len(labels), images.device)
        self.masks = ("masks", training.seed, digest(training.target))
        self.random = is_random(self.network)
        training_mode(self.network, self.frozen)
        self.data, self.passed = self._frozen_first(data, feature_bytes)
        self.below, self.above = (
            self.network[self.passed : self.frozen],
            self.network[self.frozen :],
        )

    def step(self, step: int, rate: float) -> torch.Tensor:
        """Learn from the batch of a 0-based step; its mean loss, before the update."""
        set_rate(self.optimiser, rate)
        chosen = self.order(step)
        images, labels = self.data.train[0][chosen], self.data.train[1][chosen]
        if self.random:
            torch.manual_seed(key(*self.masks, step))
        with self.autocast:
            if self.below:
                with torch.no_grad():
                    images = self.below(images)
            loss = F.cross_entropy(self.above(images), labels)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()

    def score(self, subset: str) -> Score:
        """The network as it is now, on the validation or the test images."""
        with self.autocast:
            score = evaluate(self.network[self.passed :], getattr(self.data, subset), self.classes)
        training_mode(self.network, self.frozen)
        return score

    def frozen_hash(self) -> str:
        """SHA-256 of the frozen layers; empty if there are none."""
        return fingerprint(self.network, self.frozen)

    def state(self) -> dict[str, torch.Tensor]:
        """The tensors that the next step depends on."""
        state = {f"network/{name}": t for name, t in self.network.state_dict().items()}
        named = optimiser_state(self.optimiser, self.network)
        return state | {f"optimiser/{name}": t for name, t in named.items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Undo `state`."""
        parts: dict[str, dict[str, torch.Tensor]] = {"network": {}, "optimiser": {}}
        for name, tensor in state.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor
        self.network.load_state_dict(parts["network"], strict=True)
        load_optimiser_state(self.optimiser, self.network, parts["optimiser"])

    def _frozen_first(self, data: TaskData, limit: int) -> tuple[TaskData, int]:
        """What the frozen layers make of all images, and how many layers they have so passed."""
        below = self.network[: self.frozen]
        if not self.frozen or is_random(below):
            return data, 0
        subsets = (data.train, data.validation, data.test)
        with self.autocast:
            one = features(below, data.train[0][:1])
            if one.nbytes * sum(len(labels) for _, labels in subsets) > limit:
                return data, 0
            return TaskData(*((features(below, x), y) for x, y in subsets)), self.frozen


def _autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    if precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
