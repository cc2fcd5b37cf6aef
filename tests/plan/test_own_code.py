"""Datasets and networks of the user: mistakes in their code, their ids, their training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from orchestrator.execution.inline import run_inline
from orchestrator.execution.run import Run
from orchestrator.plan.plan import Plan
from orchestrator.report.progress import RunProgress
from orchestrator.store.store import Store
from tests.sweep_files import assert_mistake, forget_own_code, mistakes, valid_but
from trainers import datasets

MODULES = ("mistaken", "unparsable", "dividing", "garden", "garden.data", "garden.nets")

pytestmark = pytest.mark.usefixtures("new_process")


@pytest.fixture
def new_process(folder: Path) -> Path:
    """An empty working folder in which no own module was imported before."""
    forget_own_code(*MODULES)
    return folder


# Mistakes ---------------------------------------------------------------------------------------

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


# Data and networks that work --------------------------------------------------------------------
GARDEN = """\
name: garden
dataset: {name: "garden.data:flowers", size: 9}
network: {name: "garden.nets:build", width: 4}
splits: {named: {wild: {A: [daisy, poppy], B: [rose, tulip]}}}
treatments: [base, transfer, transfer+]
layers: [1]
recipe: {rate: 0.1, steps: 3, batch: 4}
"""
FLOWERS = """\
import numpy as np


def flowers(size: int = 8):
    random = np.random.RandomState(0)

    def some(count):
        labels = np.arange(4).repeat(count)
        images = random.randint(0, 256, size=(len(labels), 3, size, size)).astype(np.uint8)
        return images, labels

    return {
        "train": some(4), "validation": some(2), "test": some(3),
        "classes": ["daisy", "poppy", "rose", "tulip"],
    }
"""
BUILD = """\
from torch import nn


