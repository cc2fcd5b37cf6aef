"""Commands on sweep files: init, check, plan and splits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from tests.searches import SEARCHED
from tests.small import files
from tests.tables import cells, outside
from trainers.config import training_macs

Layerwise = Callable[..., tuple[int, str, str]]


# init, check ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_init(layerwise: Layerwise) -> None:
    assert layerwise("init", "mine.yaml") == (
        0,
        "wrote mine.yaml; try: layerwise check mine.yaml\n",
        "",
    )
    text = (resources.files("sweeps") / "template.yaml").read_text()
    assert Path("mine.yaml").read_text() == text
    assert layerwise("init", "mine.yaml") == (
        2,
        "",
        "layerwise: mine.yaml exists; give another name\n",
    )
    assert layerwise("init", "no/mine.yaml") == (
        2,
        "",
        "layerwise: cannot write no/mine.yaml: No such file or directory\n",
    )
    assert layerwise("init")[0] == 0
    assert Path("sweep.yaml").read_text() == text


def test_check(folder: Path, layerwise: Layerwise) -> None:
    before = files(folder)
    code, out, err = layerwise("check", "small.yaml")
    assert (code, err) == (0, "")
    assert outside(out) == [
        "dataset digits: 10 classes, images 1×12×12, 100 for training, 20 for validation, "
        "30 for test; fingerprint 192c099834f8e7cd",
        "4 trainings of 2 steps went well: base, selffer, transfer",
        ONE_SPLIT,
    ]
    assert cells(out) == [
        ["layer", "output", "parameters", "multiply-adds", "cut after it"],
        ["1", "2×6×6", "20", "2,592", "n = 1"],
        ["2", "18", "38", "1,296", ""],
        ["3", "4", "76", "72", ""],
        ["4", "5", "25", "20", ""],
    ]
    assert files(folder) == before


def test_check_says_what_went_wrong(
    folder: Path, layerwise: Layerwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch norm in training mode needs two values per channel: planning tries such a batch."""
    (folder / "single.py").write_text(
        "from torch import nn\n\n\n"
        "def build(*, classes, shape):\n"
        "    first = nn.Sequential(nn.Flatten(), nn.Linear(144, 4), nn.BatchNorm1d(4))\n"
        "    return [first, nn.Linear(4, classes)]\n"
    )
    monkeypatch.syspath_prepend(folder)
    code, out, err = layerwise(
        "check", "small.yaml", "--set", "network=single:build", "--set", "recipe.batch=1"
    )
    assert code == 2
    assert "went well" not in out
    assert err.startswith(
        "--set network: network single:build does not take a training batch of 1: layer 1: "
        "Expected more than 1 value per channel when training"
    )
    assert err.count("\n") == 1


def test_check_tells_a_mistake_of_the_search(tmp_path: Path, layerwise: Layerwise) -> None:
    path = tmp_path / "searched.yaml"
    path.write_text(SEARCHED.replace("startup: 2", "startup: 2, splits: [0]"))
    code, _, err = layerwise("check", str(path))
    assert code == 2
    assert err.startswith(f"{path}:9: fine_tune.search.splits[0]: s0 has the halves of s0, which")


# plan -------------------------------------------------------------------------------------------


HEADER = ["treatment", "needs", "trials", "complete", "FLOP open", "slot time open"]
ONE_SPLIT = "one split: differences get no interval; splits.random adds splits"
KEPT = "checkpoints that stay (keep: bases): 0.0 MB"


def test_plan_of_what_was_never_run(folder: Path, layerwise: Layerwise) -> None:
    code, out, err = layerwise("plan", "small.yaml", "--set", "recipe.steps=30000")
    assert (code, err) == (0, "")
    assert cells(out) == [
        HEADER,
        ["base", "", "2", "0", "8.97 G", ""],
        ["selffer", "base of the target", "2", "0", "5.24 G", ""],
        ["transfer", "base of the other half", "2", "0", "5.24 G", ""],
        ["all", "", "6", "0", "19.5 G", ""],
    ]
    assert outside(out) == [
        "of 19.5 GFLOP, 14.5 GFLOP are executed (74 %): equal frozen layers are computed once",
        "no rates in the store yet: times appear once some trials are complete",
        KEPT,
        ONE_SPLIT,
    ]
    assert files(folder) == ["small.yaml"]


