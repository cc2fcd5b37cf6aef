"""Layers in training: keyed starts of fresh ones, and copied ones that stay or learn later."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from tests.trainers.runs import parent_of
from tests.trainings import BATCH_NORM, result, rows, training
from trainers import checkpoint
from trainers.config import Training
from trainers.learner import Learner
from trainers.loop import train
from trainers.results import Result, Snapshot
from trainers.task_data import task_data
from trainers.transfer import starting_network

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base() -> Result:
    """The base whose layers the transfers from A copy."""
    return result(training(target="A"))


# Keyed starts -----------------------------------------------------------------------------------


def start(one: Training, parent: bytes | None = None) -> dict[str, bytes]:
    """Return the weights before the first step, by layer; all biases are 0."""
    network = starting_network(one, (1, 12, 12), torch.float32, parent)
    return {
        name: layer[0].weight.detach().numpy().tobytes() for name, layer in network.named_children()
    }


def test_fresh_layers_are_equal_in_every_treatment_and_for_every_n(base: Result) -> None:
    """Layer k of B starts equal in AnB, AnB+, BnB, BnB+ and random, for all n < k."""
    fresh: dict[int, set[bytes]] = {}
    b = result(training())
    for kind, n, fine_tuned in itertools.product(
        ("selffer", "transfer", "random"), range(1, 5), (False, True)
    ):
        parent = {"selffer": b.checkpoint, "transfer": base.checkpoint}.get(kind)
        layers = start(training(kind, n, fine_tuned=fine_tuned), parent)
        for k in range(n + 1, 6):
            fresh.setdefault(k, set()).add(layers[f"layer{k}"])
    assert {k: len(layers) for k, layers in fresh.items()} == {2: 1, 3: 1, 4: 1, 5: 1}
    bases = {layer for target in "AB" for layer in start(training(target=target)).values()}
    assert not bases & {layer for layers in fresh.values() for layer in layers}


def test_random_filters_are_nested_over_n() -> None:
    layers = {n: start(training("random", n)) for n in range(1, 5)}
    for n, m in itertools.combinations(range(1, 5), 2):
        for k in range(1, n + 1):
            assert layers[n][f"layer{k}"] == layers[m][f"layer{k}"]
    fresh = start(training("random", 1))
    assert all(layers[4][f"layer{k}"] != fresh[f"layer{k}"] for k in range(2, 5))
    assert layers[4]["layer5"] == fresh["layer5"]


def test_no_two_bases_share_weights_and_seeds_change_all() -> None:
    starts = [
        start(training(kind, n, target=target, seed=seed))
        for kind, n in (("base", 0), ("random", 4))
        for target in "AB"
        for seed in (0, 1)
    ]
    for first, second in itertools.combinations(starts, 2):
        assert not set(first.values()) & set(second.values())


def test_a_base_and_its_longer_control_start_equal() -> None:
    assert start(training("base_long", steps=40)) == start(training())


def test_number_formats_start_from_the_same_weights() -> None:
    double = starting_network(training(), (1, 12, 12), torch.float64, None).float().state_dict()
    single = starting_network(training(), (1, 12, 12), torch.float32, None).state_dict()
    assert all(torch.equal(double[name], single[name]) for name in single)


def test_dropout_masks_depend_on_seed_target_and_step_only() -> None:
    """The treatments of one target drop the same units at the same step."""

    def masks(one: Training) -> list[list[bool]]:
        parent = result(training(target="A", seed=one.seed)).checkpoint
        it = Learner(one, task_data(one, CPU), parent, 0)
        seen: list[list[bool]] = []
        it.network[3].dropout.register_forward_hook(
            lambda _module, _inputs, output: seen.append((output == 0).flatten().tolist())
        )
        it.network[3].relu.register_forward_hook(lambda *_: torch.ones(16, 8))
        for step in (0, 1, 0):
            it.step(step, 1e-9)
        return seen

    first = masks(training("random", 1, dropout=0.5))
    assert first[0] == first[2] != first[1]
    assert masks(training("transfer", 2, fine_tuned=True, dropout=0.5, rate=0.3)) == first
    assert masks(training("random", 1, dropout=0.5, seed=1)) != first
    assert masks(training("random", 1, dropout=0.5, target="A")) != first


# Copied layers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "one", [training("transfer", 2), training("selffer", 1, network=BATCH_NORM)]
)
def test_a_frozen_part_is_proven_frozen(one: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = parent_of(one)
    last = result(one, parent)
    assert last.frozen_hash_start == last.frozen_hash_end != ""

    take_step = Learner.step

    def tampering(self: Learner, step: int, rate: float) -> torch.Tensor:
        if step == 7:
            next(iter(self.network[0].parameters())).view(-1)[0].add_(1e-3)
        return take_step(self, step, rate)

    monkeypatch.setattr(Learner, "step", tampering)
    tampered = result(one, parent)
    assert tampered.frozen_hash_start == last.frozen_hash_start != tampered.frozen_hash_end


@pytest.mark.parametrize("optimiser", ["sgd", "caffe_sgd", "adam", "adamw"])
def test_while_fresh_layers_learn_first_nothing_touches_the_copied_ones(
    optimiser: Any, base: Result
) -> None:
    """Neither decay nor momentum changes them. Afterwards they learn like new layers."""
    one = training(
        "transfer", 2, fine_tuned=True, fresh_first=0.5, optimiser=optimiser, weight_decay=0.1
    )
    learner = Learner(one, task_data(one, CPU), base.checkpoint, 0)
    before = {name: tensor.clone() for name, tensor in learner.network.state_dict().items()}
    for step in range(10):
        learner.step(step, 0.05)
        learner.score("validation")
    copied = [name for name in before if name.startswith(("layer1.", "layer2."))]
    assert len(copied) == 4
    after = learner.network.state_dict()
    assert [name for name in before if torch.equal(before[name], after[name])] == copied
    assert len(learner.optimiser.state) == len(before) - 4
    learner.step(10, 0.05)
    weights = [name for name in copied if name.endswith("weight")]  # a dead unit's bias stays
    assert not any(torch.equal(before[name], after[name]) for name in weights)
    assert len(learner.optimiser.state) == len(before)


def test_normalisation_of_copied_layers_waits_for_the_fresh_ones() -> None:
    one = training("transfer", 2, fine_tuned=True, network=BATCH_NORM, fresh_first=0.5)
    parent = parent_of(one)
    learner = Learner(one, task_data(one, CPU), parent, 0)
    seen = learner.network.state_dict()["layer1.1.num_batches_tracked"]
    start = int(seen)
    for step in range(12):
        learner.step(step, 0.05)
        learner.score("validation")
        assert int(seen) == start + max(0, step - 9)


def test_a_rate_of_nothing_for_copied_layers_is_almost_freezing(base: Result) -> None:
    tuned, frozen = (
        result(training("transfer", 2, fine_tuned=fine, copied_rate=1e-12), base.checkpoint)
        for fine in (True, False)
    )
    for mine, its in zip(tuned.curve, frozen.curve, strict=True):
        assert mine.train_loss == pytest.approx(its.train_loss, rel=1e-4)


def test_resuming_proves_from_the_first_start_on(base: Result) -> None:
    """A snapshot carries the first hash, so that a change of a frozen layer before it is seen."""
    one = training("transfer", 2)
    all_rows = rows(one, base.checkpoint, checkpoint_seconds=0.0)
    tensors, meta = checkpoint.unpack(next(r for r in all_rows if isinstance(r, Snapshot)).data)
    tensors["network/layer1.conv.weight"][0, 0, 0, 0] += 1e-3
    *_, last = train(one, parent=base.checkpoint, resume=checkpoint.pack(tensors, meta))
    assert isinstance(last, Result)
    assert last.frozen_hash_start == meta["frozen_hash_start"] != last.frozen_hash_end


def test_a_training_without_frozen_layers_has_no_proof() -> None:
    last = result(training())
    assert last.frozen_hash_start == last.frozen_hash_end == ""
