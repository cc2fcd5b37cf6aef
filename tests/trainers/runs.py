"""Runs of a training for tests: its base, scores made by hand, equal results, a worker's job."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from orchestrator.execution.assignment import Assignment
from orchestrator.store.store import Store
from orchestrator.sweep.schema import Resources
from tests.trainings import points, result, training
from trainers.canonical import canonical
from trainers.config import Training
from trainers.evaluation import Score
from trainers.learner import Learner
from trainers.results import Result


def parent_of(one: Training) -> bytes | None:
    """Return the checkpoint of the base that `one` copies."""
    if not one.treatment.has_parent:
        return None
    base = Training(
        target=one.source or one.target,
        network=one.network,
        treatment=training().treatment,
        recipe=one.recipe,
        seed=one.seed,
    )
    assert base.id == one.parent
    return result(base).checkpoint


class FakeScores:
    """Losses and scores made by hand, in place of a network's."""

    def __init__(self, losses: list[float], validation: list[int], test: list[int]):
        self.losses, self.subsets = losses, []
        self.correct = {"validation": iter(validation), "test": iter(test), "train": iter([99])}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Learner, "step", lambda _, step, _rate: torch.tensor(self.losses[step]))
        monkeypatch.setattr(Learner, "score", lambda _, subset: self.score(subset))

    def score(self, subset: str) -> Score:
        self.subsets.append(subset)
        correct = next(self.correct[subset])
        return Score(
            correct=correct, total=100, loss=correct / 8, top5=None, per_class=((correct, 100),)
        )


def assert_equal(last: Any, expected: Result, *, resumes: int) -> None:
    """Assert equal results; only the facts about the run may differ."""
    assert isinstance(last, Result)
    assert points(last.curve) == points(expected.curve)
    assert (last.resumes, last.exact) == (resumes, True)
    about_the_run = {"curve", "resumes", "seconds", "peak_memory_bytes"}
    for field in dataclasses.fields(Result):
        if field.name not in about_the_run:
            assert getattr(last, field.name) == getattr(expected, field.name), field.name


def assignment(one: Training, store: Store, parent: bytes | None) -> Assignment:
    """Return the job of a worker that trains `one`, with a snapshot after every step."""
    labels = {"id": one.id, "name": "A2B s0", "sweep": "test", "split": "s0", "split_hash": "0"}
    labels |= {"source": "A", "target": "B", "treatment": one.treatment.kind, "seed": one.seed}
    labels |= {"n": one.treatment.n, "frozen": one.treatment.frozen, "parent": one.parent}
    labels["upper"] = one.upper
    checkpoints = {}
    if one.parent and parent:
        checkpoints[one.parent] = store.put_checkpoint(one.parent, parent)
    return Assignment(
        training=canonical(one),
        labels=labels,
        argument="digits",
        request=Resources().model_dump(),
        retries=0,
        checkpoints=checkpoints,
        keep_checkpoint=True,
        checkpoint_seconds=1e-9,
        store=store.root,
        git_commit=None,
    )
