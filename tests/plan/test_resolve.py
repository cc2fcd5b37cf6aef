"""Checks of a sweep against the dataset and the network that it names."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.cluster import shipment_of
from orchestrator.plan.plan import Plan
from tests.sweep_files import assert_mistake, mistakes, valid_but

pytestmark = pytest.mark.usefixtures("folder")

EXACT = {
    "dataset: digit": "2: dataset: unknown dataset 'digit'; did you mean 'digits'?",
    "network: conv9": "3: network: unknown network 'conv9'; did you mean 'conv8'?",
    "layers: [0]": "6: layers[0]: layer 0 is out of range: the network has layers 1..8",
    "recipe: {crop: 13, steps: 4}": ("7: recipe.crop: expected at most 12: the images are 12×12"),
    "fine_tune: {recipe: {crop: 8}}": (
        "8: fine_tune.recipe.crop: the network's weights depend on the image size, and "
        "this key gives another size: use one size for the whole sweep"
    ),
}
CASES = [
    # datasets
    ("dataset: {name: digits, canvass: 12}", "2: dataset.canvass", "did you mean 'canvas'?"),
    ("dataset: {name: digits, canvas: big}", "2: dataset.canvas", "a whole number, found 'big'"),
    ("dataset: {name: digits, canvas: 4}", "2: dataset.canvas", "8 ≤ x ≤ 256"),
    ("dataset: {name: digits, train: 100}", "2: dataset.train", "expected at most 174"),
    ("dataset: {name: digits, root: /data}", "2: dataset.root", "reads no files"),
    (
        "dataset: {name: image_folder, root: $NOT_SET/pets}",
        "2: dataset",
        "the environment variable NOT_SET is not set here",
    ),
    (
        "dataset: {name: imagenet, download: true}",
        "2: dataset.download",
        "mnist, fashion_mnist, cifar10, cifar100",
    ),
    ("dataset: {name: image_folder, root: /nowhere}", "2: dataset", "no folder train in /nowhere"),
    ("dataset: {name: imagenet, size: 0}", "2: dataset.size", "1 ≤ x ≤ 4096"),
    ("dataset: {name: cifar100, held_out: 500}", "2: dataset.held_out", "0 ≤ x < 500"),
    # networks
    ("network: torchvision:resnet8", "3: network", "did you mean 'torchvision:resnet18'?"),
    ("network: {name: torchvision:alexnet, drop: 1}", "3: network.drop", "'dropout'?"),
    ("network: {name: conv8, pools: [1]}", "3: network.pools", "did you mean 'pool'?"),
    ("network: {name: conv8, conv: 8}", "3: network.conv", "a list of whole numbers, found 8"),
    ("network: {name: conv8, conv: [0]}", "3: network.conv", "x ≥ 1"),
    ("network: {name: conv8, pool: [1, 2, 3, 4, 5]}", "3: network.pool", "images 12×12"),
    # layers, crops
    ("layers: [1, 9]", "6: layers[1]", "layer 9 is out of range"),
    ("fine_tune: {recipe: {crop: 13}}", "8: fine_tune.recipe.crop", "expected at most 12"),
]


@pytest.mark.parametrize("lines", EXACT)
def test_a_mistake_is_one_line(lines: str) -> None:
    assert mistakes(valid_but(lines)) == [f"bad.yaml:{EXACT[lines]}"]


@pytest.mark.parametrize(("lines", "place", "reason"), CASES)
def test_a_mistake_names_line_and_key(lines: str, place: str, reason: str) -> None:
    assert_mistake(mistakes(valid_but(lines)), f"bad.yaml:{place}", reason)


def test_a_network_of_torchvision_is_not_own_code(plan_of: Callable[..., Plan]) -> None:
    """torchvision's code is not sent to workers, and its options are torchvision's."""
    options = "patch_size: 4, num_layers: 1, num_heads: 1, hidden_dim: 8, mlp_dim: 8"
    planned = plan_of(valid_but(f'network: {{name: "torchvision:vit_b_16", {options}}}'))
    assert shipment_of(planned.sweep) is None
    assert next(iter(planned.networks.values())).depth == 3
    assert planned.members[0].training.network.fingerprint == ""
