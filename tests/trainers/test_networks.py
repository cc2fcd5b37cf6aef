"""Networks: names, slices, counts by hand, first weights, and layers that do not fit."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from tests.trainings import BATCH_NORM, SMALL, batch_norm
from trainers import networks
from trainers.canonical import ConfigError, freeze_options
from trainers.config import NetworkRef
from trainers.first_weights import initialise, layer_seed
from trainers.networks import Network, NetworkError, build, conv8, describe, is_random, set_dropout
from trainers.recipe import Recipe

CONV8 = NetworkRef(name="conv8")
SHAPE = (1, 12, 12)
# conv8 by hand: 3×3 weights and biases; 12×12 pixels, 6×6 after layer 1 and 3×3 after layer 3.
PARAMETERS = (
    9 * 1 * 8 + 8,
    9 * 8 * 16 + 16,
    9 * 16 * 16 + 16,
    9 * 16 * 16 + 16,
    9 * 16 * 16 + 16,
    16 * 9 * 32 + 32,
    32 * 32 + 32,
    32 * 5 + 5,
)
MACS = (
    9 * 1 * 8 * 144,
    9 * 8 * 16 * 36,
    9 * 16 * 16 * 36,
    9 * 16 * 16 * 9,
    9 * 16 * 16 * 9,
    16 * 9 * 32,
    32 * 32,
    32 * 5,
)


def test_layers_of_conv8() -> None:
    network = build(CONV8, 5, SHAPE)
    assert [name for name, _ in network.named_children()] == [f"layer{i}" for i in range(1, 9)]
    assert list(network.state_dict()) == [
        f"layer{number}.{kind}.{entry}"
        for number, kind in enumerate(["conv"] * 5 + ["fc"] * 3, start=1)
        for entry in ("weight", "bias")
    ]
    info = describe(CONV8, 5, SHAPE)
    assert info.depth == 8
    assert info.parameters == PARAMETERS
    assert info.macs == MACS
    assert sum(info.macs) == 182_048  # LAB.md: 182 kMAC, 14 k parameters
    assert info.state_bytes == 4 * sum(PARAMETERS) == 4 * 14_069
    assert info.shapes == (
        *((8, 6, 6), (16, 6, 6), (16, 3, 3), (16, 3, 3), (144,)),
        *((32,), (32,), (5,)),
    )


def test_a_slice_is_the_first_layers_under_the_same_names() -> None:
    network = build(CONV8, 5, SHAPE)
    for n in range(9):
        part = network[:n]
        assert isinstance(part, Network)
        assert list(part.state_dict()) == list(network.state_dict())[: 2 * n]
        assert all(mine is its for mine, its in zip(part, network, strict=False))
        images = torch.randn(2, *SHAPE)
        assert torch.equal(network[n:](part(images)), network(images))


def test_multiply_adds_count_groups_and_every_position() -> None:
    class Tokens(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(2).transpose(1, 2)  # (N, 36, 4)

    def build(*, classes: int, shape: Any) -> list[nn.Module]:
        assert shape == SHAPE
        return [
            nn.Conv2d(1, 4, 3, stride=2, padding=1),
            nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=2), Tokens(), nn.Linear(4, 6)),
            nn.Sequential(nn.Flatten(), nn.Linear(36 * 6, classes)),
        ]

    networks.NETWORKS["groups"] = build
    try:
        info = describe(NetworkRef(name="groups"), 5, SHAPE)
    finally:
        del networks.NETWORKS["groups"]
    assert info.macs == (9 * 4 * 36, 9 * 2 * 4 * 36 + 4 * 6 * 36, 36 * 6 * 5)
    assert info.shapes == ((4, 6, 6), (36, 6), (5,))


def test_statistics_of_he_initialisation() -> None:
    ref = NetworkRef(
        name="conv8", options=freeze_options({"conv": [64, 64], "pool": [], "fc": [512]})
    )
    network = build(ref, 512, (3, 12, 12))
    initialise(network, Recipe(), range(4))
    for number, layer in enumerate(network, start=1):
        weight, bias = layer[0].weight, layer[0].bias
        expected = math.sqrt((1 if number == 4 else 2) / weight[0].numel())
        assert weight.std().item() == pytest.approx(expected, rel=0.05), number
        assert abs(weight.mean().item()) < 0.05 * expected
        assert not bias.any()


def test_initialisation_of_torch_is_the_modules_own() -> None:
    network = build(SMALL, 5, SHAPE)
    initialise(network, Recipe(init="torch"), [11, 12, 13, 14, 15])
    torch.manual_seed(13)
    assert torch.equal(network[2].fc.weight, nn.Linear(network[2].fc.in_features, 12).weight)
    assert network[2].fc.bias.any()


class Filled(nn.Linear):
    """Layer with first weights of its own."""

    def fill_parameters(self) -> None:
        nn.init.normal_(self.weight, mean=7)
        nn.init.constant_(self.bias, 3)


def test_initialisation_of_the_network_is_its_layers_own() -> None:
    network = Network.of([Filled(40, 40), nn.Sequential(Filled(40, 40))])
    with pytest.raises(
        NetworkError, match=r"^layer 2 has no fill_parameters\(\), which init: netw"
    ):
        initialise(network, Recipe(init="network"), [1, 2])
    initialise(network[:1], Recipe(init="network"), [1])
    assert network[0].weight.mean().item() == pytest.approx(7, abs=0.1)
    assert network[0].bias.tolist() == [3] * 40


def test_random_filters_may_start_otherwise() -> None:
    """The first two layers start as `init_random` says, the third as `init` says."""

    def weights(recipe: Recipe, random: int) -> list[torch.Tensor]:
        network = Network.of([Filled(4, 4), Filled(4, 4), Filled(4, 4)])
        initialise(network, recipe, [1, 2, 3], random)
        return [layer.weight for layer in network]

    own, he = weights(Recipe(init="network"), 2), weights(Recipe(init="he"), 2)
    mixed = weights(Recipe(init="network", init_random="he"), 2)
    assert all(map(torch.equal, mixed, [*he[:2], own[2]]))
    assert all(map(torch.equal, weights(Recipe(init="network", init_random="he"), 0), own))
    assert not torch.equal(own[0], he[0])


def test_each_layer_has_its_own_generator() -> None:
    first, second = build(SMALL, 5, SHAPE), build(SMALL, 5, SHAPE)
    before = torch.random.get_rng_state()
    initialise(first, Recipe(), [1, 2, 3, 4, 5])
    initialise(second, Recipe(), [1, 2, 9, 4, 5])
    assert torch.equal(before, torch.random.get_rng_state())
    same = [torch.equal(a[0].weight, b[0].weight) for a, b in zip(first, second, strict=True)]
    assert same == [True, True, False, True, True]


def test_normalisation_starts_as_torch_starts_it() -> None:
    network = build(BATCH_NORM, 5, SHAPE)
    network.train()(torch.randn(8, *SHAPE))
    network[0][1].weight.data.fill_(3)
    initialise(network, Recipe(), [1, 2, 3])
    norm = network[0][1]
    assert norm.weight.tolist() == [1] * 4
    assert norm.bias.tolist() == norm.running_mean.tolist() == [0] * 4
    assert (norm.running_var.tolist(), int(norm.num_batches_tracked)) == ([1] * 4, 0)


def test_seeds_of_layers_depend_on_each_part() -> None:
    seeds = {
        layer_seed(seed, role, task, layer)
        for seed in (0, 1)
        for role in ("base", "fresh", "random")
        for task in ("a", "b")
        for layer in (1, 2)
    }
    assert len(seeds) == 24


def test_the_recipes_dropout_replaces_the_networks() -> None:
    network = build(CONV8, 5, SHAPE)
    dropout = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    assert [module.p for module in dropout] == [0, 0]
    assert not is_random(network)
    set_dropout(network, 0.5)
    assert [module.p for module in dropout] == [0.5, 0.5]
    assert [is_random(network[:n]) for n in (5, 6)] == [False, True]
    set_dropout(network, 0)
    assert not is_random(network)
    own = NetworkRef(name="conv8", options=(("dropout", 0.25),))
    assert [m.p for m in build(own, 5, SHAPE).modules() if isinstance(m, nn.Dropout)] == [0.25] * 2


def test_dropout_for_a_network_without() -> None:
    network = build(BATCH_NORM, 5, SHAPE)
    set_dropout(network, 0)
    with pytest.raises(
        NetworkError, match=r"^recipe.dropout is 0.5, and the network has no dropout"
    ):
        set_dropout(network, 0.5)


def test_unknown_modules_and_dropout_count_as_random() -> None:
    class Noise(nn.ReLU):
        """Module of a user, about which nothing is known."""

    assert not is_random(build(BATCH_NORM, 5, SHAPE))
    assert is_random(Network.of([nn.Sequential(nn.Linear(2, 2), Noise())]))
    assert is_random(Network.of([nn.Sequential(nn.Linear(2, 2), nn.Dropout2d(0.1))]))


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        ({"conv": []}, "conv", "expected at least one width"),
        ({"conv": [8, 0]}, "conv", "expected widths, each x ≥ 1"),
        ({"fc": [-1]}, "fc", "expected widths, each x ≥ 1"),
        ({"pool": [6]}, "pool", "expected numbers of convolutions, 1..5"),
        ({"pool": [1, 2, 3, 4]}, "pool", "pooling leaves nothing of images 12×12"),
        ({"dropout": 1.0}, "dropout", "expected 0 ≤ x < 1"),
        (
            {"width": 3},
            "width",
            "unknown key 'width'; known: conv, pool, fc, kernel, dropout",
        ),
        (
            {"classes": 3},
            "classes",
            "unknown key 'classes'; known: conv, pool, fc, kernel, dropout",
        ),
        ({"convs": [3]}, "convs", "unknown key 'convs'; did you mean 'conv'?"),
        ({"conv": 3}, "conv", "expected a list of whole numbers, found 3"),
        ({"conv": [8.0]}, "conv", "expected a list of whole numbers, found (8.0,)"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        describe(NetworkRef(name="conv8", options=freeze_options(options)), 5, SHAPE)
    assert (error.value.field, str(error.value)) == (field, message)


class Stateless(nn.Module):
    """Module with weights and no function that sets them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))


