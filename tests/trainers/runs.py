"""Parts of a training for tests: its base, learner and results, scores by hand, a worker's job."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from orchestrator.execution.assignment import Assignment
from orchestrator.store.store import Store
from orchestrator.sweep.schema import Resources
from tests.trainings import points, result, training
from trainers import checkpoint
from trainers.canonical import canonical, freeze_options
from trainers.config import NetworkRef, Training
from trainers.evaluation import Score
from trainers.learner import Learner
from trainers.networks import Network, build
from trainers.results import Result
from trainers.task_data import task_data

SHAPE = (1, 12, 12)
CACHE, NO_CACHE = 2**28, 0
TINY = {"patch_size": 4, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 24}


def ref(name: str, **options: Any) -> NetworkRef:
    """Return a reference to one of torchvision's networks."""
    return NetworkRef(name=f"torchvision:{name}", options=freeze_options(options))


VIT = ref("vit_b_16", **TINY)


def of_torchvision(name: str, **options: Any) -> nn.Module:
    """Return torchvision's own network, without the parts that it adds for training alone."""
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    return models.get_model(name, weights=None, num_classes=5, **options)


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


def base_of(one: Training) -> bytes:
    """Return the checkpoint of a base with random weights and batch statistics."""
    torch.manual_seed(5)
    network = build(one.network, 5, SHAPE)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(
                torch.rand_like(tensor) + 0.5 if "var" in name else torch.randn_like(tensor)
            )
    return checkpoint.pack(network.state_dict(), {})


def learner(one: Training, feature_bytes: int = CACHE) -> Learner:
    parent = base_of(one) if one.treatment.has_parent else None
    return Learner(one, task_data(one, torch.device("cpu")), parent, feature_bytes)


def state(network: Network, n: int) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network[:n].state_dict().items()}


def first_layers(network: Network, n: int) -> set[str]:
    return set(network[:n].state_dict())


def same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


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
