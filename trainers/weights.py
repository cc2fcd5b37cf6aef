"""Files of weights: safetensors or a torch `state_dict`, checked against a network.

Nothing in a file is ever executed: torch's pickles are read with `weights_only`. A file becomes a
checkpoint under the names of our layers, so that layers are copied from it as from a base.
"""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from trainers import checkpoint
from trainers.config import TORCHVISION, NetworkRef
from trainers.networks import Network, Shape, build, tensors_of
from trainers.torchvision_networks import Builder, TorchvisionLayer, find

Tensors = dict[str, torch.Tensor]

NESTED = ("state_dict", "model_state_dict", "model", "module", "net", "network")
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.", "backbone.")
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # torchvision's heads with losses of their own
FULL = (torch.float32, torch.float64)


class WeightsError(Exception):
    """A file of weights that cannot be used. The message names the file and the way out."""


def read(data: bytes, label: str) -> Tensors:
    """Return the tensors of a file by name, without nesting and common prefixes.

    `label` names the file in messages. Raises `WeightsError` for a file that is damaged, contains
    code, or holds other things than tensors.
    """
    is_torch = data[:2] == b"PK" or data[:1] == b"\x80"  # a zip, or a pickle
    if is_torch and data[8:9] != b"{":  # the header of safetensors, after its length
        content = _torch_content(data, label)
    else:
        content = _safetensors_content(data, label)
    tensors = _state_dict(content, label)
    for prefix in _prefixes(tensors):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def fitted(
    tensors: Mapping[str, torch.Tensor],
    ref: NetworkRef,
    classes: int,
    shape: Shape,
    head: Iterable[str],
    label: str,
) -> Tensors:
    """Return the tensors under our names, without the last layer, of the types of the network.

    `head` are names of the file that are left out, beside the last numbered layer. Raises
    `WeightsError` with every tensor that is missing, unexpected or of another shape, and for a
    tensor that is not finite or has half precision.
    """
    network = build(ref, classes, shape)
    ours = tensors_of(network)
    last = f"layer{len(network)}."
    native = native_names(network, ref, classes, shape)
    inside = _left_out(tensors, head, ref)
    renamed = _best_names(inside, native, ref.name)
    wanted = {name: tensor for name, tensor in ours.items() if not name.startswith(last)}
    given = {name: t for name, t in renamed.items() if not name.startswith(last)}
    native_of = {our: name for name, our in native.items()}
    optional = ours.keys() - network.state_dict().keys()
    optional |= {name for name in ours if name.endswith("num_batches_tracked")}
    problems = []
    if missing := sorted(wanted.keys() - given.keys() - optional):
        problems.append(f"missing: {', '.join(native_of.get(name, name) for name in missing)}")
    if unexpected := sorted(given.keys() - wanted.keys()):
        problems.append(f"unexpected: {', '.join(unexpected)}")
    misshapen = [
        f"{native_of.get(name, name)} is {tuple(given[name].shape)}, the network wants "
        f"{tuple(wanted[name].shape)}"
        for name in sorted(given.keys() & wanted.keys())
        if given[name].shape != wanted[name].shape
    ]
    if misshapen:
        problems.append(f"of another shape: {', '.join(misshapen)}")
    if problems:
        way_out = (
            "name the file's head with `head`, or use the network that it was made for"
            if (channels := _channels(given, wanted)) is None
            else f"the file is for images of {channels} channels: give form.channels and its rule"
        )
        raise WeightsError(f"{label} does not fit {ref.name}: {'; '.join(problems)}; {way_out}")
    for name in (name for name in wanted if name in given):
        _check_numbers(native_of.get(name, name), given[name], wanted[name], label)
    return {
        name: given[name].to(tensor.dtype) if name in given else tensor
        for name, tensor in wanted.items()
    }


