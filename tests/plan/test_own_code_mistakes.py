"""Datasets and networks of the user: a mistake in their code is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweep_files import assert_mistake, mistakes, valid_but

pytestmark = pytest.mark.usefixtures("new_process")


OWN_CODE = """\
import numpy as np
from torch import nn

value = 3
arrays = lambda size, labels: (np.zeros((len(labels), size, size)), labels)


def no_mapping():
    return 7


def no_images():
    raise RuntimeError("no such disk")


def text_labels():
    return dict.fromkeys(("train", "validation", "test"), (np.zeros((2, 8, 8)), ["a", "b"]))


def too_few_labels():
    return dict.fromkeys(("train", "validation", "test"), (np.zeros((4, 8, 8)), [0, 1]))


def one_class():
    sets = ("train", "validation", "test")
    return {name: (np.full((2, 8, 8), i), [0, 0]) for i, name in enumerate(sets)}


def untested_class():
    both = arrays(8, [0, 1, 2, 3])
    return {"train": both, "validation": both, "test": arrays(8, [0, 0, 0, 0])}


def seven(*, classes, shape):
    return 7


def weightless(*, classes, shape):
    return [nn.Sequential(nn.Flatten(), nn.Linear(144, 9)), nn.ReLU(), nn.Linear(9, classes)]


def misfit(*, classes, shape):
    return [nn.Sequential(nn.Flatten(), nn.Linear(144, 5)), nn.Linear(6, classes)]


def raising(*, classes, shape):
    raise KeyError("depth")


def one_layer(*, classes, shape):
    return [nn.Sequential(nn.Flatten(), nn.Linear(144, classes))]


def normalised(*, classes, shape):
    return [
        nn.Sequential(nn.Flatten(), nn.Linear(144, 4), nn.BatchNorm1d(4)), nn.Linear(4, classes)
    ]


def mixing(*, classes, shape):
    norm = nn.BatchNorm1d(4, track_running_stats=False)
    return [nn.Sequential(nn.Flatten(), nn.Linear(144, 4), norm), nn.Linear(4, classes)]


class Centred(nn.Linear):
    def forward(self, x):
        return super().forward(x - x.mean(0))


def centring(*, classes, shape):
    return [nn.Sequential(nn.Flatten(), Centred(144, 4)), nn.Linear(4, classes)]


class Mean(nn.Linear):
    mean = 0.0

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + float(x.mean())
        return super().forward(x - self.mean)


def forgetful(*, classes, shape):
    return [nn.Sequential(nn.Flatten(), Mean(144, 4)), nn.Linear(4, classes)]


def tied(*, classes, shape):
    inner = nn.Linear(144, 144)
    return [nn.Sequential(nn.Flatten(), inner), inner, nn.Linear(144, classes)]


def lazy(*, classes, shape):
    return [nn.Sequential(nn.Flatten(), nn.LazyLinear(9)), nn.Linear(9, classes)]


def three_outputs(*, classes, shape):
    return [nn.Sequential(nn.Flatten(), nn.Linear(144, 5)), nn.Linear(5, 3)]


def wide(*, classes, shape, width: int = 3):
    return [nn.Sequential(nn.Flatten(), nn.Linear(144, width)), nn.Linear(width, classes)]
"""


# The dataset or the network `mistaken:<function>`, unless another module is named.
EXACT = {
    "dataset: unparsable:fn": (
        "2: dataset: unparsable:fn raised SyntaxError: invalid syntax (unparsable.py, line 1)"
    ),
    "dataset: dividing:fn": (
        "2: dataset: dividing:fn raised ZeroDivisionError: division by zero "
        "({folder}/dividing.py:2)"
    ),
    "dataset: mistaken:no_images": (
        "2: dataset: mistaken:no_images raised RuntimeError: no such disk ({folder}/mistaken.py:13)"
    ),
    "network: mistaken:raising": (
        "3: network: mistaken:raising raised KeyError: 'depth' ({folder}/mistaken.py:47)"
    ),
    "dataset: mistaken:one_class": "2: dataset: expected at least two classes",
    "network: mistaken:one_layer": (
        "3: network: network mistaken:one_layer: expected at least two layers, found 1"
    ),
}
CASES = [
    ("dataset: no.such:fn", "2: dataset", "cannot import 'no.such': No module named 'no'"),
    ("dataset: mistaken:nothing", "2: dataset", "'mistaken' has no function 'nothing'"),
    ("dataset: mistaken:value", "2: dataset", "'mistaken' has no function 'value'"),
    ("dataset: mistaken:no_mapping", "2: dataset", "expected a mapping with 'train'"),
    (
        "dataset: mistaken:text_labels",
        "2: dataset",
        "dataset mistaken:text_labels, train: expected labels",
    ),
    ("dataset: mistaken:too_few_labels", "2: dataset", "train: 4 images and 2 labels"),
    (
        "dataset: mistaken:untested_class",
        "2: dataset",
        "no test images of 3 of its 4 classes (1, 2, 3): every class needs images in all three",
    ),
    ("network: mistaken:seven", "3: network", "expected a list of torch modules"),
    ("network: mistaken:weightless", "3: network", "layers [2] have no weights"),
    (
        "network: mistaken:misfit",
        "3: network",
        "does not take images (1, 12, 12): layer 2: addmm: mat1 and mat2 shapes",
    ),
    (
        "network: mistaken:normalised\nrecipe: {steps: 1, batch: 1}",
        "3: network",
        "does not take a training batch of 1: layer 1: Expected more than 1 value per channel",
    ),
    (
        "network: mistaken:mixing",
        "3: network",
        "does not take a batch of 1: layer 1: Expected more than 1 value per channel",
    ),
    (
        "network: mistaken:centring",
        "3: network",
        "layer 1 gives an image another output in evaluation when other images are with it",
    ),
    (
        "network: mistaken:forgetful",
        "3: network",
        "layer 1: mean of Mean (1) changes in training, and is neither saved nor copied",
    ),
    ("network: mistaken:tied", "3: network", "layers 1 and 2 share a tensor, layer1.1.weight and"),
    (
        "network: mistaken:lazy",
        "3: network",
        "layer 1: LazyLinear (1) is lazy, and has no weights yet; use Linear with its number",
    ),
    ("network: mistaken:three_outputs", "3: network", "(3,) per image"),
    ("network: {name: 'mistaken:wide', widht: 3}", "3: network.widht", "did you mean 'width'?"),
]


@pytest.fixture
def modules(new_process: Path) -> Path:
    """Modules with mistakes, beside the sweep file."""
    Path("mistaken.py").write_text(OWN_CODE)
    Path("unparsable.py").write_text("def fn(:\n")
    Path("dividing.py").write_text("one = 1\none / 0\n")
    return new_process


@pytest.mark.parametrize("lines", EXACT)
def test_a_mistake_is_one_line(lines: str, modules: Path) -> None:
    line = EXACT[lines].replace("{folder}", str(modules))
    assert mistakes(valid_but(lines)) == [f"bad.yaml:{line}"]


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(("lines", "place", "reason"), CASES)
def test_a_mistake_names_line_and_key(lines: str, place: str, reason: str) -> None:
    assert_mistake(mistakes(valid_but(lines)), f"bad.yaml:{place}", reason)
