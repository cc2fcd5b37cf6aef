"""A map between two trained parts: it alone learns, and the identity restores a network."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainings import BATCH_NORM, DIGITS, SMALL, TASKS, points, result, training
from trainers import checkpoint
from trainers.canonical import ConfigError, digest, freeze_options
from trainers.config import NetworkRef, Training
from trainers.first_weights import layer_seed
from trainers.learner import Learner
from trainers.loop import train
from trainers.networks import Network, NetworkError
from trainers.results import Result, Snapshot
from trainers.stitching import joined, misfit, stitch
from trainers.task_data import task_data
from trainers.transfer import starting_network, upper_base

SHAPE = (1, 12, 12)
CPU = torch.device("cpu")
DROPOUT = NetworkRef(
    name="conv8",
    options=freeze_options({"conv": [4, 8], "pool": [1, 2], "fc": [12, 8], "dropout": 0.5}),
)


@pytest.fixture(scope="module")
def bases() -> dict[str, Result]:
    recipe: dict[str, Any] = {
        "optimiser": "adam",
        "rate": 0.01,
        "steps": 200,
        "evaluate_every": 200,
    }
    return {half: result(training(target=half, **recipe)) for half in "AB"}


def parents(one: Training, bases: dict[str, Result]) -> tuple[bytes, bytes]:
    """The checkpoints that a stitched training of half B is made from."""
    lower = bases["A" if one.treatment.kind == "stitched" else "B"]
    return lower.checkpoint, bases["B"].checkpoint


def start(one: Training, bases: dict[str, Result]) -> Network:
    return starting_network(one, SHAPE, torch.float32, *parents(one, bases))


# The map ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "shape"), [(1, (4, 4, 1, 1)), (2, (72, 72)), (3, (12, 12)), (4, (8, 8))]
)
def test_layers_keep_their_numbers_and_the_map_has_none(
    n: int, shape: tuple[int, ...], bases: dict[str, Result]
) -> None:
    """Outputs of layer 1 are spatial, those of layers 2 to 4 flat."""
    network = start(training("stitched", n), bases)
    names = [name for name, _ in network.named_children()]
    assert names == [*(f"layer{i}" for i in range(1, n + 1)), "stitch"] + [
        f"layer{i}" for i in range(n + 1, 6)
    ]
    state = network.state_dict()
    lower, upper = (checkpoint.unpack(bases[half].checkpoint)[0] for half in "AB")
    assert tuple(state.pop("stitch.weight").shape) == shape
    assert tuple(state.pop("stitch.bias").shape) == shape[:1]
    assert state.keys() == upper.keys()
    for name, tensor in state.items():
        origin = lower if int(name[5]) <= n else upper
        assert torch.equal(tensor, origin[name]), name


def test_first_weights_are_those_of_a_last_layer_and_equal_in_both_treatments(
    bases: dict[str, Result],
) -> None:
    """Normal with variance 1 / fan-in, as no ReLU follows."""
    one = training("stitched", 3)
    torch.manual_seed(layer_seed(0, "stitch", digest(one.target), 3))
    expected = nn.Linear(12, 12)
    nn.init.normal_(expected.weight, std=12**-0.5)
    for other in (one, training("stitched_self", 3)):
        state = start(other, bases).state_dict()
        assert torch.equal(state["stitch.weight"], expected.weight)
        assert not state["stitch.bias"].any()
    again = dataclasses.replace(one, seed=1)
    assert not torch.equal(start(again, bases).state_dict()["stitch.weight"], expected.weight)


def test_the_identity_restores_the_base(bases: dict[str, Result]) -> None:
    base = starting_network(training(), SHAPE, torch.float32, None).eval()
    base.load_state_dict(checkpoint.unpack(bases["B"].checkpoint)[0])
    images = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))
    for n in range(1, 5):
        network = start(training("stitched_self", n), bases).eval()
        weight = network.state_dict()["stitch.weight"]
        weight.copy_(torch.eye(len(weight)).reshape(weight.shape))
        assert torch.allclose(network(images), base(images), atol=1e-5), n


def test_tokens_have_a_linear_map_of_each_token() -> None:
    class Tokens(nn.Flatten):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(2).transpose(1, 2)

    narrow, wide = (Network.of([Tokens(), nn.Linear(width, 2)]) for width in (3, 5))
    below = Network.of([nn.Sequential(nn.Conv2d(1, 3, 1), Tokens()), narrow[1]])
    above = Network.of([nn.Sequential(nn.Conv2d(1, 5, 1), Tokens()), wide[1]])
    between = stitch(below, above, 1, SHAPE)
    assert isinstance(between, nn.Linear)
    assert (between.in_features, between.out_features) == (3, 5)
    outputs = joined(below[:1], between, above[1:])(torch.zeros(2, *SHAPE))
    assert outputs.shape == (2, 144, 2)


@pytest.mark.parametrize(
    ("given", "wanted", "fits"),
    [
        ((3, 4, 5), (7, 4, 5), True),
        ((3, 4, 5), (3, 4, 6), False),
        ((3, 4, 5), (60,), False),
        ((9, 4), (9, 8), True),
        ((8, 4), (9, 4), False),
        ((3,), (8,), True),
        ((1, 2, 3, 4), (1, 2, 3, 4), False),
    ],
)
def test_only_channels_may_differ(
    given: tuple[int, ...], wanted: tuple[int, ...], fits: bool
) -> None:
    assert (misfit(given, wanted, 2) == "") == fits


# From least squares -----------------------------------------------------------------------------


def outputs(network: nn.Module, images: torch.Tensor) -> np.ndarray:
    """The outputs of a part as rows: one for each image and place."""
    with torch.no_grad():
        values = network.eval()(images.clone())
    values = values.movedim(1, -1) if values.ndim == 4 else values
    return values.reshape(-1, values.shape[-1]).double().numpy()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_least_squares_are_numpys(n: int, bases: dict[str, Result]) -> None:
    one = training("stitched", n, stitch="least_squares")
    data, (lower, upper) = task_data(one, CPU), parents(one, bases)
    learner = Learner(one, data, lower, 0, upper=upper)
    images = torch.cat(list(data.train.chunks()))  # type: ignore[union-attr]
    base = upper_base(one, SHAPE, torch.float32, upper)
    given, wanted = (outputs(part[:n], images) for part in (learner.network, base))
    design = np.hstack([given, np.ones((len(given), 1))])
    expected = np.linalg.lstsq(design, wanted, rcond=None)[0]
    fitted = outputs(learner.network[: n + 1], images)
    assert np.allclose(fitted, design @ expected, atol=1e-4)
    assert np.abs(fitted - wanted).mean() > 1e-3


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_least_squares_of_a_base_with_itself_are_the_base(n: int, bases: dict[str, Result]) -> None:
    one = training("stitched_self", n, stitch="least_squares")
    data, (lower, upper) = task_data(one, CPU), parents(one, bases)
    learner = Learner(one, data, lower, 2**28, upper=upper)
    assert learner.cached_layers == n
    assert learner.score("train").correct == bases["B"].training.correct
    assert learner.score("train").loss == pytest.approx(bases["B"].training.loss, rel=1e-4)
    fitted = learner.network.get_parameter("stitch.weight")
    assert (fitted.flatten(1).norm(2) <= 1.001 * len(fitted) ** 0.5).all()


def test_the_fit_is_started_once_and_resumed_bit_for_bit(bases: dict[str, Result]) -> None:
    one = training("stitched", 2, stitch="least_squares")
    pair = parents(one, bases)
    steps = iter(range(1, 99))
    stopped = list(train(one, parent=pair[0], upper=pair[1], stop=lambda: next(steps) == 7))[-1]
    assert isinstance(stopped, Snapshot)
    last = list(train(one, parent=pair[0], upper=pair[1], resume=stopped.data))[-1]
    assert isinstance(last, Result)
    assert last.checkpoint == result(one, *pair).checkpoint


# Its training -----------------------------------------------------------------------------------


def easy(kind: str, n: int = 0) -> Training:
    """A training on digits as they are, which 150 steps learn."""
    options = {"canvas": 8, "noise": 0.0, "train": 60, "renderings": 1, "validation": 9, "test": 40}
    network = {"conv": [8, 8], "pool": [1, 2], "fc": [32]}
    one = training(
        *(kind, n),
        network=NetworkRef(name="conv8", options=freeze_options(network)),
        optimiser="adam",
        rate=0.03 if n else 0.01,
        steps=150,
        evaluate_every=150,
        batch=32,
    )
    dataset = dataclasses.replace(DIGITS, options=freeze_options(options))
    return dataclasses.replace(one, target=dataclasses.replace(TASKS["B"], dataset=dataset))


def test_a_base_that_is_stitched_to_itself_comes_back() -> None:
    base = result(easy("base"))
    assert base.test is not None
    assert base.test.top1 > 0.9
    for n, less in ((2, 0.08), (3, 0.03)):  # the map of layer 2 has 5,256 numbers, for 300 images
        last = result(easy("stitched_self", n), base.checkpoint, base.checkpoint)
        assert last.test is not None
        assert last.test.top1 >= base.test.top1 - less, n
        assert last.training.top1 >= 0.99, n


@pytest.mark.parametrize("kind", ["stitched", "stitched_self"])
@pytest.mark.parametrize("network", [SMALL, BATCH_NORM])
def test_both_parts_stay_bit_for_bit_and_are_proven(kind: str, network: NetworkRef) -> None:
    """So do the statistics of normalisation, whatever the recipe says of frozen ones."""
    recipe: dict[str, Any] = {"steps": 6, "network": network, "frozen_statistics": False}
    one = training(kind, 1, **recipe)
    half = "A" if kind == "stitched" else "B"
    lower, upper = (result(training(target=x, **recipe)).checkpoint for x in (half, "B"))
    last = result(one, lower, upper)
    assert last.frozen_hash_start == last.frozen_hash_end != ""
    state = checkpoint.unpack(last.checkpoint)[0]
    origins = [checkpoint.unpack(x)[0] for x in (lower, upper)]
    first = starting_network(one, SHAPE, torch.float32, lower, upper).state_dict()
    for name, tensor in state.items():
        if name.startswith("stitch."):
            assert not torch.equal(tensor, first[name]), name
        else:
            assert torch.equal(tensor, origins[name >= "layer2"][name]), name


def test_dropout_is_off_and_only_the_map_learns() -> None:
    one = training("stitched_self", 2, network=DROPOUT)
    base = result(training(network=DROPOUT, steps=2)).checkpoint
    learner = Learner(one, task_data(one, CPU), base, 0, upper=base)
    assert not any(module.training for module in learner.network.modules())
    groups = learner.optimiser.param_groups
    learning = [parameter for group in groups for parameter in group["params"]]
    assert learning == list(learner.network.stitch.parameters())
    learner.step(0, 0.01)
    learner.score("validation")
    assert not any(module.training for module in learner.network.modules())


def test_a_resumed_stitch_is_bit_identical(bases: dict[str, Result]) -> None:
    one = training("stitched", 2)
    lower, upper = parents(one, bases)
    whole = result(one, lower, upper)
    steps = iter(range(1, 99))
    rows = list(train(one, parent=lower, upper=upper, stop=lambda: next(steps) == 7))
    assert isinstance(rows[-1], Snapshot)
    resumed = list(train(one, parent=lower, upper=upper, resume=rows[-1].data))[-1]
    assert isinstance(resumed, Result)
    assert (resumed.checkpoint, resumed.test) == (whole.checkpoint, whole.test)
    assert points(resumed.curve) == points(whole.curve)
    cached = result(one, lower, upper, feature_bytes=0)
    assert cached.test == whole.test


def test_a_narrower_network_is_stitched_by_its_channels(bases: dict[str, Result]) -> None:
    narrow = NetworkRef(
        name="conv8", options=freeze_options({"conv": [3, 8], "pool": [1, 2], "fc": [12, 8]})
    )
    one = dataclasses.replace(training("stitched", 1), source_network=narrow)
    lower = result(training(target="A", network=narrow, steps=2)).checkpoint
    last = result(one, lower, bases["B"].checkpoint)
    shapes = {k: tuple(t.shape) for k, t in checkpoint.unpack(last.checkpoint)[0].items()}
    assert shapes["layer1.conv.weight"] == (3, 1, 3, 3)
    assert shapes["stitch.weight"] == (4, 3, 1, 1)
    assert shapes["layer2.conv.weight"] == (8, 4, 3, 3)
    unlike = dataclasses.replace(one, treatment=dataclasses.replace(one.treatment, n=2))
    other = NetworkRef(name="conv8", options=freeze_options({"conv": [4, 8, 8], "fc": [12]}))
    message = r"layer 2 gives \(8, 6, 6\) per image in the source's network and \(72,\) in the"
    with pytest.raises(NetworkError, match=message):
        result(dataclasses.replace(unlike, source_network=other), lower, lower)


# Its id -----------------------------------------------------------------------------------------


def test_the_upper_base_is_part_of_the_id() -> None:
    one, base = training("stitched_self", 2), training()
    assert one.parents == (base.id,)
    across = training("stitched", 2)
    assert across.parents == (training(target="A").id, base.id)
    assert dataclasses.replace(across, upper="0123456789abcdef").id != across.id
    assert training("transfer", 2).parents == (training(target="A").id,)
    with pytest.raises(ConfigError, match="a selffer has upper layers of its own"):
        dataclasses.replace(training("selffer", 2), upper=base.id)
