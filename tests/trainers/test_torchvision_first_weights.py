"""First weights of torchvision's networks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from tests.trainers.runs import SHAPE, TINY, VIT, of_torchvision, ref
from trainers.config import NetworkRef
from trainers.first_weights import initialise
from trainers.networks import Network, build
from trainers.recipe import Recipe
from trainers.torchvision_networks import Builder

# The default of trainings: small networks gain nothing from more threads.
pytestmark = pytest.mark.usefixtures("one_thread")


def started(one: NetworkRef, seeds: list[int], **recipe: Any) -> Network:
    network = build(one, 5, SHAPE if one is VIT else (3, 32, 32))
    initialise(network, Recipe(**recipe), seeds)
    return network


@pytest.mark.parametrize("init", ["he", "torch", "network"])
@pytest.mark.parametrize("one", [VIT, ref("shufflenet_v2_x0_5")])
def test_first_weights_come_from_each_layers_own_seed(one: NetworkRef, init: str) -> None:
    depth = 4 if one is VIT else 6
    seeds = list(range(depth))
    before = torch.random.get_rng_state()
    first, second, third = (
        started(one, chosen, init=init) for chosen in (seeds, seeds, [seeds[0], 77, *seeds[2:]])
    )
    for number in range(depth):
        state, again, other = (n[number].state_dict() for n in (first, second, third))
        assert all(torch.equal(state[name], again[name]) for name in state)
        assert all(torch.equal(state[name], other[name]) for name in state) == (number != 1)
    torch.random.set_rng_state(before)


def test_the_networks_own_first_weights_are_its_constructors() -> None:
    layers = Builder("shufflenet_v2_x0_5").layers(5, (3, 32, 32), {})
    torch.manual_seed(5)
    layers[2].fill_parameters()
    torch.manual_seed(5)
    own = of_torchvision("shufflenet_v2_x0_5")
    assert isinstance(own.stage3, nn.Module)
    for name, tensor in own.stage3.state_dict().items():
        assert torch.equal(tensor, layers[2].stage3.state_dict()[name])
    assert not torch.equal(own.fc.weight, layers[5].fc.weight)


def test_a_vision_transformers_first_weights() -> None:
    """Class token and head are 0; positions have deviation 0.02.

    Patches have the variance that torchvision gives to three channels, 1 / (3 × 4 × 4).
    """
    sizes = TINY | {"hidden_dim": 128, "num_heads": 4}
    for init in ("network", "he", "torch"):
        network = build(ref("vit_b_16", **sizes), 5, SHAPE)
        initialise(network, Recipe(init=init), [1, 2, 3, 4])  # type: ignore[arg-type]
        tokens = network[0].tokens
        assert not tokens.class_token.any()
        assert tokens.pos_embedding.std().item() == pytest.approx(0.02, rel=0.1)
        deviation = {"network": 1 / 48, "he": 2 / 16, "torch": 1 / (3 * 16)}[init] ** 0.5
        assert tokens.conv_proj.weight.std().item() == pytest.approx(deviation, rel=0.1), init
        assert network[3].heads_head.weight.any() == (init != "network")
        [block] = network[1]
        attention = block.self_attention.in_proj_weight  # Xavier's, in all of them
        assert attention.std().item() == pytest.approx(math.sqrt(2 / (4 * 128)), rel=0.05)
        assert block.ln_1.weight.tolist() == [1] * 128


def test_a_module_without_reset_parameters_starts_as_the_networks_own() -> None:
    """So do ConvNeXt's scales and Swin's window biases, also if `init` is He's."""
    convnext = Network.of(Builder("convnext_tiny").layers(5, (3, 32, 32), {})[1:2])
    initialise(convnext, Recipe(), [1])
    block = convnext[0].features_1[0]
    assert block.layer_scale.unique().tolist() == pytest.approx([1e-6])
    assert block.block[3].weight.std().item() == pytest.approx(math.sqrt(1 / 96), rel=0.05)

    def table(seed: int) -> torch.Tensor:
        swin = Network.of(Builder("swin_t").layers(5, (3, 32, 32), {})[1:2])
        initialise(swin, Recipe(init="torch"), [seed])
        biases: torch.Tensor = swin[0].features_1[0].attn.relative_position_bias_table
        return biases.detach()

    first, again, other = table(1), table(1), table(2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.std().item() == pytest.approx(0.02, rel=0.1)
