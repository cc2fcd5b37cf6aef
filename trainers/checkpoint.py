"""Checkpoints: state as safetensors bytes with JSON beside it, checked by their SHA-256.

There are no pickles. Equal state gives equal bytes, so that a hash identifies the content. The
caller decides where the bytes are kept.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ENTRY = "layerwise"
MOST_JSON = 10**8  # bytes of a header, as safetensors allows


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
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"not a checkpoint: {error}") from error
    return tensors, read_meta(io.BytesIO(data))


def read_meta(file: IO[bytes]) -> dict[str, Any]:
    """Return the JSON values of `pack` from the start of an open file, without the tensors.

    The content is not compared with its hash. Raises `CheckpointError` for other bytes.
    """
    try:
        length = int.from_bytes(file.read(8), "little")
        if length > MOST_JSON:
            raise ValueError("its header is too long")
        meta = json.loads(json.loads(file.read(length))["__metadata__"][ENTRY])
        if not isinstance(meta, dict):
            raise ValueError("its JSON is no mapping")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"not a checkpoint: {error}") from error
    return meta


def checksum(data: bytes) -> str:
    """Return the SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def verify(data: bytes, expected: str) -> bytes:
    """Return `data` if its SHA-256 begins with `expected`; raise `CheckpointError` if not."""
    actual = checksum(data)
    if not expected or not actual.startswith(expected):
        raise CheckpointError(f"damaged checkpoint: hash {actual[:16]}, expected {expected[:16]}")
    return data
