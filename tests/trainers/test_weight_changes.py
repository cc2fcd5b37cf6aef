"""Changes of weights, layer by layer, and the line between two networks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parameters_to_vector

from tests import formulas
from trainers.networks import Network, NetworkError, tensors_of
from trainers.weight_changes import Change, barrier, interpolated, layer_changes

LOSS = st.floats(0, 100)


def network(seed: int, classes: int = 3) -> Network:
    torch.manual_seed(seed)
    return Network.of(
        [
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
            nn.Sequential(nn.Flatten(), nn.Linear(4, classes)),
        ]
    )


def test_changes_by_hand() -> None:
    start = {"layer1.weight": torch.tensor([[3.0, 0.0]]), "layer1.bias": torch.tensor([4.0])}
    end = {"layer1.weight": torch.tensor([[0.0, 0.0]]), "layer1.bias": torch.tensor([8.0])}
    assert layer_changes(start, end) == {1: Change(distance=5.0, norm=5.0, cosine=0.8)}


def test_changes_are_those_of_the_parameters_as_one_vector() -> None:
    start, end = network(0), network(1)
    start[0][1].running_mean += 7
    changes = layer_changes(tensors_of(start), tensors_of(end))
    assert list(changes) == [1, 2]
    for number, change in changes.items():
        before, after = (
            parameters_to_vector(one[number - 1].parameters()).detach().double().numpy()
            for one in (start, end)
        )
        lengths = np.linalg.norm(before), np.linalg.norm(after)
        assert change.distance == pytest.approx(np.linalg.norm(after - before), rel=1e-12)
        assert change.norm == pytest.approx(lengths[0], rel=1e-12)
        assert change.cosine == pytest.approx(before @ after / np.prod(lengths), rel=1e-12)


def test_a_network_is_no_distance_from_itself() -> None:
    tensors = tensors_of(network(0))
    for change in layer_changes(tensors, tensors).values():
        assert (change.distance, change.cosine) == (0.0, pytest.approx(1.0, rel=1e-12))


def test_a_layer_of_zeros_has_no_angle() -> None:
    zeros, ones = ({"layer2.weight": fill(3)} for fill in (torch.zeros, torch.ones))
    assert layer_changes(zeros, ones) == {2: Change(pytest.approx(3**0.5), 0.0, 0.0)}
    assert layer_changes(ones, zeros)[2].cosine == layer_changes(zeros, zeros)[2].cosine == 0


def test_a_head_for_other_classes_and_names_without_a_layer_are_left_out() -> None:
    start, end = tensors_of(network(0)), tensors_of(network(0, classes=5))
    assert list(layer_changes(start, end)) == [1]
    assert list(layer_changes(start, {})) == []
    assert list(layer_changes({"step": torch.ones(1)}, {"step": torch.ones(1)})) == []


def test_layers_are_in_the_order_of_their_numbers() -> None:
    tensors = {f"layer{n}.weight": torch.ones(1) for n in (10, 2, 1)}
    assert list(layer_changes(tensors, tensors)) == [1, 2, 10]


def test_the_line_is_that_of_every_tensor_and_the_nearer_count_of_batches() -> None:
    start, end = tensors_of(network(0)), tensors_of(network(1))
    start["layer1.1.num_batches_tracked"] += 10
    quarter, half = (interpolated(start, end, alpha) for alpha in (0.25, 0.5))
    for name, tensor in start.items():
        if tensor.is_floating_point():
            expected = 0.75 * tensor + 0.25 * end[name]
            torch.testing.assert_close(quarter[name], expected, rtol=0, atol=1e-6)
            assert quarter[name].dtype == tensor.dtype
    assert int(quarter["layer1.1.num_batches_tracked"]) == 10
    assert int(half["layer1.1.num_batches_tracked"]) == 0
    network(2).load_state_dict(quarter)


def test_the_ends_of_the_line_are_the_networks_bit_for_bit() -> None:
    start, end = tensors_of(network(0)), tensors_of(network(1))
    for alpha, expected in ((0.0, start), (1.0, end)):
        ends = interpolated(start, end, alpha)
        assert all(torch.equal(ends[name], expected[name]) for name in expected)


def test_no_line_between_networks_of_other_shapes() -> None:
    start, end = tensors_of(network(0)), tensors_of(network(0, classes=5))
    with pytest.raises(NetworkError, match=r"differ in the shape of layer2\.1\.weight"):
        interpolated(start, end, 0.5)
    with pytest.raises(NetworkError, match=r"differ in the shape of layer1\.0\.weight"):
        interpolated({}, end, 0.5)


@pytest.mark.parametrize("entry", formulas.recorded("barrier"), ids=formulas.label)
def test_the_barrier_is_that_of_public_implementations(entry: dict[str, Any]) -> None:
    height = barrier(formulas.given(entry["input"], "losses").tolist())
    agrees = height == pytest.approx(entry["value"], abs=1e-9)
    assert agrees == ("differs" not in entry)


def test_barriers_by_hand() -> None:
    assert barrier([1.0, 4.0, 2.0]) == 2.5  # the line is at 1.5
    assert barrier([0.0, 0.5, 3.0, 3.0]) == 1.0  # the line is at 1, 2
    assert barrier([1.0, 0.5, 1.0]) == 0.0
    assert barrier([1.0, 2.0]) == 0.0
    assert barrier([1.0, math.nan, 1.0]) == barrier([1.0, math.inf, 1.0]) == math.inf


@given(
    losses=st.lists(LOSS, min_size=2, max_size=9), scale=st.floats(0.1, 10), slope=st.floats(0, 9)
)
def test_a_line_added_to_the_losses_leaves_the_barrier(
    losses: list[float], scale: float, slope: float
) -> None:
    height = barrier(losses)
    assert height >= 0
    assert barrier(losses[::-1]) == pytest.approx(height, abs=1e-9)
    changed = [scale * loss + slope * i for i, loss in enumerate(losses)]
    assert barrier(changed) == pytest.approx(scale * height, abs=1e-9)


@pytest.mark.parametrize("losses", [[], [1.0], [math.nan, 1.0], [1.0, 2.0, math.inf]])
def test_no_barrier_without_two_ends(losses: list[float]) -> None:
    with pytest.raises(NetworkError, match=r"no barrier between networks with losses \["):
        barrier(losses)
