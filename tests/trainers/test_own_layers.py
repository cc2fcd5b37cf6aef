"""Layers of a user's function: their first weights, and state outside of `state_dict`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainers.runs import CACHE, NO_CACHE, SHAPE
from tests.trainings import result, training
from trainers import checkpoint
from trainers.config import NetworkRef
from trainers.learner import Learner
from trainers.networks import build, tensors_of
from trainers.task_data import task_data
from trainers.transfer import starting_network

# First weights that a user's function sets --------------------------------------------------------


class Filled(nn.Linear):
    def fill_parameters(self) -> None:
        nn.init.constant_(self.weight, 4)


def preset(*, classes: int, shape: tuple[int, int, int]) -> list[nn.Module]:
    """A constant layer, one drawn by numpy, one that fills itself, and one of torch."""
    first = nn.Linear(shape[1] * shape[2], 4)
    nn.init.constant_(first.weight, 3)
    second = nn.Linear(4, 4)
    drawn = np.random.rand(4, 4).astype("float32")  # noqa: NPY002
    second.weight.data.copy_(torch.from_numpy(drawn))
    return [nn.Sequential(nn.Flatten(), first), second, Filled(4, 4), nn.Linear(4, classes)]


def first_weights(kind: str, n: int = 0, **options: Any) -> list[torch.Tensor]:
    """The weights of the four layers of `preset` before the first step."""
    one = training(kind, n, network=NetworkRef(name=f"{__name__}:preset"), **options)
    parent = checkpoint.pack(starting_network(one, SHAPE, torch.float32, None).state_dict(), {})
    network = starting_network(one, SHAPE, torch.float32, parent)
    return [tensor for name, tensor in network.state_dict().items() if "weight" in name]


def test_weights_that_a_function_sets_are_kept_with_init_network_only() -> None:
    base = first_weights("base", init="network")
    assert (base[0] == 3).all()
    assert (base[2] == 4).all()
    assert ((base[1] >= 0) & (base[1] < 1)).all()
    assert all(map(torch.equal, base, first_weights("base", init="network")))
    for init in ("he", "torch"):
        replaced = first_weights("base", init=init)
        assert not any(map(torch.equal, base, replaced))


def test_what_a_function_draws_depends_on_seed_task_and_role() -> None:
    base, other, task, random, random_3 = (
        first_weights(kind, n, init="network", **options)
        for kind, n, options in (
            ("base", 0, {}),
            ("base", 0, {"seed": 1}),
            ("base", 0, {"target": "A"}),
            ("random", 1, {}),
            ("random", 3, {}),
        )
    )
    drawn = [base[1], other[1], task[1], random[1], random_3[1]]
    assert len({tensor.sum().item() for tensor in drawn}) == 5
    assert torch.equal(random[3], random_3[3])  # fresh in both
    assert not torch.equal(random[3], base[3])


# State outside of `state_dict` -------------------------------------------------------------------


class Scale(nn.Module):
    """Divides by a running mean of magnitudes, which `state_dict` leaves out."""

    size: torch.Tensor

    def __init__(self, *, stops: bool = True) -> None:
        super().__init__()
        self.stops = stops
        self.register_buffer("size", torch.ones(()), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training or not self.stops:
            self.size = 0.5 * self.size + 0.5 * x.detach().abs().mean()
        return x / self.size


def scaled(*, classes: int, shape: tuple[int, int, int], stops: bool = True) -> list[nn.Module]:
    """Two layers that scale, and a last one."""
    first = nn.Sequential(nn.Flatten(), nn.Linear(shape[1] * shape[2], 8), Scale(stops=stops))
    second = nn.Sequential(nn.Linear(8, 8), Scale(stops=stops))
    return [first, second, nn.Linear(8, classes)]


@pytest.mark.parametrize("feature_bytes", [CACHE, NO_CACHE])
def test_buffers_that_are_not_persistent_are_copied_frozen_and_proven(feature_bytes: int) -> None:
    network = NetworkRef(name=f"{__name__}:scaled")
    base = result(training(network=network))
    tensors, _ = checkpoint.unpack(base.checkpoint)
    assert tensors["layer1.2.size"] != 1
    selffer = training("selffer", 1, network=network)
    copy = result(selffer, base.checkpoint, feature_bytes=feature_bytes)
    assert copy.frozen_hash_start == copy.frozen_hash_end != ""
    copied, _ = checkpoint.unpack(copy.checkpoint)
    assert copied["layer1.2.size"] == tensors["layer1.2.size"]
    assert copied["layer2.1.size"] not in (1, tensors["layer2.1.size"])


def test_snapshots_and_the_proof_hold_buffers_that_are_not_persistent() -> None:
    network = NetworkRef(name=f"{__name__}:scaled")
    selffer = training("selffer", 1, network=network)
    parent = checkpoint.pack(tensors_of(build(network, 5, SHAPE)), {})
    one = Learner(selffer, task_data(selffer, torch.device("cpu")), parent, CACHE)
    before, saved = one.frozen_hash(), {name: t.clone() for name, t in one.state().items()}
    dict(one.network.named_buffers())["layer1.2.size"].fill_(9)
    assert one.frozen_hash() != before
    one.load_state(saved)
    assert one.frozen_hash() == before
    del saved["network/layer1.2.size"]
    with pytest.raises(RuntimeError, match=r"buffers \['layer1.2.size'\] are missing"):
        one.load_state(saved)


def test_a_frozen_layer_that_changes_all_the_same_is_not_proven() -> None:
    network = NetworkRef(name=f"{__name__}:scaled", options=(("stops", False),))
    base = result(training(network=network))
    copy = result(training("selffer", 1, network=network), base.checkpoint, feature_bytes=NO_CACHE)
    assert copy.frozen_hash_start != copy.frozen_hash_end
