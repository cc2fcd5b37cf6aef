"""The examples of real digits, without their data: files, names, and the documented plans."""

from __future__ import annotations

import gzip
import importlib
import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.sweep.load import load_sweep
from trainers.config import NetworkRef
from trainers.networks import Network, build
from trainers.weights import WeightsError

EXAMPLES = Path(__file__).parents[1] / "examples"
IMAGENET = EXAMPLES / "imagenet_and_digits"


def write_idx(path: Path, values: np.ndarray) -> None:
    sizes = np.array(values.shape, ">i4").tobytes()
    content = bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()
    path.write_bytes(gzip.compress(content))


def write_digits(folder: Path) -> None:
    """Write 1,400 training and 50 test images of noise in MNIST's four files."""
    random = np.random.default_rng(0)
    for name, count in (("train", 1400), ("t10k", 50)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", labels)


def plan_of(path: Path) -> Plan:
    return make_plan(resolve(*load_sweep(str(path))))


@pytest.fixture
def rename(folder: Path) -> ModuleType:  # noqa: ARG001
    """The script of the ImageNet example."""
    sys.path.insert(0, str(IMAGENET))
    return importlib.import_module("rename")


def published(network: Network) -> dict[str, torch.Tensor]:
    """Return the tensors of a network under the names of the published file."""
    outer = {
        "layer1.conv": "_conv_stem",
        "layer1.norm": "_bn0",
        "layer7.conv": "_conv_head",
        "layer7.norm": "_bn1",
        "layer8": "_fc",
    }
    inner = {
        "expand": "_expand_conv",
        "expand_norm": "_bn0",
        "depthwise": "_depthwise_conv",
        "depthwise_norm": "_bn1",
        "project": "_project_conv",
        "project_norm": "_bn2",
    }
    tensors = {}
    for name, tensor in network.state_dict().items():
        part, _, kind = name.rpartition(".")
        if match := re.fullmatch(r"layer\d\.block(\d+)\.(\w+)", part):
            tensors[f"_blocks.{match[1]}.{inner[match[2]]}.{kind}"] = tensor
        else:
            tensors[f"{outer[part]}.{kind}"] = tensor
    return tensors


@pytest.mark.usefixtures("folder", "fresh_data")
def test_mnist_and_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDX_FILES", str(tmp_path))
    write_digits(tmp_path)
    plan = plan_of(EXAMPLES / "mnist_and_digits/mnist_and_digits.yaml")
    assert len(plan.trials) == 660
    (mnist,) = (info for info in plan.datasets.values() if info.shape == (1, 28, 28))
    assert (mnist.train, mnist.validation, mnist.test) == ((60,) * 10, (80,) * 10, (5,) * 10)
    divisions = {trial.division for trial in plan.members}
    assert divisions == {"mnist to digits", "digits to mnist", "source mnist", "source digits"}


@pytest.mark.usefixtures("fresh_data")
def test_imagenet_and_digits(
    folder: Path, rename: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of the published names and shapes go through the script into the plan."""
    monkeypatch.setenv("IDX_FILES", str(folder))
    monkeypatch.setenv("WEIGHTS", "lite0.safetensors")
    write_digits(folder)
    torch.save(published(rename.whole()), "lite0.pth")
    rename.main("lite0.pth", "lite0.safetensors")
    plan = plan_of(IMAGENET / "imagenet_and_digits.yaml")
    assert len(plan.trials) == 100
    (mnist,) = (info for info in plan.datasets.values() if info.shape == (1, 28, 28))
    assert (mnist.train, mnist.validation, mnist.test) == ((130,) * 10, (10,) * 10, (5,) * 10)
    divisions = {trial.division for trial in plan.members}
    assert divisions == {"weights imagenet to mnist", "weights imagenet to digits"}
    features = plan_of(IMAGENET / "features.yaml")
    kinds = Counter((x.treatment_name, x.images_per_class) for x in features.members)
    assert kinds["transfer", 10] == kinds["transfer+", 10] == 2 * 3


def test_names_of_the_published_weights(rename: ModuleType) -> None:
    network = rename.whole()
    state = network.state_dict()
    tensors = published(network)
    assert len(tensors) == 296
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008
    ours = rename.renamed(tensors, "lite0.pth")
    assert ours.keys() == state.keys()
    assert all(ours[name].equal(state[name]) for name in state)
    bias = tensors["_blocks.3._bn1.bias"]
    assert ours["layer3.block3.depthwise_norm.bias"].equal(bias)
    tensors["_blocks.16._bn1.bias"] = tensors.pop("_blocks.3._bn1.bias")
    tensors["_conv_stem.weight"] = torch.zeros(32, 3, 5, 5)
    message = (
        "lite0.pth is not EfficientNet-Lite0: missing, unexpected or of another shape: "
        "_blocks.16._bn1.bias, layer1.conv.weight, layer3.block3.depthwise_norm.bias; "
        "give the file efficientnet-lite0-57934424.pth"
    )
    with pytest.raises(WeightsError, match=f"^{re.escape(message)}$"):
        rename.renamed(tensors, "lite0.pth")


@pytest.mark.usefixtures("rename")
def test_layers_of_lite0() -> None:
    network = build(NetworkRef(name="lite0:build"), 10, (3, 48, 48)).eval()
    shapes = []
    images = torch.zeros(2, 3, 48, 48)
    for layer in network:
        images = layer(images)
        shapes.append(tuple(images.shape[1:]))
    maps = [(32, 24, 24), (24, 12, 12), (40, 6, 6), (80, 3, 3), (112, 3, 3), (320, 2, 2)]
    assert shapes == [*maps, (1280,), (10,)]


@pytest.mark.usefixtures("rename")
@pytest.mark.parametrize(("size", "sides"), [(6, (0, 1)), (7, (1, 1))])
def test_padding_of_lite0(size: int, sides: tuple[int, int]) -> None:
    """TensorFlow pads an even size below and right only."""
    conv = importlib.import_module("lite0").Conv(1, 1, 3, stride=2)
    images = torch.rand(1, 1, size, size)
    padded = torch.nn.functional.pad(images, sides * 2)
    expected = torch.nn.functional.conv2d(padded, conv.weight, stride=2)
    assert conv(images).equal(expected)