def flat(*sizes: int) -> Any:
    """Return a builder of linear layers from pairs of sizes; a first size of 0 means a ReLU."""

    def build(**_: Any) -> list[nn.Module]:
        layers = [
            nn.Linear(sizes[i], sizes[i + 1]) if sizes[i] else nn.ReLU()
            for i in range(0, len(sizes), 2)
        ]
        return [nn.Sequential(nn.Flatten(), layers[0]), *layers[1:]]

    return build


def raising(**_: Any) -> list[nn.Module]:
    raise ValueError("no such depth")


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (lambda **_: nn.Linear(3, 3), "expected a list of torch modules, one per layer"),
        (lambda **_: [3], "expected a list of torch modules, one per layer"),
        (lambda **_: [], "the list of layers is empty"),
        (raising, "cannot be built: no such depth"),
        (
            flat(144, 9, 0, 0, 9, 5),
            r"layers [2] have no weights; put them",
        ),
        (flat(143, 5), "does not take images (1, 12, 12): "),
        (flat(144, 9, 8, 5), "does not take images (1, 12, 12): "),
        (
            flat(144, 9, 9, 4),
            "the last layer gives (4,) per image; expected one score for each of 5 classes, (5,)",
        ),
        (lambda **_: [nn.Conv2d(1, 5, 3)], "the last layer gives (5, 10, 10) per image; expected"),
    ],
)
def test_layers_that_do_not_fit(
    builder: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(networks.NETWORKS, "mine", builder)
    with pytest.raises(NetworkError) as error:
        describe(NetworkRef(name="mine"), 5, SHAPE)
    assert message in str(error.value)
    assert str(error.value).startswith("network mine")


def test_weights_that_cannot_be_initialised() -> None:
    network = Network.of([nn.Linear(3, 3), nn.Sequential(Stateless())])
    with pytest.raises(
        NetworkError, match=r"^layer 2: Stateless has weights and no reset_parameters"
    ):
        initialise(network, Recipe(), [1, 2])


def test_a_users_network_is_known_by_its_source() -> None:
    fingerprint = networks.fingerprint("tests.trainings:batch_norm")
    assert len(fingerprint) == 16
    assert networks.fingerprint("conv8") == ""
    ref = NetworkRef(
        name="tests.trainings:batch_norm", options=(("width", 3),), fingerprint=fingerprint
    )
    assert [type(layer) for layer in build(ref, 5, SHAPE)] == [
        type(layer) for layer in batch_norm(classes=5, shape=SHAPE)
    ]
    assert build(ref, 5, SHAPE)[0][0].out_channels == 3
    changed = NetworkRef(name="tests.trainings:batch_norm", fingerprint="feed")
    with pytest.raises(NetworkError, match=r"the code has changed .* then feed\); restore it"):
        build(changed, 5, SHAPE)


def test_the_paper_has_eight_layers() -> None:
    assert len(conv8(classes=10, shape=(3, 32, 32))) == 8


def test_a_head_may_have_more_outputs_where_an_option_says_so() -> None:
    def ref(**options: int) -> NetworkRef:
        return NetworkRef(name="wide", options=freeze_options(options))

    def wide(*, classes: int, shape: Any, outputs: int | None = None) -> list[nn.Module]:
        pixels = math.prod(shape)
        return [nn.Sequential(nn.Flatten(), nn.Linear(pixels, 2)), nn.Linear(2, outputs or classes)]

    networks.NETWORKS["wide"] = wide
    try:
        assert describe(ref(), 5, SHAPE).shapes[-1] == (5,)
        assert describe(ref(outputs=9), 5, SHAPE).shapes[-1] == (9,)
        with pytest.raises(
            NetworkError, match=r"the last layer gives \(4,\) per image; expected one"
        ):
            describe(ref(outputs=4), 5, SHAPE)
    finally:
        del networks.NETWORKS["wide"]
