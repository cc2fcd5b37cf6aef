"""State to bytes and back: safetensors with JSON beside it, named and checked by its SHA-256.

No pickles. Equal state gives equal bytes, so a checkpoint's hash says what is in it. The caller
supplies where the bytes go.
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
    """A checkpoint is damaged, or is not the one that was asked for."""


def pack(tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> bytes:
    """Tensors and JSON values as one safetensors file.

    The JSON is a single entry: safetensors keeps its entries in a hash map, whose order varies.
    """
    from safetensors.torch import save

    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(ready, {ENTRY: json.dumps(meta, sort_keys=True)})


def unpack(data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What `pack` was given. Raises `CheckpointError` on bytes that are not such a file."""
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
    return hashlib.sha256(data).hexdigest()


def verify(data: bytes, expected: str) -> bytes:
    """`data`, if its SHA-256 begins with `expected`; else `CheckpointError`."""
    found = checksum(data)
    if not expected or not found.startswith(expected):
        raise CheckpointError(f"damaged checkpoint: hash {found[:16]}, expected {expected[:16]}")
    return data
