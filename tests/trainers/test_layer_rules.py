"""Rules for the layers of a user's network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from trainers.layer_rules import broken_rule


def with_attribute(value: Any) -> nn.Module:
    """A linear layer with an attribute `extra`."""
    layer = nn.Linear(2, 2)
    layer.__dict__["extra"] = value
    return layer


def pair(name: str, tensor: torch.Tensor) -> list[nn.Module]:
    """Two layers with one tensor, as a parameter or as a buffer."""
    layers: list[nn.Module] = [nn.Linear(2, 2), nn.Linear(2, 2)]
    for layer in layers:
        if isinstance(tensor, nn.Parameter):
            layer.register_parameter(name, tensor)
        else:
            layer.register_buffer(name, tensor, persistent=False)
    return layers


def viewed() -> list[nn.Module]:
    """Two layers whose weights are different parameters in the same memory."""
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = nn.Parameter(first.weight.data)
    return [first, second]


SHARED = "layers 1 and 2 share a tensor, layer1.{0} and layer2.{0}, so that neither can be"
TENSOR = "layer 1: extra of Linear is a tensor that is neither saved nor copied"
HIDDEN = "layer 1: extra of Linear holds weights that torch does not know; use nn.ModuleList"


@pytest.mark.parametrize(
    ("layers", "start"),
    [
        (pair("weight", nn.Parameter(torch.ones(2, 2))), SHARED.format("weight")),
        (pair("mask", torch.ones(2)), SHARED.format("mask")),
        (viewed(), SHARED.format("weight")),
        ([nn.Linear(2, 2), nn.LazyBatchNorm1d()], "layer 2: LazyBatchNorm1d is lazy"),
        ([nn.Sequential(nn.ReLU(), nn.LazyLinear(2))], "layer 1: LazyLinear (1) is lazy"),
        ([nn.ReLU(), nn.Linear(2, 2)], "layers [1] have no weights"),
        ([with_attribute(torch.ones(2))], TENSOR),
        ([with_attribute([torch.ones(2)])], TENSOR),
        ([with_attribute([nn.Linear(2, 2)])], HIDDEN),
        ([with_attribute({"a": nn.Parameter(torch.ones(2))})], HIDDEN),
    ],
)
def test_layers_that_cannot_be_copied_or_frozen_apart(layers: list[nn.Module], start: str) -> None:
    assert broken_rule(layers).startswith(start)


def test_layers_of_torch_keep_the_rules() -> None:
    activation, tied, computed = nn.ReLU(), nn.Linear(2, 2), nn.Linear(2, 2)
    computed.__dict__["extra"] = computed.weight * 2
    layers = [
        nn.Sequential(nn.Linear(2, 2), activation, nn.BatchNorm1d(2)),
        nn.Sequential(tied, activation, tied),
        nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 2, 3)),
        nn.LSTM(2, 2, 2, bidirectional=True),
        nn.TransformerEncoderLayer(4, 2, 4),
        computed,
        nn.Sequential(with_attribute(tied.weight), tied),
    ]
    assert broken_rule(layers[:-1]) == ""
    assert broken_rule(layers[-1:]) == ""
