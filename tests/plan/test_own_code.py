"""Datasets and networks of the user: plans, trainings and ids of code that works."""

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
from tests.sweep_files import (
    BUILD,
    FLOWERS,
    GARDEN,
    MODULES,
    assert_mistake,
    forget_own_code,
    mistakes,
)
from trainers import datasets

pytestmark = pytest.mark.usefixtures("new_process")


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