def build(*, classes, shape, width: int = 2):
    return [
        nn.Sequential(
            nn.Conv2d(shape[0], width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ),
        nn.Linear(width, classes),
    ]
"""


@pytest.fixture
def garden(new_process: Path) -> Path:
    """A package of the user, beside the sweep file."""
    package = new_process / "garden"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "data.py").write_text(FLOWERS)
    (package / "nets.py").write_text(BUILD)
    return package


@pytest.mark.usefixtures("garden")
def test_own_data_and_network(plan_of: Callable[..., Plan]) -> None:
    planned = plan_of(GARDEN)
    assert [trial.name for trial in planned.members] == [
        "A wild", "B wild", "B1A wild", "B1A+ wild", "A1B wild", "A1B+ wild",
    ]  # fmt: skip
    assert planned.members[0].training.target.classes == (0, 1)
    assert next(iter(planned.networks.values())).macs == (4 * 27 * 49, 8)
    carried = Run.open(planned, Store("store"), RunProgress(Console(quiet=True)))
    run_inline(carried)
    assert carried.tally() == {"complete": 6, "failed": 0, "lost": 0, "skipped": 0, "missing": 0}
    rows = Store("store").table("trials").to_pylist()
    assert {(row["total"], row["classes"], row["steps"]) for row in rows} == {(6, 2, 3)}
    assert {row["dataset"] for row in rows} == {"garden.data:flowers"}


def test_changed_data_or_code_changes_the_ids(garden: Path, plan_of: Callable[..., Plan]) -> None:
    def ids() -> set[str]:
        forget_own_code(*MODULES)
        return set(plan_of(GARDEN).trials)

    first = ids()
    assert ids() == first
    (garden / "data.py").write_text(FLOWERS.replace("RandomState(0)", "RandomState(1)"))
    other_data = ids()
    (garden / "data.py").write_text(FLOWERS + "# a comment\n")
    other_source = ids()
    (garden / "data.py").write_text(FLOWERS)
    assert ids() == first
    (garden / "nets.py").write_text(BUILD.replace("nn.ReLU()", "nn.Tanh()"))
    other_network = ids()
    assert len(first) == 6
    assert len(first | other_data | other_source | other_network) == 24


@pytest.mark.usefixtures("garden")
def test_options_change_the_ids(plan_of: Callable[..., Plan]) -> None:
    first, other = plan_of(GARDEN), plan_of(GARDEN, "dataset.size=10")
    assert not set(first.trials) & set(other.trials)
    assert (
        next(iter(first.networks.values())).macs[0],
        next(iter(other.networks.values())).macs[0],
    ) == (4 * 27 * 49, 4 * 27 * 64)


IMAGE_FILES = """\
from pathlib import Path


def flowers(size: int = 8):
    files = sorted(Path("{folder}").glob("*.*"))
    both = files, [int(file.name[0]) for file in files]
    return dict.fromkeys(("train", "validation", "test"), both) | {{"classes": "abcd"}}
"""


@pytest.fixture
def images(garden: Path, folder: Path) -> Path:
    """Two images of each of four classes, as PNG and as JPEG."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for label in range(4):
        for name in ("first.png", "second.jpg"):
            Image.new("RGB", (9, 9), (60 * label,) * 3).save(pictures / f"{label}-{name}")
    (garden / "data.py").write_text(IMAGE_FILES.format(folder=pictures))
    return pictures


IN_FILES = GARDEN
for old, new in (
    ("[daisy, poppy]", "[a, b]"),
    ("[rose, tulip]", "[c, d]"),
    ("size: 9", "size: 9, shared_images: true"),
):
    IN_FILES = IN_FILES.replace(old, new)


@pytest.mark.usefixtures("images")
def test_images_in_files(plan_of: Callable[..., Plan]) -> None:
    planned = plan_of(IN_FILES)
    dataset = datasets.load(planned.members[0].training.target.dataset)
    assert dataset.train.images.shape == (8, 3, 9, 9)
    assert dataset.train.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    expected = np.repeat([0, 60, 120, 180], 2).astype(np.float32) / np.float32(255)
    assert np.array_equal(dataset.train.images[:, 0, 4, 4], expected)
    carried = Run.open(planned, Store("store"), RunProgress(Console(quiet=True)))
    run_inline(carried)
    assert carried.tally()["complete"] == 6


def test_an_image_file_of_another_size(images: Path) -> None:
    Image.new("RGB", (7, 9)).save(images / "3-third.png")
    place = "bad.yaml:2: dataset"
    assert_mistake(mistakes(IN_FILES), place, f"train: {images}/3-third.png is 7×9")


def test_an_image_file_that_is_none(images: Path) -> None:
    (images / "0-first.png").write_text("not an image")
    place = "bad.yaml:2: dataset"
    assert_mistake(mistakes(IN_FILES), place, f"train: cannot read image {images}/0-first.png: ")


CHANGING = """\
import torch
from torch import nn


class Count(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        return x


def build(*, classes, shape, width: int = 2):
    first = nn.Sequential(nn.Flatten(), nn.Linear(243, width), Count())
    return [first, nn.Linear(width, classes)]
"""


def test_check_finds_frozen_layers_that_change(
    garden: Path, folder: Path, layerwise: Callable[..., Any]
) -> None:
    (garden / "nets.py").write_text(CHANGING)
    (folder / "garden.yaml").write_text(GARDEN)
    code, _, err = layerwise("check", "garden.yaml")
    assert (code, err.splitlines()) == (
        2,
        [
            "layerwise: B1A wild: its frozen layers changed all the same; their modules may change "
            "their buffers only while `self.training` is true"
        ],
    )


# First weights and randomness --------------------------------------------------------------------

# Of the version that gave every network the first weights of He; `init: he` still means these.
GOLDEN = {"A wild": "59704c53c4d1ef37", "A1B+ wild": "56db3c1dc5fce18e"}


@pytest.mark.usefixtures("garden")
def test_own_networks_keep_their_weights_unless_the_sweep_names_others(
    plan_of: Callable[..., Plan],
) -> None:
    def inits(*changes: str) -> set[str]:
        return {trial.training.recipe.init for trial in plan_of(GARDEN, *changes).members}

    assert inits() == {"network"}
    assert inits("fine_tune.recipe.steps=4") == {"network"}
    assert inits("recipe.init=torch", "fine_tune.recipe.steps=4") == {"torch"}
    assert inits("target_network={name: 'garden.nets:build', width: 4}") == {"network"}
    grids = "grids={one: {}, two: {recipe: {steps: 5}}, three: {recipe: {init: torch}}}"
    assert inits(grids) == {"network", "torch"}
    assert inits("network=conv8") == {"he"}
    assert inits("network={conv: [2], pool: [], fc: []}") == {"he"}
    he = {trial.name: trial.id for trial in plan_of(GARDEN, "recipe.init=he").members}
    assert {name: he[name] for name in GOLDEN} == GOLDEN


@pytest.mark.parametrize(
    ("build", "changes", "line"),
    [
        (BUILD, [], "network): as the function returns them, drawn anew for every seed and task"),
        (BUILD, ["recipe.init=he"], "he): layerwise sets them, and replaces those that the"),
        (
            BUILD.replace("    return", "    import torch\n    torch.manual_seed(1)\n    return"),
            [],
            "network): as the function returns them, the same for every seed and task",
        ),
    ],
)
def test_check_says_where_first_weights_come_from(
    build: str,
    changes: list[str],
    line: str,
    garden: Path,
    folder: Path,
    layerwise: Callable[..., Any],
) -> None:
    (garden / "nets.py").write_text(build)
    (folder / "garden.yaml").write_text(GARDEN)
    sets = [part for change in changes for part in ("--set", change)]
    code, out, err = layerwise("check", "garden.yaml", *sets)
    assert (code, err) == (0, "")
    assert f"first weights of garden.nets:build (init: {line}" in out


UNSEEDED = FLOWERS.replace("np.random.RandomState(0)", "np.random")


def test_a_dataset_that_draws_from_global_generators_is_the_same_in_every_process(
    garden: Path, plan_of: Callable[..., Plan]
) -> None:
    (garden / "data.py").write_text(UNSEEDED)
    first = set(plan_of(GARDEN).trials)
    np.random.rand()  # noqa: NPY002
    forget_own_code(*MODULES)
    assert set(plan_of(GARDEN).trials) == first


@pytest.mark.parametrize(
    ("file", "text", "place", "reason"),
    [
        (
            "data.py",
            UNSEEDED.replace("np.random\n", "np.random.default_rng()\n").replace(
                "randint", "integers"
            ),
            "2: dataset",
            "dataset garden.data:flowers: two calls with equal seeds give different data; draw",
        ),
        (
            "nets.py",
            BUILD.replace("    return", "    width += next(calls)\n    return")
            .replace("from torch", "import itertools\n\nfrom torch")
            .replace("\n\n\n", "\n\ncalls = itertools.count()\n\n\n", 1),
            "3: network",
            "two calls with equal seeds give different weights or shapes: draw from the global",
        ),
        (
            "nets.py",
            BUILD.replace("    return", "    width += random.randrange(1000)\n    return").replace(
                "from torch", "import random\nfrom torch"
            ),
            "3: network",
            "the seed changes the shapes of weights: give each layer one size",
        ),
    ],
)
def test_check_calls_functions_twice(
    file: str,
    text: str,
    place: str,
    reason: str,
    garden: Path,
    folder: Path,
    layerwise: Callable[..., Any],
) -> None:
    (garden / file).write_text(text)
    (folder / "garden.yaml").write_text(GARDEN)
    code, _, err = layerwise("check", "garden.yaml")
    assert code == 2
    assert err.startswith(f"garden.yaml:{place}: ")
    assert reason in err
