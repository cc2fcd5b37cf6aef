"""`layerwise pack` on the command line: its output and its errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ended
from tests.pictures import write_folder

Layerwise = Callable[..., Ended]
SWEEP = """\
name: pets
dataset: {{name: image_folder, root: {root}, size: 8, held_out: 2}}
splits: {{random: [0]}}
recipe: {{rate: 0.1, steps: 2}}
"""


pytestmark = pytest.mark.usefixtures("fresh_data", "own_cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "pets")


def test_a_folder(layerwise: Layerwise, folder: Path) -> None:
    done = layerwise("pack", "image_folder", "--root", str(folder), "--size", "8", "--workers", "1")
    assert done.code == 0, done.err
    pack = Path(done.out.strip())
    assert pack.parent == folder / "packs"
    assert pack.name.startswith("upright-8-squash-")
    assert done.err.splitlines() == ["packing: 0 of 16 images", "packing: 16 of 16 images"]
    again = layerwise("pack", "image_folder", "--root", str(folder), "--size", "8")
    assert again.code == 2
    assert f"pack {pack} exists; remove it to make it again" in again.err


def test_the_dataset_of_a_sweep(layerwise: Layerwise, folder: Path, tmp_path: Path) -> None:
    """Root and options are those of the sweep, so the sweep reads the pack."""
    sweep = tmp_path / "pets.yaml"
    sweep.write_text(SWEEP.format(root=folder))
    missing = layerwise("pack", str(sweep), "--verify")
    assert (missing.code, missing.out) == (2, "")
    assert "it has no pack; make one with: layerwise pack" in missing.err
    done = layerwise("pack", str(sweep), "--workers", "1")
    assert done.code == 0, done.err
    verified = layerwise("pack", str(sweep), "--verify")
    assert verified.out == f"{done.out.strip()}: every checksum is right\n"
    before = layerwise("plan", str(sweep), "--json").out
    shard = Path(done.out.strip()) / "val-00000.arrow"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(bytes(data))
    damaged = layerwise("pack", str(sweep), "--verify")
    assert (damaged.code, damaged.out) == (2, "")
    assert "is damaged in val-00000.arrow: remove it and make it again" in damaged.err
    assert layerwise("plan", str(sweep), "--json").out == before


def test_files_that_are_passed_over_are_a_line(layerwise: Layerwise, tmp_path: Path) -> None:
    """Also where the images are read from a pack."""
    sets = {"train": dict.fromkeys("abcd", 3), "val": dict.fromkeys("abcd", 1)}
    folder, sweep = write_folder(tmp_path / "four", sets), tmp_path / "four.yaml"
    sweep.write_text(SWEEP.format(root=folder).replace("steps: 2", "steps: 2, batch: 2"))
    (folder / "train" / "notes.txt").write_text("no image")
    line = f"{folder}: passed over 1 .txt\n"
    assert layerwise("splits", str(sweep)).err == line
    assert layerwise("pack", str(sweep), "--workers", "1").code == 0
    assert layerwise("splits", str(sweep)).err == line


def test_packing_elsewhere(
    layerwise: Layerwise, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("pack", "image_folder", "--root", str(folder), "--size", "8")
    done = layerwise(*arguments, "--to", str(tmp_path / "fast"), "--resize", "crop")
    assert Path(done.out.strip()).parent == tmp_path / "fast" / "packs"
    assert "no pack" in layerwise(*arguments, "--verify").err
    monkeypatch.setenv("LAYERWISE_DATA", str(tmp_path / "fast"))
    assert "every checksum" in layerwise(*arguments, "--verify", "--resize", "crop").out


def test_corrupt_files_are_listed(layerwise: Layerwise, folder: Path) -> None:
    bad = folder / "train" / "cat" / "cat_1.JPEG"
    bad.write_bytes(b"<html>")
    arguments = ("pack", "image_folder", "--root", str(folder), "--size", "8", "--workers", "1")
    stopped = layerwise(*arguments)
    assert stopped.code == 2
    assert f"image {bad} is damaged or not an image: cannot identify image file" in stopped.err
    assert not list(folder.glob("packs/*/manifest.json"))
    allowed = layerwise(*arguments, "--allow-corrupt")
    assert allowed.code == 0, allowed.err
    assert list(folder.glob("packs/*/manifest.json"))


def test_ctrl_c(layerwise: Layerwise, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trainers.datasets.pack_writer.pack", stopped)
    ended = layerwise("pack", "image_folder", "--root", str(folder), "--size", "8")
    assert ended.code == 130
    assert "the same command continues after the finished shards" in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["imagnet"], "layerwise: no dataset 'imagnet'; did you mean 'imagenet'?"),
        (["nothing"], "no sweep 'nothing': expected a YAML file or a bundled sweep"),
        (
            ["digits"],
            "layerwise: digits needs no pack; datasets of image files: imagenet, image_f",
        ),
        (["cifar10"], "layerwise: cifar10 needs no pack"),
        (
            ["imagenet", "--root", "/nowhere"],
            "layerwise: dataset imagenet: imagenet is not at /no",
        ),
        (["imagenet", "--root", "$NOT_SET/x"], "the environment variable NOT_SET is not set here"),
        (
            ["image_folder", "--size", "0"],
            "layerwise: dataset image_folder, size: expected pixels",
        ),
    ],
)
def test_mistakes(layerwise: Layerwise, arguments: list[str], message: str) -> None:
    ended = layerwise("pack", *arguments)
    assert ended.code == 2
    assert message in ended.err
