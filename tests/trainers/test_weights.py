"""Files of weights: formats, names, and every way in which one cannot be used."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from trainers import checkpoint
from trainers.config import NetworkRef
from trainers.networks import build, tensors_of
from trainers.torchvision_weights import Published, published
from trainers.weights import WeightsError, exported, fitted, packed, read

CONV = NetworkRef(name="conv8", options=(("conv", (2, 2)), ("fc", (4,)), ("pool", (1,))))
SHAPE = (1, 8, 8)
FILE = "base.safetensors"


def state(classes: int = 5) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        name: tensor.clone() for name, tensor in tensors_of(build(CONV, classes, SHAPE)).items()
    }


def saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def fit(data: bytes, *head: str) -> dict[str, torch.Tensor]:
    return fitted(read(data, FILE), CONV, 3, SHAPE, head, FILE)


FORMATS: dict[str, Callable[[], bytes]] = {
    "safetensors": lambda: save(state()),
    "state_dict": lambda: saved(state()),
    "old pickle": lambda: saved(state(), _use_new_zipfile_serialization=False),
    "nested": lambda: saved({"epoch": 3, "state_dict": state()}),
    "twice": lambda: saved({"model": {"state_dict": state()}}),
    "wrapped": lambda: saved({f"module.{name}": tensor for name, tensor in state().items()}),
    "compiled": lambda: saved({f"module._orig_mod.{n}": tensor for n, tensor in state().items()}),
    "double": lambda: save({name: tensor.double() for name, tensor in state().items()}),
    "other head": lambda: save(state(classes=77)),
    "exported": lambda: exported(checkpoint.pack(state(), {}), {"layerwise_trial": "x"}),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_in_any_format_becomes_the_same_parent(name: str) -> None:
    weights = fit(FORMATS[name]())
    assert packed(weights) == packed(fit(FORMATS["safetensors"]()))
    assert list(weights) == [n for n in state() if not n.startswith("layer4.")]
    assert all(torch.equal(weights[n], state()[n]) for n in weights)


def changed(**tensors: torch.Tensor | None) -> bytes:
    whole = state() | {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    return save({name: tensor for name, tensor in whole.items() if tensor is not None})


class Attack:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


ONE = torch.ones(1)
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "truncated": (lambda: save(state())[:900], "neither a whole safetensors file"),
    "truncated zip": (lambda: saved(state())[:900], "neither a whole safetensors file"),
    "empty": (lambda: b"", "fetch it again"),
    "text": (lambda: b"<html>not found</html>", "fetch it again"),
    "list": (lambda: saved([ONE]), "holds a list, not a state_dict"),
    "optimiser": (lambda: saved(state() | {"epoch": 3}), "entry 'epoch' is a int, not a tensor"),
    "missing": (
        lambda: changed(layer2__conv__bias=None, layer3__fc__bias=None),
        "missing: layer2.conv.bias, layer3.fc.bias",
    ),
    "unexpected": (lambda: changed(extra__weight=ONE), "unexpected: extra.weight"),
    "misshapen": (
        lambda: changed(layer1__conv__bias=ONE),
        r"layer1.conv.bias is \(1,\), the network wants \(2,\)",
    ),
    "colour": (
        lambda: changed(layer1__conv__weight=torch.ones(2, 3, 3, 3)),
        "the file is for images of 3 channels: give form.channels and its rule",
    ),
    "nan": (
        lambda: changed(layer1__conv__bias=torch.tensor([1.0, float("nan")])),
        "tensor layer1.conv.bias has values that are not finite",
    ),
    "half": (
        lambda: save({name: tensor.half() for name, tensor in state().items()}),
        "tensor layer1.conv.weight is float16; save the weights as float32",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_used_says_why_in_one_line(name: str) -> None:
    data, message = BAD[name]
    with pytest.raises(WeightsError, match=message) as error:
        fit(data())
    assert FILE in str(error.value)
    assert "\n" not in str(error.value)


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "attacked"
    for data in (saved({"w": Attack(mark)}), pickle.dumps({"w": Attack(mark)})):
        with pytest.raises(WeightsError, match="is a pickle with code in it, which is never run"):
            read(data, FILE)
    assert not mark.exists()


def test_a_head_under_another_name_is_left_out_if_it_is_declared() -> None:
    data = changed(classifier__weight=ONE, layer4__fc__weight=None, layer4__fc__bias=None)
    with pytest.raises(WeightsError, match=r"unexpected: classifier.weight; name the file's head"):
        fit(data)
    assert packed(fit(data, "classifier")) == packed(fit(save(state())))


RESNET = NetworkRef(name="torchvision:resnet18")


def test_torchvisions_names_become_ours_and_old_files_need_no_counters() -> None:
    from torchvision.models import resnet18

    torch.manual_seed(1)
    published_state = resnet18().state_dict()
    old = {n: t for n, t in published_state.items() if not n.endswith("num_batches_tracked")}
    for content in (published_state, old):
        weights = fitted(read(saved(content), FILE), RESNET, 3, (3, 32, 32), (), FILE)
        assert torch.equal(weights["layer1.conv1.weight"], published_state["conv1.weight"])
        assert not any("fc" in name for name in weights)
    ours = fitted(read(save(weights), FILE), RESNET, 3, (3, 32, 32), (), FILE)
    assert packed(ours) == packed(weights)
    del old["layer4.1.bn2.bias"]
    with pytest.raises(WeightsError, match=r"missing: layer4\.1\.bn2\.bias;"):
        fitted(old, RESNET, 3, (3, 32, 32), (), FILE)


def test_published_weights_without_a_network_say_which_file_goes_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refused)
    entry = published(RESNET.name, "IMAGENET1K_V1")
    assert entry.mean == (0.485, 0.456, 0.406)
    place = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    with pytest.raises(WeightsError) as error:
        entry.obtain()
    assert str(error.value) == (
        "cannot download the weights IMAGENET1K_V1 (no route to host): fetch "
        "https://download.pytorch.org/models/resnet18-f37072fd.pth on a machine with a network, "
        f"and put it at {place}"
    )
    place.write_bytes(b"half a file")
    with pytest.raises(WeightsError, match="is damaged: its hash is"):
        entry.obtain()
    own = Published("own", "https://example.org/own.pth", (), ())
    own.path.write_bytes(b"file")
    assert own.obtain() == b"file"


@pytest.mark.parametrize(
    ("network", "choice", "message"),
    [
        ("conv8", None, "torchvision has weights of its own networks only"),
        ("torchvision:resnet18", "IMAGENET1K_V9", "did you mean 'IMAGENET1K_V1'"),
    ],
)
def test_unknown_published_weights(network: str, choice: str | None, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        published(network, choice)