@pytest.mark.usefixtures("full")
def test_plan_of_what_is_complete(layerwise: Layerwise) -> None:
    code, out, err = layerwise("plan", "small.yaml")
    assert (code, err) == (0, "")
    assert cells(out) == [
        HEADER,
        ["base", "", "2", "2", "0", "0:00"],
        ["selffer", "base of the target", "2", "2", "0", "0:00"],
        ["transfer", "base of the other half", "2", "2", "0", "0:00"],
        ["all", "", "6", "6", "0", "0:00"],
    ]
    assert outside(out) == [KEPT, ONE_SPLIT]


@pytest.mark.usefixtures("folder")
def test_plan_for_programs(layerwise: Layerwise) -> None:
    code, out, err = layerwise("plan", "small.yaml", "--json")
    assert (code, err) == (0, "")
    macs = (9 * 2 * 144, 9 * 2 * 2 * 36, 18 * 4, 4 * 5)
    full, frozen = (training_macs(macs, n) for n in (0, 1))
    images = 2 * 3 * 8  # two trials, three steps of eight
    passes = 4 * 5 * (10 + 2 + 3)  # layer 1 of each copy, over all images of its task
    kind = {"trials": 2, "complete": 0, "seconds": None}
    summary = json.loads(out)
    listed = {trial["name"]: trial for trial in summary.pop("list")}
    assert list(listed) == ["A s0", "B s0", "A1A s0", "B1A s0", "B1B s0", "A1B s0"]
    assert {trial["state"] for trial in listed.values()} == {"missing"}
    assert listed["A1B s0"]["parent"] == listed["A s0"]["id"]
    assert summary == {
        "sweep": "small",
        "trials": 6,
        "complete": 0,
        "treatments": {
            "base": kind | {"needs": None, "flops": 2 * full * images},
            "selffer": kind | {"needs": "base of the target", "flops": 2 * frozen * images},
            "transfer": kind | {"needs": "base of the other half", "flops": 2 * frozen * images},
        },
        "flops": 2 * (full + 2 * frozen) * images,
        "executed_flops": 2 * (full + 2 * (frozen - macs[0])) * images + 2 * passes * macs[0],
        "seconds": None,
        "studies": [],
        "measurements": [],
        "features": [],
        "keep": "bases",
        "checkpoint_bytes": 2 * 4 * (20 + 38 + 76 + 25),
        "device": None,
        "detectable": None,
        "lacking": [],
        "design": [ONE_SPLIT],
        "published": None,
        "unpublished": None,
    }


@pytest.mark.usefixtures("full")
def test_plan_of_a_part(layerwise: Layerwise) -> None:
    """Two bases and two new trials. Their time follows from the measured rates."""
    only = "treatment = 'transfer' AND n = 2"
    code, out, _ = layerwise(
        "plan", "small.yaml", "--set", "layers=[1, 2]", "--only", only, "--json"
    )
    summary = json.loads(out)
    assert code == 0
    assert (summary["trials"], summary["complete"]) == (4, 2)
    assert list(summary["treatments"]) == ["base", "transfer"]
    assert summary["seconds"] == summary["treatments"]["transfer"]["seconds"] > 0
    assert summary["checkpoint_bytes"] == 0


@pytest.mark.usefixtures("folder")
def test_plan_of_nothing(layerwise: Layerwise) -> None:
    assert layerwise("plan", "small.yaml", "--only", "n = 7") == (
        2,
        "",
        'layerwise: --only: no trial of sweep small matches "n = 7"; there are n: 0, 1\n',
    )


