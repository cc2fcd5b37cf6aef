"""Files of own code that travel to a cluster: their list and layout, and what would be missing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from orchestrator.cluster import Shipment, shipment, shipment_of
from orchestrator.plan.plan import Plan
from tests.conftest import Ended
from tests.sweep_files import forget_own_code

SWEEP = """\
name: own
dataset: {name: "flowers:load", where: data/x.npy}
network: "sources.nets:build"
target_network: {name: "targets:build", replaced: [2]}
splits: {random: [0]}
treatments: [base, transfer]
layers: [1]
recipe: {rate: 0.03, steps: 3, batch: 1}
"""
LOAD = """\
import numpy as np


def load(where="data/x.npy"):
    images = np.load(where)
    sets = ("train", "validation", "test")
    return {s: (images[i], [0, 1, 2, 3]) for i, s in enumerate(sets)}
"""
BUILD = """\
from torch import nn


def build(*, classes, shape):
    size = shape[0] * shape[1] * shape[2]
    return [
        nn.Sequential(nn.Flatten(), nn.Linear(size, 8), nn.ReLU()),
        nn.Sequential(nn.Linear(8, WIDTH), nn.ReLU()),
        nn.Linear(WIDTH, classes),
    ]
"""
TARGETS = (
    BUILD.replace("WIDTH", "width")
    + """

from pathlib import Path
from widths import fallback

width = int(Path(__file__).with_name("width.txt").read_text() or fallback)
"""
)
TREE = {
    "data/x.npy",
    "flowers.py",
    "sources/__init__.py",
    "sources/nets.py",
    "targets.py",
    "width.txt",
    "widths.py",
}


@pytest.fixture
def own(folder: Path) -> Iterator[Path]:
    """Own code beside the sweep file, with files that it reads, all ignored by git."""
    for name, text in {
        "flowers.py": LOAD,
        "sources/__init__.py": "",
        "sources/nets.py": BUILD.replace("WIDTH", "6"),
        "targets.py": TARGETS,
        "widths.py": "fallback = 7\n",
        "width.txt": "7",
        ".gitignore": "*\n",
        "unused.py": "",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "data").mkdir()
    np.save(folder / "data" / "x.npy", np.random.RandomState(0).rand(3, 4, 5, 5))
    names = ("flowers", "sources.nets", "sources", "targets", "widths")
    forget_own_code(*names)
    yield folder
    forget_own_code(*names)


@pytest.fixture
def shipped(own: Path, plan_of: Callable[..., Plan]) -> Callable[..., Shipment]:
    def made(*changes: str) -> Shipment:
        sys.path.insert(0, str(own))
        code = shipment_of(plan_of(SWEEP, *changes).sweep)
        assert code is not None
        return code

    return made


def test_modules_and_the_files_that_they_read_travel_in_their_layout(
    own: Path, shipped: Callable[..., Shipment]
) -> None:
    code = shipped()
    assert set(code.files) == TREE
    assert code.roots == (str(own),)
    assert code.problem() == ""
    assert code.bytes == sum((own / name).stat().st_size for name in TREE)
    with code.staged() as staged:
        files = {p.relative_to(staged).as_posix() for p in Path(staged).rglob("*") if p.is_file()}
        assert files == TREE
        assert (Path(staged) / "width.txt").read_text() == "7"
    assert not Path(staged).exists()


def test_a_relative_path_that_leads_elsewhere_is_refused(
    own: Path, shipped: Callable[..., Shipment], monkeypatch: pytest.MonkeyPatch
) -> None:
    (own / "sub").mkdir()
    monkeypatch.chdir(own / "sub")
    assert shipped("dataset.where=../data/x.npy").problem() == (
        f"../data/x.npy is a relative path that leads out of {own / 'sub'}, and other machines "
        "do not have it: name a path below this folder, or an absolute path on a disk that all "
        "machines share"
    )
    (own / "data" / "x.npy").rename(own / "sub" / "y.npy")
    code = shipped("dataset.where=y.npy")
    assert (code.files["y.npy"], code.problem()) == (own / "sub" / "y.npy", "")
    assert shipped(f"dataset.where={own / 'sub' / 'y.npy'}").problem() == ""


def test_check_lists_what_travels_and_run_refuses_too_much(
    own: Path, layerwise: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    (own / "own.yaml").write_text(SWEEP)
    code, out, err = layerwise("check", "own.yaml")
    assert (code, err) == (0, "")
    assert "own code that travels to a cluster: 7 files, 0.0 MB: data/x.npy, targets.py," in out
    monkeypatch.setattr(shipment, "MOST_BYTES", 2000)
    problem = f"own code with its files has 0 MB ({own}/data/x.npy has 0 MB), and at most 0 MB"
    assert f"on a cluster: {problem}" in layerwise("check", "own.yaml").out
    ended = layerwise("run", "own.yaml", "--address", "10.0.0.1:6379")
    assert (ended.code, ended.err.startswith(f"layerwise: {problem}")) == (2, True)