def packed(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Return fitted tensors as a checkpoint. Equal tensors give equal bytes, whatever the file."""
    return checkpoint.pack(tensors, {})


def exported(data: bytes, facts: Mapping[str, str]) -> bytes:
    """Return a trial's checkpoint as a safetensors file for others, with facts as its metadata."""
    from safetensors.torch import save

    return save(checkpoint.unpack(data)[0], {"format": "pt", **facts})


def native_names(network: Network, ref: NetworkRef, classes: int, shape: Shape) -> dict[str, str]:
    """Return our name of each tensor by the name in the network's own `state_dict`.

    The two differ for torchvision's networks only, which are cut into numbered layers.
    """
    if not ref.name.startswith(TORCHVISION):
        return {name: name for name in tensors_of(network)}
    builder = find(ref.name)
    assert isinstance(builder, Builder)
    uncut = builder.construct(classes, shape, dict(ref.options))
    layers: list[TorchvisionLayer] = builder.cut(uncut)
    places = {id(tensor): name for name, tensor in _named(Network.of(layers)).items()}
    return {name: places[id(t)] for name, t in _named(uncut).items() if id(t) in places}


def _named(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and buffers as the objects that the modules hold."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _torch_content(data: bytes, label: str) -> Any:
    try:
        with warnings.catch_warnings():  # of pickle protocols that others chose
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything for other bytes
        is_refused = type(error).__name__ == "UnpicklingError"
        if not is_refused or not any(word in str(error) for word in ("GLOBAL", "nsupported")):
            raise _damaged(label, error) from error
        raise WeightsError(
            f"{label} is a pickle with code in it, which is never run: save its state_dict() "
            "instead, or save it as safetensors"
        ) from error


def _safetensors_content(data: bytes, label: str) -> Tensors:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise _damaged(label, error) from error


def _damaged(label: str, error: Exception) -> WeightsError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return WeightsError(
        f"{label} is neither a whole safetensors file nor a torch state_dict ({reason}): fetch it "
        "again"
    )


def _state_dict(content: Any, label: str) -> Tensors:
    """Return the innermost mapping of names to tensors."""
    while isinstance(content, Mapping) and not any(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        inner = next((key for key in NESTED if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = content[inner]
    if not isinstance(content, Mapping) or not content:
        kind = type(content).__name__
        raise WeightsError(f"{label} holds a {kind}, not a state_dict of tensors by name")
    for name, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise WeightsError(
                f"{label}: entry {name!r} is a {type(value).__name__}, not a tensor; save the "
                "state_dict alone"
            )
    return {str(name): value for name, value in content.items()}


def _prefixes(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the usual prefixes that all names have, outermost first."""
    names, prefixes = list(tensors), []
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in names)), None):
        names = [name.removeprefix(prefix) for name in names]
        prefixes.append(prefix)
    return prefixes


def _left_out(tensors: Mapping[str, torch.Tensor], head: Iterable[str], ref: NetworkRef) -> Tensors:
    """Return the tensors that are not of a head, under torchvision's newer names."""
    heads = [f"{name.rstrip('.')}." for name in head]
    heads += AUXILIARY if ref.name.startswith(TORCHVISION) else []
    left = {n: t for n, t in tensors.items() if not f"{n}.".startswith(tuple(heads or ["\0"]))}
    if ref.name.startswith(f"{TORCHVISION}densenet"):  # as torchvision's own loader renames them
        pattern = r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$"
        left = {re.sub(pattern, r"\1\2", name): tensor for name, tensor in left.items()}
    return left


def _best_names(tensors: Tensors, native: Mapping[str, str], network: str) -> Tensors:
    """Return the tensors under our names: those of the network's own state_dict, or ours already.

    `layerwise export weights` writes our names. The naming that explains more tensors counts.
    """
    ours = set(native.values())
    if not network.startswith(TORCHVISION) or len(ours & tensors.keys()) > len(
        native.keys() & tensors.keys()
    ):
        return tensors
    return {native.get(name, name): tensor for name, tensor in tensors.items()}


def _channels(given: Tensors, wanted: Tensors) -> int | None:
    """Return the channels that the first convolution of a file takes, if it wants others."""
    for name, tensor in wanted.items():
        if name.startswith("layer1.") and tensor.dim() == 4 and name in given:
            there, here = given[name].shape, tensor.shape
            is_alike = len(there) == 4 and (there[0], *there[2:]) == (here[0], *here[2:])
            return int(there[1]) if is_alike and there[1] != here[1] else None
    return None


def _check_numbers(name: str, tensor: torch.Tensor, wanted: torch.Tensor, label: str) -> None:
    """Raise `WeightsError` for a tensor of half precision, of another kind, or not finite."""
    if wanted.is_floating_point() and tensor.dtype not in FULL:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise WeightsError(
            f"{label}: tensor {name} is {kind}; save the weights as float32, with "
            "{name: tensor.float() for …}"
        )
    if not wanted.is_floating_point() and tensor.is_floating_point():
        raise WeightsError(f"{label}: tensor {name} has fractions, the network wants integers")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise WeightsError(
            f"{label}: tensor {name} has values that are not finite: the training that made it has "
            "diverged; use an earlier checkpoint"
        )
