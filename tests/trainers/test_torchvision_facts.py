"""What planning knows of torchvision's networks: counts, names, and whether they draw at random."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.swin_transformer import SwinTransformerBlock

from tests.trainers.runs import SHAPE, TINY, VIT, ref
from trainers.canonical import freeze_options
from trainers.config import NetworkRef
from trainers.networks import (
    Network,
    build,
    describe,
    fingerprint,
    is_random,
    options_of,
    set_dropout,
)
from trainers.torchvision_networks import Builder, find

# The default of trainings: small networks gain nothing from more threads.
pytestmark = pytest.mark.usefixtures("one_thread")


# Facts for planning -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "shape"),
    [
        (VIT, SHAPE),
        (ref("resnet18"), SHAPE),
        (ref("swin_t"), (3, 40, 32)),  # windows of 7×7: padded maps
        (ref("mobilenet_v3_small"), (3, 32, 32)),
        pytest.param(ref("maxvit_t"), (3, 224, 224), marks=pytest.mark.slow),
    ],
)
def test_multiply_adds_are_those_that_torch_counts(one: NetworkRef, shape: Any) -> None:
    info = describe(one, 5, shape)
    network, images = build(one, 5, shape).eval(), torch.zeros(2, *shape)
    torch.backends.mha.set_fastpath_enabled(False)  # which torch does not count
    try:
        for layer, macs in zip(network, info.macs, strict=True):
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                images = layer(images)
            assert counter.get_total_flops() == 2 * len(images) * macs
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_counts_of_a_tiny_vision_transformer_by_hand() -> None:
    """Nine patches of 4×4 pixels and the class token are 16 wide, and 24 within each block."""
    tokens, width, middle = 10, 16, 24
    block = tokens * (4 * width**2 + 2 * width * middle) + 2 * tokens**2 * width
    weights = 4 * width**2 + 4 * width + 2 * width * middle + middle + width + 4 * width
    info = describe(VIT, 5, SHAPE)
    assert info.macs == (9 * 16 * width, block, block, 5 * width)
    assert info.parameters == (
        (16 + 1) * width + (1 + tokens) * width,
        weights,
        weights + 2 * width,  # and the normalisation after the last block
        (width + 1) * 5,
    )
    assert info.shapes == ((10, 16), (10, 16), (16,), (5,))


def test_the_first_convolution_sees_as_many_channels_as_images_have() -> None:
    torch.manual_seed(0)
    for channels in (1, 3, 5):
        network = build(ref("resnet18"), 5, (channels, 12, 12))
        weight = network[0].conv1.weight
        assert weight.shape == (64, channels, 7, 7)
        assert weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 49)), rel=0.05)
    assert describe(ref("resnet18"), 5, SHAPE).shapes[-1] == (5,)


def test_ids_do_not_depend_on_torchvisions_release() -> None:
    assert fingerprint("torchvision:resnet18") == ""
    given = freeze_options({"zero_init_residual": False})
    assert options_of("torchvision:resnet18", given) == given  # a default that may change


# Random numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "random"),
    [
        (ref("resnet18"), False),
        (ref("mobilenet_v3_small", dropout=0.0), False),
        (ref("mobilenet_v3_small"), True),
        (ref("efficientnet_b0", dropout=0.0), True),  # stochastic depth
        (ref("efficientnet_b0", dropout=0.0, stochastic_depth_prob=0.0), False),
        (ref("vit_b_16", **TINY), False),
        (ref("vit_b_16", attention_dropout=0.1, **TINY), True),
        (ref("densenet121"), False),
        (ref("densenet121", drop_rate=0.1), True),
    ],
)
def test_is_random_agrees_with_the_random_state(one: NetworkRef, random: bool) -> None:
    builder = find(one.name)
    size = 8 if "vit" in one.name else 32
    network = Network.of(builder.layers(5, (3, size, size), dict(one.options)))
    assert is_random(network) == random
    images = torch.randn(2, 3, size, size)
    network.train()
    with torch.random.fork_rng(), torch.no_grad():
        before = torch.random.get_rng_state()
        network(images)
        assert torch.equal(torch.random.get_rng_state(), before) != random


def test_dropout_inside_of_windows_draws_random_numbers() -> None:
    """torchvision's Swin has stochastic depth in all but its first block."""
    for rate in (0.0, 0.1):
        block = SwinTransformerBlock(8, 2, [2, 2], [0, 0], attention_dropout=rate)
        assert is_random(block) == (rate > 0)
    layers = Network.of(Builder("swin_t").layers(5, (3, 32, 32), {})[:2])
    assert [is_random(layers[:n]) for n in (1, 2)] == [False, True]


def test_the_recipes_dropout_replaces_that_of_modules_only() -> None:
    """Stochastic depth and attention's dropout are options of the network."""
    network = Network.of(Builder("efficientnet_b0").layers(5, (3, 32, 32), {}))
    assert [is_random(network[:n]) for n in (1, 2, 3)] == [False, False, True]
    set_dropout(network, 0)
    assert is_random(network[:3])
    assert not any(m.p for m in network.modules() if isinstance(m, nn.Dropout))
