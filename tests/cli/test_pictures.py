"""The command `pictures`: with weights of the store, and for layers that need none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from orchestrator.execution.origin import weights_of
from orchestrator.plan.origin import origin
from orchestrator.report import rendering
from orchestrator.store.store import Store
from tests.small import files, small
from trainers import checkpoint

Layerwise = Callable[..., tuple[int, str, str]]
LINE = ("pictures", "small.yaml", "--projection", "pca", "--layer")
MLP = """
from torch import nn


def mlp(*, classes, shape):
    return [nn.Sequential(nn.Flatten(), nn.Linear(144, 3)), nn.Linear(3, classes)]
"""
RANDOM = ("--set", "treatments=[base, random]")
WRITTEN = ["filters.png", "index.html", "map.png"]


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the slow parts: the JavaScript and the PNG."""
    monkeypatch.setattr(rendering, "javascript", lambda: "/* bundle */")
    monkeypatch.setattr(
        rendering, "pictures", lambda _, formats, **_options: dict.fromkeys(formats, b"png")
    )


@pytest.mark.usefixtures("full")
def test_networks_are_side_by_side(layerwise: Layerwise) -> None:
    code, out, _ = layerwise(*LINE, "1", "A s0", "B1A s0", "A s0", "--task", "A s0")
    folder = Path.cwd() / "results/reports/small/pictures"
    assert (code, out) == (0, f"{folder}/index.html\n")
    assert files(folder) == WRITTEN
    page = (folder / "index.html").read_text()
    for name in ("A s0", "B1A s0"):
        assert page.count(f"<h3>{name}</h3>") == 2  # a map and filters
    assert page.count('"validation image"') == 2
    assert page.count("data:image/png;base64,") == 2 * (10 + 1)  # images and a sheet of filters
    assert layerwise("report", "small").code == 0
    report = Path("results/reports/small/index.html").read_text()
    assert report.count('src="data:image/png;base64,cG5n"') == 2  # `png` in Base64
    assert "width=" not in report.partition("Pictures of networks")[2].partition("<h2>")[0]
    Image.new("L", (40, 10)).save(folder / "map.png")  # at double resolution
    assert layerwise("report", "small").code == 0
    report = Path("results/reports/small/index.html").read_text()
    assert (
        'alt="Validation images by the outputs of a layer, for several networks" width="20">'
        in (report)
    )
    assert layerwise("clean", "--sweep", "small", "--yes").code == 0
    assert not folder.parent.exists()


def test_frozen_layers_need_the_weights_of_the_base_only(full: Path) -> None:
    store, plan = Store(full / "results"), small(full)
    base = checkpoint.unpack(weights_of(plan, origin(plan, "B s0"), store).data)[0]
    copied = weights_of(plan, origin(plan, "B1A s0"), store, layers=1)
    tensors = checkpoint.unpack(copied.data)[0]
    assert set(tensors) == {name for name in base if name.startswith("layer1.")} != set()
    assert all(torch.equal(tensor, base[name]) for name, tensor in tensors.items())
    assert copied.sha256 == checkpoint.checksum(copied.data)


@pytest.mark.usefixtures("folder")
def test_random_filters_need_no_store(layerwise: Layerwise) -> None:
    code, out, _ = layerwise(*LINE, "1", "R1A s0", *RANDOM, "--to", "random")
    assert (code, out) == (0, "random/index.html\n")
    assert files(Path()) == [*(f"random/{name}" for name in WRITTEN), "small.yaml"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["9", "A s0"], "A s0: there are no weights of layer 9: expected 1..4"),
        (["1", "A s0", "C s0"], "no trial 'C s0' in sweep small; expected an id or a name: "),
        (["1", "A s0", "--set", "recipe.steps=4"], "A s0 is not complete in "),
        (["1", "A s0", "--task", "C s0"], "no task 'C s0' in sweep small; did you mean"),
        (["1", "A s0", "--to", "small.yaml"], "cannot write small.yaml: "),
    ],
)
@pytest.mark.usefixtures("full")
def test_mistakes_are_one_line(arguments: list[str], line: str, layerwise: Layerwise) -> None:
    before = files(Path())
    code, _, err = layerwise(*LINE, *arguments)
    assert code == 2
    assert err.startswith(f"layerwise: {line}")
    assert err.count("\n") == 1
    assert files(Path()) == before


@pytest.mark.usefixtures("full")
def test_layers_that_learned_need_weights(layerwise: Layerwise) -> None:
    code, _, err = layerwise(*LINE, "2", "B1A s0")
    assert code == 2
    assert err.startswith("layerwise: B1A s0: ")
    assert err.endswith("`keep: all` keeps the weights of every trial\n")
    assert not list(Path().rglob("*.png"))


@pytest.mark.usefixtures("folder")
def test_a_first_layer_that_is_no_convolution(
    layerwise: Layerwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mlp.py").write_text(MLP)
    monkeypatch.syspath_prepend(Path.cwd())
    code, _, err = layerwise(*LINE, "1", "R1A s0", *RANDOM, "--set", "network=mlp:mlp")
    line = "layerwise: R1A s0: layer 1 is no convolution, so it has no filters to draw\n"
    assert (code, err) == (2, line)
    assert not list(Path().rglob("*.png"))
