"""Lanes side by side: their steps and scores are computed together."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Collection, Generator, Iterator, Sequence
from typing import Any, NamedTuple, Self

import torch

from trainers.canonical import key
from trainers.evaluation import Score, Tally
from trainers.lanes.forward import Draws
from trainers.lanes.stack import Stack
from trainers.lanes.updates import update
from trainers.learner import Learner
from trainers.loop import Lane, Scoring, Step
from trainers.losses import losses_of_lanes
from trainers.results import Row
from trainers.transfer import training_mode

CHUNK = 64  # images of each lane per forward pass of a joint evaluation


class Stopwatch:
    """Seconds of one lane: its own work, and its share of joint work."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def __call__(self) -> float:
        """Return the seconds so far."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return self.seconds + running

    def __enter__(self) -> Self:
        self._since = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds, self._since = self(), None


class Member(NamedTuple):
    """A training in a pack."""

    lane: Lane
    watch: Stopwatch


class Event(NamedTuple):
    """A row of one lane, or the exception that ended it."""

    lane: int
    row: Row | Exception


def run(members: Sequence[Member]) -> Generator[Event, None, None]:
    """Train the lanes of a pack side by side, and yield their rows.

    An exception of one lane ends this lane. One of joint work is raised: which lane is to blame
    does not show. The caller may close a lane at any row. Close the iterator, or exhaust it, to end
    the threads that read images.
    """
    pack = _Pack(members)
    try:
        yield from pack.events()
    finally:
        for member in members:
            member.lane.close()


class _Pack:
    def __init__(self, members: Sequence[Member]):
        self.members = members
        self.pending: dict[int, Step | Scoring] = {}
        """Request of each lane that has not ended, once it has made one."""
        self.stacks: dict[object, Stack] = {}
        """Stack of the steps of each kind of learner."""

    def events(self) -> Iterator[Event]:
        for number in range(len(self.members)):
            yield from self._advance(number, None)
        while self._drop_closed():
            scorings = {k: r for k, r in self.pending.items() if isinstance(r, Scoring)}
            requests = scorings or self.pending
            kinds: dict[object, list[int]] = {}
            for number, request in requests.items():
                kinds.setdefault(_kind(request), []).append(number)
            for kind, several in kinds.items():
                numbers = [number for number in several if number in self._drop_closed()]
                answers: Sequence[Any]
                began = time.perf_counter()
                if not numbers:
                    continue
                if kind is None:
                    yield from self._one_by_one(numbers)
                    continue
                if scorings:
                    answers = self._scores([requests[number] for number in numbers])
                else:
                    answers = self._step(kind, [requests[number] for number in numbers])
                share = (time.perf_counter() - began) / len(numbers)
                for number, answer in zip(numbers, answers, strict=True):
                    self.members[number].watch.seconds += share
                    yield from self._advance(number, answer)

    def _drop_closed(self) -> Collection[int]:
        """Forget the lanes that the caller has closed, and return the numbers of the others."""
        for number in list(self.pending):
            if inspect.getgeneratorstate(self.members[number].lane) == inspect.GEN_CLOSED:
                del self.pending[number]
        return self.pending.keys()

    def _advance(self, number: int, answer: Any) -> Iterator[Event]:
        """Go on with a lane until its next request, or its end."""
        lane, watch = self.members[number]
        self.pending.pop(number, None)
        while True:
            try:
                with watch:
                    event = lane.send(answer)
            except StopIteration:
                return
            except Exception as error:
                yield Event(number, error)
                return
            if isinstance(event, Step | Scoring):
                self.pending[number] = event
                return
            yield Event(number, event)
            answer = None

    def _one_by_one(self, numbers: Sequence[int]) -> Iterator[Event]:
        for number in numbers:
            try:
                with self.members[number].watch:
                    answer = self.pending[number].alone()
            except Exception as error:
                del self.pending[number]
                yield Event(number, error)
            else:
                yield from self._advance(number, answer)

    def _step(self, kind: object, requests: Sequence[Any]) -> Sequence[torch.Tensor]:
        learners = [request.learner for request in requests]
        stack = self.stacks.get(kind)
        if stack is None or stack.learners != learners:
            stack = Stack(learners, [learner.wholly_frozen for learner in learners])
            self.stacks[kind] = stack
        return _step(stack, requests)

    def _scores(self, requests: Sequence[Any]) -> Sequence[Score]:
        learners = [request.learner for request in requests]
        entries = [learner.cached_layers for learner in learners]
        for stack in self.stacks.values():
            if stack.learners == learners and stack.entries == entries:
                return _scores(stack, requests)
        return _scores(Stack(learners, entries, shares=False), requests)


def _kind(request: Step | Scoring) -> object:
    """Return what requests have in common that are computed together; None for one by one."""
    learner = request.learner
    if type(learner) is not Learner or learner.kind is None:
        return None
    if isinstance(request, Scoring):
        sizes = tuple(len(part.labels) for part in learner.batches.data.parts)
        return ("score", *learner.kind, request.subset, *sizes)
    return ("step", *learner.kind, learner.batches.order.batch)


def _step(stack: Stack, requests: Sequence[Step]) -> Sequence[torch.Tensor]:
    """Let each learner take its step, and return the mean losses before the updates."""
    learners = stack.learners
    batches: dict[object, tuple[torch.Tensor, torch.Tensor]] = {}
    inputs, labels = [], []
    for learner, number, rate in requests:
        learner.begin(number, rate)
        place = learner.batches.key, number
        if place in batches:
            images, y = batches[place]
            images = images.clone()
        else:
            images, y = batches[place] = learner.batches(number)
        inputs.append(images)
        labels.append(y)
    draws = None
    if any(learner.is_random for learner in learners):
        device = labels[0].device
        keys = ((*requests[lane].learner.mask_key, requests[lane].number) for lane in stack.order)
        draws = Draws(device, [key(*parts) for parts in keys])
    return learn(stack, inputs, labels, draws).unbind()


def learn(
    stack: Stack,
    inputs: list[torch.Tensor],
    labels: Sequence[torch.Tensor],
    draws: Draws | None = None,
) -> torch.Tensor:
    """Let each learner learn from its batch, and return the mean losses (K,) before the updates.

    `inputs` and `labels` are those of each lane, on the device; `inputs` is changed. Nothing here
    waits for the device.
    """
    learners = stack.learners
    stack.enter()
    with learners[0].autocast:
        _pass_frozen(stack, inputs, draws)
        scores = stack.outputs(inputs, draws)
        losses = losses_of_lanes(learners[0].recipe, scores, torch.stack(list(labels)))
    if losses.requires_grad:
        stack.clear_gradients()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        update([learner.optimiser for learner in learners])
    return losses.detach()


@torch.no_grad()
def _pass_frozen(stack: Stack, inputs: list[torch.Tensor], draws: Draws | None) -> None:
    """Replace the `inputs` of each lane by the outputs of its frozen layers.

    Lanes that copy layers of one base, and see the same batch, share the pass as far as both go.
    """
    outputs: dict[object, tuple[torch.Tensor, Learner]] = {}
    for turn, lane in enumerate(stack.order):
        learner = stack.learners[lane]
        if not learner.frozen_part:
            continue
        if not learner.prefixes:
            with draws.of(turn) if draws else contextlib.nullcontext():
                inputs[lane] = learner.frozen_part(inputs[lane])
            continue
        places = [(learner.batches.key, text) for text in learner.prefixes]
        known = next((m for m in range(len(places), 0, -1) if places[m - 1] in outputs), 0)
        values = inputs[lane]
        if known:
            values, owner = outputs[places[known - 1]]
            values = values.clone()
            owner.shared_forward = learner.shared_forward = True
        values = learner.network[known : learner.wholly_frozen](values)
        outputs[places[-1]] = values, learner
        inputs[lane] = values.clone()  # a layer may change its input in place


@torch.no_grad()
def _scores(stack: Stack, requests: Sequence[Scoring]) -> Sequence[Score]:
    """Return the score of each learner on a set, all of equal size."""
    learners = stack.learners
    sets = [request.learner.labelled_chunks(request.subset) for request in requests]
    for learner in learners:
        if learner.has_modes:
            learner.network.eval()
    outputs = []
    with learners[0].autocast:
        for chunks in zip(*(chunks for _, chunks in sets), strict=True):
            for parts in zip(*(torch.split(chunk, CHUNK) for chunk in chunks), strict=True):
                scores = stack.outputs([_filled(part) for part in parts])
                outputs.append(scores[:, : len(parts[0])])
        tallies = []
        for learner, (labels, _), scores in zip(learners, sets, torch.cat(outputs, 1), strict=True):
            tallies.append(Tally(labels, learner.classes, learner.total_loss))
            tallies[-1].add(scores)
    for learner in learners:
        if learner.has_modes:
            training_mode(learner.network, learner.frozen_now)
    return [tally.score() for tally in tallies]


def _filled(images: torch.Tensor) -> torch.Tensor:
    """Return images (≤ CHUNK, …) with zeros up to CHUNK: the operations are chosen by this size."""
    if len(images) == CHUNK:
        return images
    return torch.cat([images, images.new_zeros(CHUNK - len(images), *images.shape[1:])])
