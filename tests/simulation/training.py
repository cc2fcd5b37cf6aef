"""Trainings as functions of (id, step): a chain of hashes in the place of weights.

The state after a step is the hash of the state before it, of the id and of the step. So a training
that goes on from another snapshot than its own, or from another base, ends with other numbers.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from typing import Any, NamedTuple

from tests.simulation.world import World
from trainers.checkpoint import CheckpointError, checksum
from trainers.config import Training
from trainers.evaluation import Score
from trainers.loop import Step
from trainers.results import Evaluation, Failure, Result, Runtime, Seconds, Snapshot

LANES = 4  # of a pack
STEPS = 3
SECONDS = 1.0  # simulated, of one step, on average


class Trainers(NamedTuple):
    """What takes the place of the functions that train."""

    train: Callable[..., Iterator[Any]]
    """For `trainers.loop.train`."""
    lane: Callable[..., Generator[Any, Any, None]]
    """For `trainers.loop.lane`."""
    step: Callable[..., Sequence[None]]
    """For the joint step of the lanes of a pack, `trainers.lanes.pack._Pack._step`."""


def trainers(
    world: World, steps: Counter[tuple[str, int]], failing: Collection[str] = ()
) -> Trainers:
    """Return the functions that take the place of those that train.

    `steps` counts how often each step of each training was taken.
    """

    def lane(
        training: Training,
        *,
        parent: bytes | None,
        upper: bytes | None,
        resume: bytes | None,
        runtime: Runtime,  # noqa: ARG001
        stop: Callable[[], bool],
    ) -> Generator[Any, Any, None]:
        id = training.id
        step, resumes, state = 0, 0, begun(id, parent, upper)
        if resume is not None:
            meta = json.loads(resume)
            if meta["trial"] != id:
                raise CheckpointError(f"the snapshot is not of trial {id}")
            step, resumes, state = meta["step"], meta["resumes"] + 1, meta["state"]
        note(world, "begin", id, step)
        for number in range(step, STEPS):
            yield Step(None, number, 0.0)  # type: ignore[arg-type]
            state = after(state, id, number)
            steps[id, number] += 1
            note(world, "step", id, number + 1)
            if number + 1 == STEPS:
                break
            if id in failing:
                yield failure(number)
                return
            stopping = stop()
            meta = {"trial": id, "step": number + 1, "resumes": resumes, "state": state}
            yield Snapshot(step=number + 1, data=json.dumps(meta).encode())
            if stopping:
                return
        yield result(id, len(training.target.labels), state, resumes)

    def step(*_: object) -> Sequence[None]:
        world.pause(SECONDS * world.random.expovariate(1.0))
        return [None] * LANES

    def joint(pack: object, kind: object, requests: Sequence[Any]) -> Sequence[None]:  # noqa: ARG001
        return step()[: len(requests)]

    def train(training: Training, **options: Any) -> Iterator[Any]:
        with contextlib.closing(lane(training, **options)) as events:
            for event in events:
                if isinstance(event, Step):
                    step()
                else:
                    yield event

    return Trainers(train, lane, joint)


def note(world: World, what: str, id: str, step: int) -> None:
    if world.trace is not None and world.current is not None:
        world.trace(f"{world.now:9.3f} {world.current.name:22} {what:8} {id} step {step}")


@functools.lru_cache(maxsize=10_000)
def after(state: str, id: str, number: int) -> str:
    """Return the state after one more step."""
    return hashlib.sha256(f"{state} {id} {number}".encode()).hexdigest()


def begun(id: str, parent: bytes | None, upper: bytes | None) -> str:
    """Return the state before the first step."""
    return checksum(b" ".join([id.encode(), parent or b"", upper or b""]))


def failure(step: int) -> Failure:
    return Failure(
        step=step,
        error_type="LossNotFinite",
        message=f"loss is nan at step {step}",
        curve=(),
        seconds=Seconds(),
    )


@functools.lru_cache(maxsize=10_000)
def result(id: str, classes: int, state: str, resumes: int) -> Result:
    """Return the result of a training that ends in a state: all numbers are functions of it."""
    share = int(state[:8], 16)
    counts = tuple(((share >> index) % 50, 50) for index in range(classes))
    score = Score(
        correct=sum(correct for correct, _ in counts),
        total=50 * classes,
        loss=share / 2**32,
        top5=None,
        per_class=counts,
    )
    point = Evaluation(
        step=STEPS,
        images=8 * STEPS,
        rate=0.01,
        train_loss=share / 2**31,
        val_loss=score.loss,
        val_top1=score.top1,
        val_top5=None,
        seconds=1.0,
    )
    weights = json.dumps({"trial": id, "weights": state}).encode()
    return Result(
        steps=STEPS,
        kept_step=None,
        choice=None,
        feature_values=None,
        features_in=None,
        images=8 * STEPS,
        test=score,
        validation=score,
        training=score,
        test_best=score.top1,
        val_best=score.top1,
        val_best_step=STEPS,
        val_mean10=score.top1,
        train_loss=point.train_loss,
        at_chance=False,
        frozen_hash_start="",
        frozen_hash_end="",
        stages_proven=True,
        curve=(point,),
        checkpoint=weights,
        checkpoint_sha256=checksum(weights),
        exact=True,
        resumes=resumes,
        seconds=Seconds(),
        peak_memory_bytes=0,
        cached_layers=0,
        shared_forward=False,
    )
