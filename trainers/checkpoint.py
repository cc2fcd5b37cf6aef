"""Checkpoints: state as safetensors bytes with JSON beside it, checked by their SHA-256.

There are no pickles. Equal state gives equal bytes, so that a hash identifies the content. The
caller decides where the bytes are kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ENTRY = "layerwise"


class CheckpointError(Exception):
    """A checkpoint that is damaged, missing, or another one than expected."""


def pack(tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> bytes:
    """Return tensors and JSON values as the bytes of one safetensors file.

    The JSON is a single entry: safetensors keeps its entries in a hash map, whose order varies.
    """
    from safetensors.torch import save

    on_cpu: dict[str, torch.Tensor] = {}
    places: set[int] = set()  # safetensors refuses tensors that share memory
    for name, tensor in tensors.items():
        copy = tensor.detach().cpu().contiguous()
        place = copy.untyped_storage().data_ptr()
        on_cpu[name] = copy.clone() if place in places else copy
        places.add(place)
    return save(on_cpu, {ENTRY: json.dumps(meta, sort_keys=True)})


def unpack(data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors and JSON values of `pack`. Raises `CheckpointError` for other bytes."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        meta = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][ENTRY])
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"not a checkpoint: {error}") from error
    return tensors, meta


def checksum(data: bytes) -> str:
    """Return the SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def verify(data: bytes, expected: str) -> bytes:
    """Return `data` if its SHA-256 begins with `expected`; raise `CheckpointError` if not."""
    actual = checksum(data)
    if not expected or not actual.startswith(expected):
        raise CheckpointError(f"damaged checkpoint: hash {actual[:16]}, expected {expected[:16]}")
    return data
