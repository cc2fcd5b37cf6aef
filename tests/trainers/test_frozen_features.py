"""Outputs of frozen layers that several trainings share."""

from __future__ import annotations

import pytest
import torch

from tests.trainings import SMALL, training
from trainers import frozen_features
from trainers.frozen_features import Kept, prefixes
from trainers.networks import Network
from trainers.task_data import TaskData, Whole, task_data
from trainers.transfer import starting_network

MIB = 2**20


@pytest.fixture
def data() -> TaskData:
    return task_data(training(), torch.device("cpu"))


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the layers of each pass over the images."""
    passes: list[list[str]] = []
    outputs = frozen_features._outputs

    def noting(layers: Network, *arguments: object) -> TaskData | None:
        passes.append([name for name, _ in layers.named_children()])
        return outputs(layers, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(frozen_features, "_outputs", noting)
    return passes


def values(data: TaskData | None) -> list[torch.Tensor]:
    assert data is not None
    return [part.images for part in data.parts if isinstance(part, Whole)]


def test_outputs_of_more_layers_start_from_those_of_fewer(
    data: TaskData, passed: list[list[str]]
) -> None:
    c, h, w = data.view.seen
    network = starting_network(training(), (c, h, w), torch.float32, None)
    hashes = prefixes(network, SMALL, 3)
    kept = Kept()
    two = kept.outputs(data, network, hashes[:2], "float32", MIB)
    three = kept.outputs(data, network, hashes, "float32", MIB)
    again = kept.outputs(data, network, hashes[:2], "float32", MIB)
    assert passed == [["layer1", "layer2"], ["layer3"]]
    assert again is two
    direct = Kept().outputs(data, network, hashes, "float32", MIB)
    for one, other in zip(values(three), values(direct), strict=True):
        assert torch.equal(one, other)


def test_other_weights_images_or_precision_are_computed_anew(
    data: TaskData, passed: list[list[str]]
) -> None:
    c, h, w = data.view.seen
    kept = Kept()
    for seed in (0, 1):
        network = starting_network(training(seed=seed), (c, h, w), torch.float32, None)
        kept.outputs(data, network, prefixes(network, SMALL, 1), "float32", MIB)
    hashes = prefixes(network, SMALL, 1)
    kept.outputs(data, network, hashes, "bfloat16", MIB)
    kept.outputs(
        task_data(training(target="A"), torch.device("cpu")), network, hashes, "float32", MIB
    )
    assert passed == [["layer1"]] * 4


def test_outputs_that_are_too_large_are_not_kept(data: TaskData) -> None:
    c, h, w = data.view.seen
    network = starting_network(training(), (c, h, w), torch.float32, None)
    hashes = prefixes(network, SMALL, 2)
    size = sum(part.nbytes for part in values(Kept().outputs(data, network, hashes, "x", MIB)))
    assert Kept().outputs(data, network, hashes, "x", size - 1) is None
    kept = Kept()
    one = kept.outputs(data, network, hashes, "x", size)
    assert kept.outputs(data, network, hashes, "x", size) is one
    assert kept.outputs(data, network, hashes, "x", size - 1) is None
    kept.outputs(data, network, hashes, "y", size)  # drops the first
    assert kept.outputs(data, network, hashes, "x", size) is not one
