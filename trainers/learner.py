"""A network with its optimiser and its images: what takes a step, is scored, and is saved."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F

from trainers.batches import READERS, Batches, TaskData, Whole
from trainers.config import Training, digest, key
from trainers.evaluation import Score, evaluate, features
from trainers.networks import is_random
from trainers.optim import load_optimiser_state, optimiser, optimiser_state, set_rate
from trainers.schedules import fresh_steps
from trainers.transfer import (
    copied_parameters,
    fingerprint,
    freeze,
    held,
    held_layers,
    starting_network,
    training_mode,
)
from trainers.views import View


class Learner:
    """A network before its first step, made from `parent`, its base's checkpoint, where it has one.

    Frozen layers see each image once, here, and not at every step, unless they draw random numbers,
    images are cropped or mirrored at random or streamed, or what the layers make of all images
    takes more than `feature_bytes`. `close` ends the threads that read images.
    """

    def __init__(
        self,
        training: Training,
        data: TaskData,
        parent: bytes | None,
        feature_bytes: int,
        readers: int = READERS,
    ):
        view, device = data.view, data.train.labels.device
        self.classes = len(training.target.labels)
        c, h, w = view.seen
        network = starting_network(training, (c, h, w), view.dtype, parent)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.held = held(self.network, training, training.treatment.frozen_layers)
        # Only layers that are held as a whole: below one that learns in part, gradients are needed.
        self.frozen = held_layers(self.network, self.held)
        copied = copied_parameters(self.network, training)
        self.optimiser = optimiser(training.recipe, freeze(self.network, self.held), copied)
        self.fresh_steps = fresh_steps(training.recipe) if copied else 0
        self.early = held(self.network, training, training.treatment.tuned_layers)
        self.holding = self.held  # what does not learn now: for so many first steps what is early
        self.autocast = _autocast(training.recipe.precision, device)
        self.masks = ("masks", training.seed, digest(training.target))
        self.random = is_random(self.network)
        training_mode(self.network, self.held)
        varied = training.recipe.crop is not None or training.recipe.mirror
        self.passed = 0
        if not varied:
            data, self.passed = self._frozen_first(data, feature_bytes)
        self.batches = Batches(training, data, readers)
        self.below, self.above = (
            self.network[self.passed : self.frozen],
            self.network[self.frozen :],
        )

    def step(self, step: int, rate: float) -> torch.Tensor:
        """Learn from the batch of a 0-based step; its mean loss, before the update."""
        self._hold(step)
        set_rate(self.optimiser, rate)
        images, labels = self.batches(step)
        if self.random:
            _seed(key(*self.masks, step), images.device)
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
            labels = getattr(self.batches.data, subset).labels
            chunks = self.batches.chunks(subset)
            score = evaluate(self.network[self.passed :], chunks, labels, self.classes)
        training_mode(self.network, self.holding)
        return score

    def _hold(self, step: int) -> None:
        """Hold copied layers as if they were frozen while only the fresh ones learn.

        Without a gradient the optimiser passes them over: no decay and no momentum touch them.
        """
        now = self.early if step < self.fresh_steps else self.held
        if now is not self.holding:
            freeze(self.network, now)
            training_mode(self.network, now)
            self.holding = now

    def frozen_hash(self) -> str:
        """SHA-256 of what is held fixed; empty if nothing is."""
        return fingerprint(self.network, self.held)

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

    def close(self) -> None:
        self.batches.close()

    def _frozen_first(self, data: TaskData, limit: int) -> tuple[TaskData, int]:
        """What the frozen layers make of all images, and how many layers they have so passed."""
        below = self.network[: self.frozen]
        if not self.frozen or is_random(below):
            return data, 0
        whole = [part for part in data.parts if isinstance(part, Whole)]
        if len(whole) < len(data.parts):
            return data, 0
        with self.autocast:
            one = features(below, [data.view.centre(whole[0].images[:1])])
            if one.nbytes * sum(len(part.labels) for part in whole) > limit:
                return data, 0
            view = View(tuple(one.shape[1:]), one.dtype)
            passed = [
                Whole(features(below, part.chunks()), part.labels, view, part.chunk)
                for part in whole
            ]
        return TaskData(*passed), self.frozen


def _seed(seed: int, device: torch.device) -> None:
    """`torch.manual_seed` for this device, without its walk up the stack (0.1 ms and more)."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    if precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
