"""Tests of stages, of layers that learn among frozen ones, and of early stopping."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from tests.trainings import BATCH_NORM, points, result, rows, training
from trainers import checkpoint
from trainers.batches import BatchOrder, first_of_each
from trainers.config import Training
from trainers.learner import Learner
from trainers.loop import train
from trainers.recipe import Stage, Stop
from trainers.results import Result, Snapshot
from trainers.task_data import task_data

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def parent() -> bytes:
    return result(training(target="A")).checkpoint


def learned(one: Training, parent: bytes, *, until: int) -> list[set[str]]:
    """The layers of weights that change in each step."""
    learner = Learner(one, task_data(one, CPU), parent, 0)
    changed = []
    for step in range(until):
        before = {name: x.clone() for name, x in learner.network.named_parameters()}
        learner.step(step, 0.05)
        after = dict(learner.network.named_parameters())
        differing = (name for name in before if not torch.equal(before[name], after[name]))
        changed.append({name.partition(".")[0] for name in differing if "weight" in name})
    return changed


ALL = {f"layer{n}" for n in range(1, 6)}
FRESH = {"layer4", "layer5"}


def test_stages_train_the_layers_that_they_list(parent: bytes) -> None:
    stages = (
        Stage(fraction=0.1, learn="fresh"),
        Stage(fraction=0.1, learn=(3, "layer2.conv")),
        Stage(fraction=0.1, learn=("layer1",)),
        Stage(fraction=0.7),
    )
    one = training("transfer", 3, fine_tuned=True, stages=stages, weight_decay=0.1)
    changed = learned(one, parent, until=8)
    assert changed == [
        *[FRESH] * 2,
        *[FRESH | {"layer2", "layer3"}] * 2,
        *[FRESH | {"layer1"}] * 2,
        *[ALL] * 2,
    ]


def test_fresh_first_is_a_short_form_of_two_stages(parent: bytes) -> None:
    stages = (Stage(fraction=0.25, learn="fresh"), Stage(fraction=0.75))
    short, long = (
        result(training("transfer", 2, fine_tuned=True, **fields), parent)
        for fields in ({"fresh_first": 0.25}, {"stages": stages})
    )
    assert points(short.curve) == points(long.curve)
    weights, others = (checkpoint.unpack(x.checkpoint)[0] for x in (short, long))
    assert weights.keys() == others.keys()
    assert all(torch.equal(tensor, others[name]) for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, FRESH),
        ({"freeze": 1}, ALL - {"layer1"}),
        ({"freeze": 9}, FRESH),
        ({"learn": (2,)}, FRESH | {"layer2"}),
        ({"freeze": 2, "learn": ("layer1.conv",)}, ALL - {"layer2"}),
    ],
)
def test_layers_that_learn_among_frozen_ones(
    fields: dict[str, Any], expected: set[str], parent: bytes
) -> None:
    one = training("transfer", 3, weight_decay=0.1, **fields)
    assert learned(one, parent, until=2) == [expected] * 2
    assert one.frozen_layers == int(min(expected).removeprefix("layer")) - 1
    last = result(one, parent)
    assert last.frozen_hash_start == last.frozen_hash_end != ""


def test_a_stage_that_lets_a_frozen_layer_change_is_not_proven(
    parent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = training("transfer", 2, fine_tuned=True, fresh_first=0.5)
    assert result(one, parent).stages_proven
    take_step = Learner.step

    def tampering(self: Learner, step: int, rate: float) -> torch.Tensor:
        if step == 7:
            next(iter(self.network[0].parameters())).data.view(-1)[0].add_(1e-3)
        return take_step(self, step, rate)

    monkeypatch.setattr(Learner, "step", tampering)
    assert not result(one, parent).stages_proven
    monkeypatch.setattr(Learner, "step", take_step)


def test_a_stage_sees_the_first_images_of_each_class() -> None:
    labels = torch.tensor([1, 0, 1, 1, 0, 0, 1, 0])
    assert first_of_each(labels, 2).tolist() == [0, 1, 2, 4]
    stages = (Stage(fraction=0.5, images_per_class=2), Stage(fraction=0.5))
    one = training("transfer", 2, fine_tuned=True, stages=stages, batch=2, steps=12)
    order = BatchOrder(one, labels, CPU)
    first = [order(step).tolist() for step in range(6)]
    for epoch in range(3):  # of four images, two steps each
        assert sorted(first[2 * epoch] + first[2 * epoch + 1]) == [0, 1, 2, 4]
    assert [order.epoch(step) - order.epoch(0) for step in range(6)] == [0, 0, 1, 1, 2, 2]
    whole = BatchOrder(dataclasses.replace(one, recipe=training().recipe), labels, CPU)
    whole.batch = 2
    assert [order(step).tolist() for step in range(6, 12)] == [
        whole(step).tolist() for step in range(6, 12)
    ]


def test_early_stopping_keeps_the_best_weights() -> None:
    one = training(steps=60, evaluate_every=2, rate=0.3, stop=Stop(patience=3))
    last = result(one)
    scores = [point.val_top1 for point in last.curve]
    best = scores.index(max(scores))
    assert len(scores) == best + 4 < 30
    assert (last.kept_step, last.steps) == (2 * best + 2, 2 * best + 8)
    assert last.images == 16 * last.steps
    assert last.validation.top1 == max(scores) == last.val_best
    assert last.test is not None
    assert last.test.top1 == last.test_best
    other = result(dataclasses.replace(one, recipe=training(stop=None).recipe))
    assert other.kept_step is None


def test_early_stopping_by_the_loss() -> None:
    metric = Stop(patience=2, metric="val_loss")
    last = result(training(steps=80, evaluate_every=2, rate=0.3, stop=metric))
    losses = [point.val_loss for point in last.curve]
    best = losses.index(min(losses))
    assert (last.kept_step, len(losses)) == (2 * best + 2, best + 3)
    assert last.validation.loss == min(losses)


@pytest.mark.parametrize(
    "fields",
    [
        {"stop": Stop(patience=2), "rate": 0.3, "steps": 40, "evaluate_every": 2},
        {"stages": (Stage(fraction=0.3, learn="fresh"), Stage(fraction=0.7, images_per_class=5))},
        {"l2_sp": 0.1, "fresh_first": 0.4},
    ],
)
def test_a_resumed_training_gives_the_same_bits(fields: dict[str, Any]) -> None:
    one = training("transfer", 2, fine_tuned=True, network=BATCH_NORM, **fields)
    parent = result(training(target="A", network=BATCH_NORM)).checkpoint
    all_rows = rows(one, parent, checkpoint_seconds=0.0)
    whole = all_rows[-1]
    assert isinstance(whole, Result)
    for snapshot in (row for row in all_rows if isinstance(row, Snapshot)):
        *_, last = train(one, parent=parent, resume=snapshot.data)
        assert isinstance(last, Result)
        assert last.checkpoint_sha256 == whole.checkpoint_sha256
        assert points(last.curve) == points(whole.curve)
        assert (last.kept_step, last.stages_proven) == (whole.kept_step, True)
