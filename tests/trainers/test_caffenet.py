"""CaffeNet: shapes and counts by hand, first weights, and the modules of each layer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from trainers.caffenet import AcrossChannels, FilledLayer, caffenet
from trainers.canonical import ConfigError, freeze_options
from trainers.config import NetworkRef
from trainers.first_weights import initialise, layer_seed
from trainers.networks import Network, NetworkError, build, describe, is_random, set_dropout
from trainers.recipe import Recipe

CAFFENET = NetworkRef(name="caffenet")
PAPERS = NetworkRef(name="caffenet", options=(("outputs", 1000),))
IMAGENET = (3, 227, 227)
# By hand: weights of one output × outputs + biases; groups see half of the channels.
PARAMETERS = (
    11 * 11 * 3 * 96 + 96,
    5 * 5 * 48 * 256 + 256,
    3 * 3 * 256 * 384 + 384,
    3 * 3 * 192 * 384 + 384,
    3 * 3 * 192 * 256 + 256,
    9216 * 4096 + 4096,
    4096 * 4096 + 4096,
    4096 * 1000 + 1000,
)
MACS = (
    11 * 11 * 3 * 96 * 55 * 55,
    5 * 5 * 48 * 256 * 27 * 27,
    3 * 3 * 256 * 384 * 13 * 13,
    3 * 3 * 192 * 384 * 13 * 13,
    3 * 3 * 192 * 256 * 13 * 13,
    9216 * 4096,
    4096 * 4096,
    4096 * 1000,
)
SHAPES = (
    *((96, 27, 27), (256, 13, 13), (384, 13, 13), (384, 13, 13), (9216,)),
    *((4096,), (4096,), (1000,)),
)
STD = (0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.01)
BIAS = (0, 1, 0, 1, 1, 1, 1, 0)


@pytest.fixture(scope="module")
def started() -> Network:
    """Return the paper's network for a half, with its own first weights."""
    network = build(PAPERS, 500, IMAGENET)
    initialise(network, Recipe(init="network"), range(8))
    return network


def test_shapes_and_counts_on_the_papers_images() -> None:
    info = describe(PAPERS, 500, IMAGENET)
    assert info.shapes == SHAPES
    assert info.parameters == PARAMETERS
    assert sum(info.parameters) == 60_965_224
    assert info.state_bytes == 4 * 60_965_224
    assert info.macs == MACS
    assert sum(info.macs) == 724_406_816


def test_modules_in_the_papers_order(started: Network) -> None:
    """Pooling precedes normalisation, and every layer has biases."""
    conv, fc = ["conv", "relu"], ["fc", "relu", "dropout"]
    assert [[name for name, _ in layer.named_children()] for layer in started] == [
        [*conv, "pool", "norm"],
        [*conv, "pool", "norm"],
        conv,
        conv,
        [*conv, "pool", "flatten"],
        fc,
        fc,
        ["fc"],
    ]
    assert [(c.conv.stride, c.conv.padding, c.conv.groups) for c in started[:5]] == [
        ((4, 4), (0, 0), 1),
        ((1, 1), (2, 2), 2),
        ((1, 1), (1, 1), 1),
        ((1, 1), (1, 1), 2),
        ((1, 1), (1, 1), 2),
    ]
    assert [started[n].dropout.p for n in (5, 6)] == [0.5, 0.5]
    assert [is_random(started[:n]) for n in (5, 6)] == [False, True]


