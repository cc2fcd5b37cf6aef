"""Copying, freezing, and the proof that frozen layers did not change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.trainers.runs import CACHE, NO_CACHE, SHAPE, base_of, first_layers, learner, same, state
from tests.trainings import BATCH_NORM, SMALL, result, training
from trainers import checkpoint
from trainers.canonical import freeze_options
from trainers.checkpoint import CheckpointError
from trainers.config import NetworkRef, Training
from trainers.frozen_features import KEPT
from trainers.networks import Network, NetworkError, build
from trainers.transfer import copy_layers, fingerprint, freeze, starting_network, training_mode

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
