"""A network with its optimiser and its images: it takes steps, and is scored and saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch

from trainers import streams
from trainers.batches import Batches, chunks_at
from trainers.canonical import digest, key
from trainers.chance import LEAST_MAP, at_chance
from trainers.config import Training, is_own
from trainers.evaluation import BoxScore, Scored, evaluate
from trainers.frozen_features import KEPT, Room, prefixes
from trainers.losses import chance_loss, distance, mean_loss, total_loss
from trainers.networks import (
    Network,
    Shape,
    has_modes,
    is_random,
    load_tensors,
    tensors_of,
)
from trainers.optim import load_optimiser_state, optimiser, optimiser_state, set_rate
from trainers.seeds import seed_generators
from trainers.stitching import fit
from trainers.task_data import READERS, TaskData
from trainers.transfer import (
    StageFreeze,
    copied_parameters,
    fingerprint,
    freeze,
    stages_of,
    starting_network,
    training_mode,
    upper_base,
    wholly_frozen_layers,
)


class Learner:
    """One training's network before its first step; `parent` is its base's checkpoint, if any.

    `upper` is the checkpoint that a stitched network has its upper layers from.
    Where it can, the constructor runs the frozen layers once over all images and keeps their
    outputs (`cached_layers`). It cannot if these layers draw random numbers, if images are cropped
    or mirrored at random, or if the outputs exceed `feature_bytes` in memory and `disk_bytes` in a
    file.
    `close` ends the threads that read images.
    """

    choice: float | None = None
    """Setting of a classifier on features that validation images chose; of no other training."""

    feature_values: int | None = None
    """Numbers per image that a classifier on features sees; of no other training."""

    shared_forward = False
    """True if other lanes use its passes through the frozen layers, or it uses theirs."""

    features_in: str | None = None
    """Place of these features, `memory` or `disk`; of no other training."""

    def __init__(
        self,
        training: Training,
        data: TaskData,
        parent: bytes | None,
        feature_bytes: int,
        readers: int = READERS,
        upper: bytes | None = None,
        disk_bytes: int = 0,
    ):
        recipe, treatment = training.recipe, training.treatment
        self.recipe = recipe
        view, device = data.view, data.train.labels.device
        c, h, w = view.seen
        replace = partial(self.replace_upper, training=training, shape=(c, h, w))
        network = starting_network(training, (c, h, w), view.dtype, parent, upper, replace)
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.classes = len(training.target.labels)
        self.chance_loss = chance_loss(recipe, self.classes)

        # Names of parameters and buffers: frozen in all stages, and now.
        self.stages = stages_of(self.network, training)
        self.frozen = frozenset.intersection(*(stage.frozen for stage in self.stages))
        self.frozen_now = self.frozen
        learning = freeze(self.network, self.frozen)
        self.copied = copied_parameters(self.network, training) & learning.keys()
        learns = {name: tuple(name not in x.frozen for x in self.stages) for name in learning}
        self.optimiser = optimiser(recipe, learning, self.copied, learns)
        training_mode(self.network, self.frozen)
        self.best_weights: dict[str, torch.Tensor] = {}
        self.start = {}
        if recipe.l2_sp:
            self.start = {name: learning[name].detach().clone() for name in sorted(self.copied)}

        self.autocast = _autocast(recipe.precision, device)
        if treatment.is_stitched and recipe.stitch == "least_squares":
            self._fit_stitch(training, data, upper, readers)
        self.mask_key = ("masks", training.seed, digest(training.target))
        self.is_random, self.is_own = is_random(self.network), is_own(training.network.name)

        # Numbers of layers. A layer that learns in part needs gradients, and so do all above it.
        self.wholly_frozen = wholly_frozen_layers(self.network, self.frozen)
        self.prefixes: tuple[str, ...] = ()
        """Hashes of the first 1, 2, … wholly frozen layers, unless they draw random numbers."""
        if self.wholly_frozen and not is_random(self.network[: self.wholly_frozen]):
            self.prefixes = prefixes(self.network, training.network, self.wholly_frozen)
        self.cached_layers = 0
        if recipe.crop is None and not recipe.mirror:
            room = Room(feature_bytes, disk_bytes)
            data, self.cached_layers = self._cache_frozen(data, room, readers)
        cut = max(self.wholly_frozen, treatment.n if recipe.feature_l2 else 0)
        self.frozen_part = self.network[self.cached_layers : self.wholly_frozen]
        self.copied_part = self.network[self.wholly_frozen : cut]
        self.learning_part = self.network[cut:]
        self.batches = Batches(training, data, readers)
        self.has_modes = has_modes(self.network)
        self.kind = self._kind(training)
        """Equal for learners whose steps can be computed together; None if this one's cannot."""

    def replace_upper(self, network: Network, training: Training, shape: Shape) -> Network:  # noqa: ARG002
        """Return a network for images (C, H, W) with the upper layers that its task needs."""
        return network

    def step(self, step: int, rate: float) -> torch.Tensor:
        """Learn from the batch of a 0-based step, and return its mean loss before the update."""
        self.begin(step, rate)
        images, labels = self.batches(step)
        if self.is_random:
            seed = key(*self.mask_key, step)
            if self.is_own:
                seed_generators(seed)
            _seed(seed, images.device)
        with self.autocast:
            if self.frozen_part:
                with torch.no_grad():
                    images = self.frozen_part(images)
            outputs = self.copied_part(images)
            scores = self.learning_part(outputs)
            loss = self.loss(scores, labels, step)
        total = loss + self._penalty(outputs)
        if not total.requires_grad:  # all layers are copied and frozen
            return loss
        self.optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()

    def begin(self, step: int, rate: float) -> None:
        """Set the rate of a 0-based step, and freeze what is frozen at it."""
        set_rate(self.optimiser, rate * self.enter(step).rate)

    def loss(self, scores: torch.Tensor, labels: torch.Tensor, step: int) -> torch.Tensor:  # noqa: ARG002
        """Return the mean loss of the outputs (B, …) of a 0-based step for labels (B,)."""
        return mean_loss(self.recipe, scores, labels)

    def _penalty(self, outputs: torch.Tensor) -> torch.Tensor | float:
        """Return the weighted penalties; `outputs` are those of layer n, if they have one."""
        penalty: torch.Tensor | float = 0.0
        if self.recipe.feature_l2:
            penalty = self.recipe.feature_l2 * outputs.float().square().mean()
        if self.start:
            parameters = dict(self.network.named_parameters())
            penalty = penalty + self.recipe.l2_sp * distance(parameters, self.start)
        return penalty

    def begins_stage(self, step: int) -> bool:
        """Return whether a stage begins with a 0-based step."""
        return step in (0, *(stage.end for stage in self.stages))

    def enter(self, step: int) -> StageFreeze:
        """Freeze what is frozen at a 0-based step, and return its stage.

        Without a gradient the optimiser leaves a parameter as it is: neither decay nor momentum
        changes it.
        """
        stage = next(stage for stage in self.stages if step < stage.end)
        if stage.frozen is not self.frozen_now:
            freeze(self.network, stage.frozen)
            training_mode(self.network, stage.frozen)
            self.frozen_now = stage.frozen
        return stage

    def score(self, subset: str) -> Scored:
        """Score the network as it is now on the `train`, `validation` or `test` images.

        Training images are not augmented, and are a fixed sample if they outnumber the test images.
        """
        with self.autocast:
            labels, chunks = self.labelled_chunks(subset)
            network = self.network[self.cached_layers :]
            score = evaluate(network, chunks, labels, self.classes, self.total_loss)
        training_mode(self.network, self.frozen_now)
        return score

    def labelled_chunks(self, subset: str) -> tuple[torch.Tensor, Iterator[torch.Tensor]]:
        """Return the labels (N,) of a set and its images, or cached features, in chunks."""
        if subset == "train":
            return self.batches.training_sample(len(self.batches.data.test.labels))
        return getattr(self.batches.data, subset).labels, self.batches.chunks(subset)

    def total_loss(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the sum of the losses of scores (B, C) for labels (B,), as scores count them."""
        return total_loss(self.recipe, scores, labels)

    def at_chance(self, score: Scored, loss: float) -> bool:
        """Return whether nothing was learned: `loss` is the lowest training loss.

        A detector learned nothing if its mAP is below `chance.LEAST_MAP`.
        """
        if isinstance(score, BoxScore):
            return score.map50 < LEAST_MAP
        guess = max(total for _, total in score.per_class) / score.total
        return at_chance(loss, self.chance_loss, score.correct, score.total, guess)

    def frozen_hash(self) -> str:
        """Return the SHA-256 of all that is frozen in all stages, or "" if nothing is."""
        return fingerprint(self.network, self.frozen)

    def stage_hash(self) -> str:
        """Return the SHA-256 of all that is frozen now, or "" if nothing is."""
        return fingerprint(self.network, self.frozen_now)

    def keep(self) -> None:
        """Remember the weights as they are now, for `restore_kept`."""
        self.best_weights = {
            name: t.detach().clone() for name, t in tensors_of(self.network).items()
        }

    def restore_kept(self) -> None:
        """Go back to the weights of the last `keep`."""
        load_tensors(self.network, self.best_weights)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors that the next step depends on."""
        state = {f"network/{name}": t for name, t in tensors_of(self.network).items()}
        state |= {f"kept/{name}": t for name, t in self.best_weights.items()}
        named = optimiser_state(self.optimiser, self.network)
        return state | {f"optimiser/{name}": t for name, t in named.items()}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Load tensors that `state` returned."""
        parts: dict[str, dict[str, torch.Tensor]] = {"network": {}, "optimiser": {}, "kept": {}}
        for name, tensor in state.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor
        load_tensors(self.network, parts["network"])
        device = self.batches.order.device
        self.best_weights = {name: tensor.to(device) for name, tensor in parts["kept"].items()}
        load_optimiser_state(self.optimiser, self.network, parts["optimiser"])

    def close(self) -> None:
        self.batches.close()

    def _kind(self, training: Training) -> tuple[object, ...] | None:
        recipe = self.recipe
        if self.start or recipe.feature_l2 or training.treatment.is_stitched:
            return None
        if self.is_random and self.is_own:  # its code may draw from any generator
            return None
        shapes = tuple((name, *tensor.shape) for name, tensor in tensors_of(self.network).items())
        loss = recipe.loss, recipe.label_smoothing, recipe.precision, recipe.optimiser
        return training.network, self.batches.data.view.dtype, self.classes, loss, shapes

    def _fit_stitch(
        self, training: Training, data: TaskData, upper: bytes | None, readers: int
    ) -> None:
        """Start the map between both parts from its least-squares fit on the training images."""
        assert upper is not None
        c, h, w = data.view.seen
        base = upper_base(training, (c, h, w), data.view.dtype, upper).eval()
        base.to(data.train.labels.device).to(memory_format=torch.channels_last)
        rows = torch.arange(len(data.train.labels))
        with ThreadPoolExecutor(readers, streams.READERS) as pool, self.autocast:
            fit(self.network, base, training.treatment.n, chunks_at(data.train, rows, pool))

    def _cache_frozen(self, data: TaskData, room: Room, readers: int) -> tuple[TaskData, int]:
        """Replace all images by the outputs of the frozen layers; return these layers' number too.

        If the outputs cannot be kept, return `data` itself and 0.
        """
        if not self.prefixes:
            return data, 0
        with self.autocast:
            outputs = KEPT.outputs(
                data, self.network, self.prefixes, self.recipe.precision, room, readers
            )
        return (data, 0) if outputs is None else (outputs, self.wholly_frozen)


def _seed(seed: int, device: torch.device) -> None:
    """Seed as `torch.manual_seed`, without its walk up the stack (0.1 ms and more)."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def _autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    if precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
