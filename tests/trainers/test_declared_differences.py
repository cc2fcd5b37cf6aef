"""Copies into a network that differs from the base as declared: widened and replaced layers."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from tests.trainers.runs import CACHE, SHAPE, base_of, first_layers, state
from tests.trainings import BATCH_NORM, training
from trainers import checkpoint
from trainers.canonical import freeze_options
from trainers.config import Adaptation, NetworkRef, Training
from trainers.learner import Learner
from trainers.networks import Network, NetworkError
from trainers.task_data import task_data
from trainers.transfer import freeze, starting_network

WIDE = NetworkRef(  # as SMALL, but for six filters in layer 1
    name="conv8", options=freeze_options({"conv": [6, 8], "pool": [1, 2], "fc": [12, 8]})
)
WIDENED = Adaptation.of([], ["layer1.conv", "layer2.conv.weight"])


def adapted(adapt: Adaptation, n: int = 2, **options: Any) -> Training:
    """Return a transfer from SMALL to WIDE."""
    return dataclasses.replace(training("transfer", n, network=WIDE, **options), adapt=adapt)


def start(one: Training, base: bytes | None) -> dict[str, torch.Tensor]:
    return dict(starting_network(one, SHAPE, torch.float32, base).state_dict())


def test_widened_layers_hold_the_bases_weights_and_fresh_ones() -> None:
    parent = base_of(training())
    base = checkpoint.unpack(parent)[0]
    network, fresh = start(adapted(WIDENED), parent), start(adapted(WIDENED, 0), parent)
    weight = network["layer1.conv.weight"]
    assert torch.equal(weight[:4], base["layer1.conv.weight"])
    assert torch.equal(weight[4:], fresh["layer1.conv.weight"][4:])
    assert torch.equal(network["layer1.conv.bias"][:4], base["layer1.conv.bias"])
    assert network["layer1.conv.bias"][4:].tolist() == [0, 0]
    assert torch.equal(network["layer2.conv.weight"][:, :4], base["layer2.conv.weight"])
    new = network["layer2.conv.weight"][:, 4:]
    assert torch.equal(new, fresh["layer2.conv.weight"][:, 4:])
    assert torch.equal(network["layer2.conv.bias"], base["layer2.conv.bias"])
    assert torch.equal(network["layer3.fc.weight"], fresh["layer3.fc.weight"])


def test_replaced_layers_start_as_fresh_layers_do() -> None:
    """They do not start as random filters do, which have another role in their seed."""
    parent = base_of(training())
    adapt = Adaptation.of([1], ["layer2.conv.weight"])
    network, fresh = start(adapted(adapt), parent), start(adapted(Adaptation(), 0), parent)
    filters = start(training("random", 2, network=WIDE), None)
    for name in ("layer1.conv.weight", "layer1.conv.bias"):
        assert torch.equal(network[name], fresh[name])
    assert not torch.equal(network["layer1.conv.weight"], filters["layer1.conv.weight"])


def test_another_network_undeclared_is_refused() -> None:
    message = (
        r"^layers 1..2 cannot be copied; layer1.conv.bias: base has \(4,\), target wants \(6,\)$"
    )
    adapt = Adaptation.of([], ["layer1.conv.weight", "layer2.conv"])
    with pytest.raises(NetworkError, match=message):
        start(adapted(adapt), base_of(training()))


@pytest.mark.parametrize(
    ("adapt", "n", "learns", "layers"),
    [
        (
            WIDENED,
            3,
            {"layer1.conv.weight", "layer1.conv.bias", "layer2.conv.weight"},
            0,
        ),
        (
            Adaptation.of([1], ["layer2.conv.weight"]),
            2,
            {"layer1.conv.weight", "layer1.conv.bias", "layer2.conv.weight"},
            0,
        ),
        (Adaptation.of([1, 2]), 2, None, 0),  # nothing is frozen
    ],
)
def test_new_weights_learn_in_a_frozen_trial_and_the_rest_is_proven(
    adapt: Adaptation, n: int, learns: set[str] | None, layers: int
) -> None:
    one = adapted(adapt, n, optimiser="adamw", weight_decay=0.1)
    it = Learner(one, task_data(one, torch.device("cpu")), base_of(training()), CACHE)
    below = first_layers(it.network, n)
    learns = below if learns is None else learns
    assert (it.frozen, it.wholly_frozen, it.cached_layers) == (below - learns, layers, layers)
    before, proof = state(it.network, 5), it.frozen_hash()
    for step in range(3):
        it.step(step, 0.01)
    after = it.network.state_dict()
    assert {name for name in before if torch.equal(before[name], after[name])} == it.frozen
    assert it.frozen_hash() == proof
    assert (proof == "") == (not it.frozen)


def test_a_new_head_of_copied_layers_leaves_those_below_it_passed_once() -> None:
    one = training("transfer", 3)
    one = dataclasses.replace(one, adapt=Adaptation.of(["layer3.fc.bias"]))
    it = Learner(one, task_data(one, torch.device("cpu")), base_of(training()), CACHE)
    assert (it.wholly_frozen, it.cached_layers) == (2, 2)
    assert it.frozen == first_layers(it.network, 3) - {"layer3.fc.bias"}


def test_statistics_are_measured_all_or_none() -> None:
    """If a mean is widened, the number of batches is new too, though it fits."""
    one = training("transfer", 1, network=NetworkRef(name=BATCH_NORM.name, options=(("width", 6),)))
    declared = ["layer1.0", *(f"layer1.1.{name}" for name in ("weight", "bias"))]
    means = ["layer1.1.running_mean", "layer1.1.running_var"]
    one = dataclasses.replace(one, adapt=Adaptation.of([], [*declared, *means]))
    parent = base_of(training(network=BATCH_NORM))
    it = Learner(one, task_data(one, torch.device("cpu")), parent, CACHE)
    assert it.frozen == set()
    for step in range(2):
        it.step(step, 0.01)
    assert int(it.network[0][1].num_batches_tracked) == 2


def test_a_layer_of_another_place_is_not_shared() -> None:
    shared = nn.Linear(3, 3)
    network = Network.of([shared, nn.Sequential(shared, nn.Linear(3, 2))])
    with pytest.raises(AssertionError, match=r"layer2.0.weight is shared by two layers"):
        freeze(network, first_layers(network, 1))
