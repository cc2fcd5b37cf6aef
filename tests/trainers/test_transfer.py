"""Copying, freezing, and the proof that frozen layers did not change."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainings import BATCH_NORM, SMALL, result, training
from trainers import checkpoint, networks
from trainers.canonical import freeze_options
from trainers.checkpoint import CheckpointError
from trainers.config import Adaptation, NetworkRef, Training
from trainers.frozen_features import KEPT
from trainers.learner import Learner
from trainers.networks import Network, NetworkError, build, tensors_of
from trainers.task_data import task_data
from trainers.transfer import (
    copy_layers,
    fingerprint,
    freeze,
    starting_network,
    training_mode,
)

SHAPE = (1, 12, 12)
CACHE, NO_CACHE = 2**28, 0


def base_of(one: Training) -> bytes:
    """Return the checkpoint of a base with random weights and batch statistics."""
    torch.manual_seed(5)
    network = build(one.network, 5, SHAPE)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(
                torch.rand_like(tensor) + 0.5 if "var" in name else torch.randn_like(tensor)
            )
    return checkpoint.pack(network.state_dict(), {})


def learner(one: Training, feature_bytes: int = CACHE) -> Learner:
    parent = base_of(one) if one.treatment.has_parent else None
    return Learner(one, task_data(one, torch.device("cpu")), parent, feature_bytes)


def state(network: Network, n: int) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network[:n].state_dict().items()}


def first_layers(network: Network, n: int) -> set[str]:
    return set(network[:n].state_dict())


def same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


# Copying ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ref", [SMALL, BATCH_NORM])
def test_the_first_layers_are_the_bases_and_no_others(ref: NetworkRef) -> None:
    one = training("transfer", 2, network=ref)
    base = checkpoint.unpack(base_of(one))[0]
    network = starting_network(one, SHAPE, torch.float32, base_of(one))
    for name, tensor in network.state_dict().items():
        copied = name.startswith(("layer1.", "layer2."))
        assert torch.equal(tensor, base[name]) == copied or "num_batches" in name, name


def test_random_filters_start_as_their_own_key_says() -> None:
    """The random filters are layers 1 and 2; fresh layers start as in every other treatment."""

    def start(**recipe: Any) -> dict[str, torch.Tensor]:
        one = training("random", 2, **recipe)
        return dict(starting_network(one, SHAPE, torch.float32, None).state_dict())

    he, own = start(), start(init="torch")
    mixed = start(init="torch", init_random="he")
    for name, tensor in mixed.items():
        below = name.startswith(("layer1.", "layer2."))
        assert torch.equal(tensor, (he if below else own)[name]), name
        assert not torch.equal(tensor, (own if below else he)[name]), name
    base = starting_network(training(init_random="torch"), SHAPE, torch.float32, None)
    assert same(
        base.state_dict(), starting_network(training(), SHAPE, torch.float32, None).state_dict()
    )


def test_misfits_are_all_listed() -> None:
    network = build(SMALL, 5, SHAPE)
    base = dict(build(SMALL, 5, SHAPE).state_dict())
    base["layer1.conv.weight"] = torch.zeros(4, 1, 5, 5)
    del base["layer2.conv.bias"]
    base["layer2.extra"] = torch.zeros(3)
    base["layer3.fc.weight"] = torch.zeros(1)  # above the copied layers: not compared
    before = state(network, 5)
    with pytest.raises(NetworkError) as error:
        copy_layers(network, base, 2)
    assert str(error.value) == (
        "layers 1..2 cannot be copied; "
        "layer1.conv.weight: base has (4, 1, 5, 5), target wants (4, 1, 3, 3); "
        "layer2.conv.bias: base has nothing, target wants (8,); "
        "layer2.extra: in the base only"
    )
    assert same(before, state(network, 5))


def test_layer_1_is_not_layer_10() -> None:
    ref = NetworkRef(
        name="conv8", options=freeze_options({"conv": [2] * 9, "pool": [1], "fc": [3]})
    )
    network, base = build(ref, 5, SHAPE), build(ref, 5, SHAPE).state_dict()
    base["layer10.extra"] = torch.zeros(1)
    copy_layers(network, base, 1)
    with pytest.raises(NetworkError, match=r"layers 1..10 cannot be copied; layer10.extra: in the"):
        copy_layers(network, base, 10)


def test_a_base_of_another_width_is_refused() -> None:
    other = NetworkRef(name="conv8", options=freeze_options({"conv": [3, 8], "pool": [1, 2]}))
    parent = base_of(training(network=other))
    with pytest.raises(NetworkError, match=r"layer1.conv.weight: base has \(3, 1, 3, 3\), target"):
        starting_network(training("transfer", 1), SHAPE, torch.float32, parent)


def test_copying_needs_a_base() -> None:
    with pytest.raises(CheckpointError, match=r"^a transfer needs its base's checkpoint$"):
        starting_network(training("transfer", 1), SHAPE, torch.float32, None)


# Freezing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(6))
def test_freezing_covers_every_parameter(n: int) -> None:
    network = build(SMALL, 5, SHAPE)
    learning = freeze(network, first_layers(network, n))
    frozen = [p for layer in network[:n] for p in layer.parameters()]
    assert not any(p.requires_grad for p in frozen)
    assert all(p.requires_grad for p in learning.values())
    assert list(learning) == [name for name, _ in network.named_parameters()][2 * n :]
    both = {*map(id, frozen), *map(id, learning.values())}
    assert both == set(map(id, network.parameters()))
    assert len(frozen) + len(learning) == 10
    freeze(network, ())
    assert all(p.requires_grad for p in network.parameters())


FROZEN = [
    (training("transfer", 2), CACHE),
    (training("transfer", 2), NO_CACHE),
    (training("selffer", 3, dropout=0.5), CACHE),
    (training("random", 4, optimiser="adamw", weight_decay=0.1), CACHE),
    (training("transfer", 2, optimiser="adam"), NO_CACHE),
    (training("transfer", 3, optimiser="caffe_sgd", weight_decay=0.1), NO_CACHE),
    (training("transfer", 1, network=BATCH_NORM), CACHE),
    (training("transfer", 2, network=BATCH_NORM), NO_CACHE),
    (training("transfer", 2, network=BATCH_NORM, precision="bfloat16"), CACHE),
]


@pytest.mark.parametrize(("one", "feature_bytes"), FROZEN)
def test_frozen_layers_take_no_gradient_no_decay_and_no_momentum(
    one: Training, feature_bytes: int
) -> None:
    it = learner(one, feature_bytes)
    n = one.treatment.n
    before, rest, proof = state(it.network, n), state(it.network, len(it.network)), it.frozen_hash()
    for step in range(4):
        it.step(step, 0.1)
    it.score("validation")
    it.step(4, 0.1)
    assert same(before, state(it.network, n))
    assert it.frozen_hash() == proof != ""
    above = [name for name in rest if name not in before]
    after = it.network.state_dict()
    assert all(not torch.equal(rest[name], after[name]) for name in above)
    frozen = {id(p) for p in it.network[:n].parameters()}
    given = {id(p) for group in it.optimiser.param_groups for p in group["params"]}
    assert not frozen & given
    assert not frozen & set(map(id, it.optimiser.state))
    assert all(p.grad is None for p in it.network[:n].parameters())
    assert all(p.grad is not None for p in it.network[n:].parameters())


@pytest.mark.parametrize("fine_tuned", [False, True])
def test_batch_statistics_are_frozen_with_their_layer_only(fine_tuned: bool) -> None:
    it = learner(training("transfer", 1, network=BATCH_NORM, fine_tuned=fine_tuned))
    first, second = it.network[0][1], it.network[1][1]
    before = first.running_mean.clone(), second.running_mean.clone()
    for step in range(3):
        it.step(step, 0.1)
    assert torch.equal(first.running_mean, before[0]) != fine_tuned
    assert int(first.num_batches_tracked) == (3 if fine_tuned else 0)
    assert not torch.equal(second.running_mean, before[1])
    assert int(second.num_batches_tracked) == 3


def test_modules_in_training_mode() -> None:
    """Dropout is on above and in frozen layers, normalisation above them only."""
    network = Network.of(
        [nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)) for _ in range(3)]
    )
    network.eval()
    training_mode(network, first_layers(network, 2))
    assert [[m.training for m in layer] for layer in network] == [
        [True, False, True],
        [True, False, True],
        [True, True, True],
    ]


def test_dropout_stays_on_above_frozen_layers_and_after_an_evaluation() -> None:
    it = learner(training("selffer", 3, dropout=0.5))
    drops = [m for m in it.network.modules() if isinstance(m, nn.Dropout)]
    seen: list[bool] = []
    for drop in drops:
        drop.register_forward_hook(
            lambda _module, inputs, output: seen.append(torch.equal(inputs[0], output))
        )
    it.step(0, 0.1)
    it.score("test")
    it.step(1, 0.1)
    assert seen == [False, False, True, True, False, False]  # equal is off: in the evaluation


@pytest.mark.parametrize(
    ("one", "feature_bytes", "calls"),
    [
        (training("transfer", 2), CACHE, 4),  # one image, then each of the three sets
        (training("transfer", 2), NO_CACHE, 1 + 3),
        (training("transfer", 4, dropout=0.5), CACHE, 3),  # random: at every step
    ],
)
def test_the_forward_pass_of_frozen_layers_builds_no_graph(
    one: Training, feature_bytes: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    KEPT.clear()  # other tests may have computed these features
    made: list[torch.Tensor] = []
    forward = nn.Conv2d.forward

    def watched(self: nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
        made.append(forward(self, images))
        return made[-1]

    monkeypatch.setattr(nn.Conv2d, "forward", watched)
    it = learner(one, feature_bytes)
    inputs: list[Any] = []
    it.learning_part[0].register_forward_pre_hook(lambda _module, given: inputs.append(given[0]))
    for step in range(3):
        it.step(step, 0.1)
    assert len(made) == 2 * calls  # two convolutions, both frozen
    assert [image.requires_grad for image in (*made, *inputs)] == [False] * (len(made) + 3)
    assert [image.grad_fn for image in (*made, *inputs)] == [None] * (len(made) + 3)


@pytest.mark.parametrize(
    "one",
    [
        training("transfer", 1),
        training("selffer", 4, optimiser="adam", rate=0.01),
        training("random", 2, network=BATCH_NORM),
        training("transfer", 3, precision="float64"),
    ],
)
def test_features_kept_are_features_computed_at_every_step(one: Training) -> None:
    """Both are equal up to rounding: a trial does not depend on the caching of features."""
    parent = base_of(one) if one.treatment.has_parent else None
    cached, computed = (result(one, parent, feature_bytes=size) for size in (CACHE, NO_CACHE))
    exact = 1e-12 if one.recipe.precision == "float64" else 1e-4
    for first, second in zip(cached.curve, computed.curve, strict=True):
        assert first.train_loss == pytest.approx(second.train_loss, rel=exact)
        assert first.val_loss == pytest.approx(second.val_loss, rel=exact)
    assert cached.frozen_hash_end == computed.frozen_hash_end


def test_features_are_kept_up_to_a_size() -> None:
    one = training("transfer", 2)
    images = 80 + 30 + 50
    needed = images * 8 * 3 * 3 * 4
    assert learner(one, needed).cached_layers == 2
    assert learner(one, needed - 1).cached_layers == 0
    assert learner(training(), CACHE).cached_layers == 0
    assert learner(training("transfer", 2, fine_tuned=True), CACHE).cached_layers == 0
    assert learner(training("transfer", 3, dropout=0.5), CACHE).cached_layers == 0
    assert learner(training("transfer", 2, dropout=0.5), CACHE).cached_layers == 2
    half = training("transfer", 2, precision="bfloat16")
    assert learner(half, needed // 2).cached_layers == 2


# Learning parts of frozen layers ----------------------------------------------------------------

STATISTICS = {"running_mean", "running_var", "num_batches_tracked"}


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_normalisation_is_frozen_as_the_recipe_says(statistics: bool, affine: bool) -> None:
    """In layer 1 of BATCH_NORM, module `0` is a convolution and module `1` normalises."""
    one = training(
        *("transfer", 1), network=BATCH_NORM, frozen_statistics=statistics, frozen_affine=affine
    )
    it = learner(one)
    norm = {"weight", "bias"} if not affine else set()
    norm |= STATISTICS if not statistics else set()
    learns = {f"layer1.1.{name}" for name in norm}
    everything = first_layers(it.network, 1)
    assert it.frozen == everything - learns
    before, proof = state(it.network, 3), it.frozen_hash()
    for step in range(3):
        it.step(step, 0.1)
    it.score("validation")
    it.step(3, 0.1)
    after = it.network.state_dict()
    assert {name for name in everything if not torch.equal(before[name], after[name])} == learns
    assert it.frozen_hash() == proof != ""
    if not statistics:
        assert int(after["layer1.1.num_batches_tracked"]) == 4
    given = {id(p) for group in it.optimiser.param_groups for p in group["params"]}
    parameters = dict(it.network.named_parameters())
    assert {name for name in parameters if id(parameters[name]) not in given} == {
        name for name in parameters if name in it.frozen
    }
    # Features are kept only if an image always gives the same ones.
    assert (it.cached_layers, it.wholly_frozen) == ((1, 1) if statistics and affine else (0, 0))


def test_layers_below_one_that_learns_in_part_are_passed_once() -> None:
    """Normalisation by groups has no statistics: with frozen weights it is frozen as a whole."""

    def grouped(**_: Any) -> list[nn.Module]:
        return [
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()),
            nn.Sequential(nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten()),
            nn.Linear(256, 5),
        ]

    networks.NETWORKS["grouped"] = grouped
    try:
        ref = NetworkRef(name="grouped")
        learners = {
            (statistics, affine): learner(
                training(
                    *("random", 2),
                    network=ref,
                    frozen_statistics=statistics,
                    frozen_affine=affine,
                )
            )
            for statistics in (True, False)
            for affine in (True, False)
        }
    finally:
        del networks.NETWORKS["grouped"]
    assert {key: it.cached_layers for key, it in learners.items()} == {
        (True, True): 2,
        (False, True): 2,
        (True, False): 1,
        (False, False): 1,
    }
    assert learners[True, False].frozen >= {"layer2.0.weight", "layer2.0.bias", "layer1.0.weight"}
    assert "layer2.1.weight" not in learners[True, False].frozen


# Declared differences ---------------------------------------------------------------------------

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


# Proof ------------------------------------------------------------------------------------------


def test_the_fingerprint_changes_with_one_bit_of_the_frozen_layers_only() -> None:
    network = build(BATCH_NORM, 5, SHAPE)
    frozen = first_layers(network, 2)
    before = fingerprint(network, frozen)
    assert (len(before), fingerprint(network, ())) == (64, "")
    network[2].weight.data.add_(1)
    assert fingerprint(network, frozen) == before
    for name, tensor in network[:2].state_dict().items():
        bits = tensor.view(-1).view(torch.uint8)
        bits[-1] ^= 1
        assert fingerprint(network, frozen) != before, name
        bits[-1] ^= 1
    assert fingerprint(network, frozen) == before


def test_the_fingerprint_is_of_values_and_not_of_how_they_lie() -> None:
    network = build(SMALL, 5, SHAPE)
    frozen = first_layers(network, 2)
    before = fingerprint(network, frozen)
    assert fingerprint(network.to(memory_format=torch.channels_last), frozen) == before
    assert fingerprint(network, first_layers(network, 1)) != before
    assert fingerprint(network.double(), frozen) != before


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