# splits -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_splits(layerwise: Layerwise) -> None:
    named = "splits.named={low: {A: [0, 1, 2], B: [9, 8, 7, 6, 5, 4, 3]}}"
    code, out, err = layerwise("splits", "small.yaml", "--set", named)
    assert (code, err) == (0, "")
    assert cells(out) == [
        ["split", "half", "classes", "hash", "class indices", "names"],
        ["s0", "A", "5", "bb5ccad514f3c6e3", "0 1 3 7 8", "0, 1, 3, 7, 8"],
        ["s0", "B", "5", "2fb013239b80b654", "2 4 5 6 9", "2, 4, 5, 6, 9"],
        ["low", "A", "3", "434026bd98ff2d8a", "0 1 2", "0, 1, 2"],
        ["low", "B", "7", "a41cfc003bb7e714", "3 4 5 6 7 8 9", "3, 4, 5, 6, 7, 8, 9"],
    ]
    assert outside(out) == []


@pytest.mark.parametrize("command", ["check", "splits"])
def test_a_sweep_of_the_store(command: str, full: Path, layerwise: Layerwise) -> None:
    of_file = layerwise(command, "small.yaml")
    (full / "small.yaml").unlink()
    assert of_file[0] == 0
    assert layerwise(command, "small") == of_file


MANY = """\
import numpy as np


def thousand():
    images, labels = np.zeros((1000, 8, 8), np.uint8), np.arange(1000)
    return {name: (images + i, labels) for i, name in enumerate(("train", "validation", "test"))}
"""


def test_the_papers_splits_for_programs(
    folder: Path, layerwise: Layerwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeds 0 to 3 on 1000 classes: numpy's legacy generator, seeded with a list of one number."""
    (folder / "many.py").write_text(MANY)
    monkeypatch.syspath_prepend(folder)
    changes = ["dataset=many:thousand", "network=conv8", "splits.random=[0, 1, 2, 3]"]
    code, out, err = layerwise(
        "splits", "small.yaml", "--json", *(word for c in changes for word in ("--set", c))
    )
    assert (code, err) == (0, "")
    splits = json.loads(out)
    assert list(splits) == ["s0", "s1", "s2", "s3"]
    for name, split in splits.items():
        assert list(split) == ["A", "B", "names", "hash", "hashes"]
        assert split["names"]["A"] == [str(index) for index in split["A"]]
        assert sorted(split["A"] + split["B"]) == list(range(1000))
        assert [split[half] for half in "AB"] == [sorted(split[half]) for half in "AB"]
        assert len(split["A"]) == 500
        chosen = np.random.RandomState([int(name[1:])]).permutation(1000)[:500]
        assert split["A"] == sorted(chosen.tolist())
    assert {name: (split["A"][:6], split["B"][:4]) for name, split in splits.items()} == {
        "s0": ([0, 1, 2, 5, 9, 10], [3, 4, 6, 7]),
        "s1": ([1, 5, 7, 9, 15, 16], [0, 2, 3, 4]),
        "s2": ([0, 2, 4, 5, 8, 9], [1, 3, 6, 7]),
        "s3": ([0, 5, 6, 7, 8, 10], [1, 2, 3, 4]),
    }
    assert {name: split["hashes"] for name, split in splits.items()} == {
        "s0": {"A": "f6737fd13a5c91b8", "B": "42afa15a18094ddb"},
        "s1": {"A": "940ba0283d524aef", "B": "cace092b5c586a43"},
        "s2": {"A": "1d68b5c605847d5e", "B": "4949193db51ebe7e"},
        "s3": {"A": "6e8928c2259aa5e3", "B": "162de325daed2781"},
    }
    compact = json.dumps(splits["s0"]["A"], separators=(",", ":"))
    assert hashlib.sha256(compact.encode()).hexdigest()[:16] == splits["s0"]["hashes"]["A"]
    assert splits["s0"]["hash"] == "3f7d387279cb2d92"