@pytest.mark.parametrize("channels", [1, 3, 12])
@pytest.mark.parametrize("size", [1, 4, 5])
def test_normalisation_is_torchs_in_values_and_gradients(size: int, channels: int) -> None:
    """Only the order of additions differs, for any number of channels."""
    options = {"alpha": 0.3, "beta": 0.75, "k": 1.5}
    torch.manual_seed(0)
    images = torch.randn(2, channels, 3, 4, dtype=torch.float64)
    images = images.contiguous(memory_format=torch.channels_last)
    weights = torch.randn(images.shape, dtype=torch.float64)
    results = []
    for module in (AcrossChannels(size, **options), nn.LocalResponseNorm(size, **options)):
        given = images.clone().requires_grad_()
        made = module(given)
        (made * weights).sum().backward()
        assert given.grad is not None
        results.append((made.detach(), given.grad))
    (ours, our_gradient), (torchs, torchs_gradient) = results
    torch.testing.assert_close(ours, torchs, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(our_gradient, torchs_gradient, rtol=1e-12, atol=1e-12)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_normalisation_through_the_first_layer_by_hand() -> None:
    """x / (1 + 1e-4 / 5 × Σ x²)^0.75 over five channels, after pooling.

    An image of 19×19 gives 3×3 positions, and pooling leaves one. Every filter is 0 except for its
    first pixel, which is (i + 1) × 100 in filter i. The first pixel of each position is 1, and 2 in
    one position: the maximum.
    """
    layer = caffenet(classes=2, shape=IMAGENET)[0]
    with torch.no_grad():
        layer.conv.weight.zero_()
        layer.conv.bias.zero_()
        layer.conv.weight[:, 0, 0, 0] = 100 * torch.arange(1.0, 97.0)
        image = torch.zeros(1, 3, 19, 19)
        image[0, 0, ::4, ::4] = 1
        image[0, 0, 4, 8] = 2
        output = layer(image)
    assert output.shape == (1, 96, 1, 1)
    x = {i: 200.0 * (i + 1) for i in range(96)}
    for i, near in (
        (0, (0, 1, 2)),
        (1, (0, 1, 2, 3)),
        (50, (48, 49, 50, 51, 52)),
        (95, (93, 94, 95)),
    ):
        scale = 1 + 1e-4 / 5 * sum(x[j] ** 2 for j in near)
        assert output[0, i, 0, 0].item() == pytest.approx(x[i] / scale**0.75, rel=1e-5), i
    # Filter 0 spelled out: 1 + 2e-5 × (200² + 400² + 600²) = 12.2
    assert output[0, 0, 0, 0].item() == pytest.approx(200 / 12.2**0.75, rel=1e-5)


def test_groups_see_half_of_the_channels(started: Network) -> None:
    images = torch.zeros(1, 96, 5, 5)
    images[:, 48:] = 1  # the second half: outputs 128..255 see it and nothing else does
    with torch.no_grad():
        output = started[1].conv(images)[0]
    assert torch.equal(output[:128], torch.ones(128, 5, 5))  # biases alone
    assert (output[128:] != 1).all()


def test_statistics_of_the_papers_fillers(started: Network) -> None:
    for number, (layer, std, bias) in enumerate(zip(started, STD, BIAS, strict=True), start=1):
        weight, biases = layer[0].weight, layer[0].bias
        error = std / math.sqrt(weight.numel())
        assert abs(weight.mean().item()) < 5 * error, number
        assert weight.std().item() == pytest.approx(std, abs=5 * error), number
        assert abs(weight).max() > 3.5 * std, number  # normal, and not uniform
        assert (biases == bias).all(), number


def test_each_layer_starts_from_its_own_seed() -> None:
    """The test uses layers 3 to 5, which are small."""

    def weights(*roles: str) -> list[torch.Tensor]:
        layers = Network.of(caffenet(classes=2, shape=(3, 67, 67))[2:5])
        seeds = [layer_seed(0, role, "task", number) for number, role in enumerate(roles, start=3)]
        initialise(layers, Recipe(init="network"), seeds)
        return [layer.conv.weight for layer in layers]

    first, second = weights("base", "base", "base"), weights("base", "fresh", "base")
    assert list(map(torch.equal, first, second)) == [True, False, True]
    torch.manual_seed(layer_seed(0, "base", "task", 3))
    alone = nn.Conv2d(256, 384, 3)  # torch's own start draws first
    nn.init.normal_(alone.weight, std=0.01)
    assert torch.equal(first[0], alone.weight)


def test_random_filters_with_fan_in_scaling() -> None:
    network = Network.of(caffenet(classes=2, shape=(3, 67, 67))[:3])
    initialise(network, Recipe(init="network", init_random="he"), [1, 2, 3], random=2)
    for layer, fan_in in ((network[0], 11 * 11 * 3), (network[1], 5 * 5 * 48)):
        assert layer.conv.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.02)
        assert not layer.conv.bias.any()
    assert network[2].conv.weight.std().item() == pytest.approx(0.01, rel=0.02)


def test_as_many_outputs_as_classes_or_the_papers() -> None:
    def outputs(ref: NetworkRef, classes: int) -> int:
        # Tiny images: layers 1 to 5 end in one position.
        return int(build(ref, classes, (3, 67, 67))[-1].fc.out_features)

    assert outputs(CAFFENET, 449) == 449
    assert outputs(PAPERS, 449) == outputs(PAPERS, 1000) == 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": 4}, "expected at least 5, the classes of a half, found 4"),
        ({"outputs": 10.0}, "expected a whole number, found 10.0"),
        ({"shrink": 3}, "expected one of 1, 2, 4, 8, 16"),
        ({"output": 10}, "unknown key 'output'; did you mean 'outputs'?"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        describe(NetworkRef(name="caffenet", options=freeze_options(options)), 5, IMAGENET)
    assert str(error.value) == message
    assert error.value.field in options


def test_images_that_are_too_small() -> None:
    message = r"^network caffenet cannot be built: images 12×12 are too small to pool layer 1$"
    with pytest.raises(NetworkError, match=message):
        describe(CAFFENET, 5, (3, 12, 12))


def test_caffe_rounds_sizes_of_pooling_up() -> None:
    """63 pixels give 14 positions, pooled to 7 (not 6), 3 and 1; 67 pixels give 15, 7, 3 and 1."""
    for pixels in (63, 67):
        layers = Network.of(caffenet(classes=2, shape=(3, pixels, pixels))[:5])
        images, sizes = torch.zeros(1, 3, pixels, pixels), []
        with torch.no_grad():
            for layer in layers:
                images = layer(images)
                sizes.append(tuple(images.shape[2:]))
        assert sizes == [(7, 7), (3, 3), (3, 3), (3, 3), ()]
        assert images.shape == (1, 256)


def test_the_recipes_dropout_replaces_the_networks() -> None:
    network = Network.of(caffenet(classes=2, shape=(3, 67, 67))[5:])
    set_dropout(network, 0)
    assert not is_random(network)
    assert all(isinstance(layer, FilledLayer) for layer in network)


def test_a_shrunken_network_has_the_same_shape() -> None:
    small = NetworkRef(name="caffenet", options=(("shrink", 16),))
    convolutions = ((6, 7, 7), (16, 3, 3), (24, 3, 3), (24, 3, 3), (16,))
    assert describe(small, 10, (3, 67, 67)).shapes == (*convolutions, (256,), (256,), (10,))
    kinds = [[type(module) for module in layer] for layer in build(small, 10, (3, 67, 67))]
    assert kinds == [
        [type(module) for module in layer] for layer in caffenet(classes=10, shape=IMAGENET)
    ]
