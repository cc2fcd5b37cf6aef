"""Checkpoints: state to bytes and back, and damaged bytes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
import torch

from trainers.checkpoint import CheckpointError, checksum, pack, unpack, verify

TENSORS = {
    "network/layer1.weight": torch.arange(24, dtype=torch.float32).reshape(2, 3, 2, 2),
    "network/layer1.running": torch.tensor([0.1, float("nan")], dtype=torch.float64),
    "network/layer1.half": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
    "optimiser/step": torch.tensor(7.0),
    "network/batches": torch.tensor(2**40),
    "network/empty": torch.zeros(0, 3),
}
META = {"step": 7, "losses": [0.1, 1e-300, 2.5], "curve": [], "exact": True, "name": "A3B — s2"}


def test_unpack_returns_packed_tensors() -> None:
    tensors, meta = unpack(pack(TENSORS, META))
    assert meta == META
    assert sorted(tensors) == sorted(TENSORS)
    for name, tensor in TENSORS.items():
        assert (tensors[name].dtype, tensors[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(tensors[name].nan_to_num(), tensor.nan_to_num())


def test_infinite_numbers_survive_in_the_json() -> None:
    losses = unpack(pack({}, {"losses": [float("nan"), float("inf")]}))[1]["losses"]
    assert losses[1] == float("inf")
    assert losses[0] != losses[0]


def test_equal_state_gives_equal_bytes() -> None:
    backwards = dict(reversed(TENSORS.items())), dict(reversed(META.items()))
    assert pack(*backwards) == pack(TENSORS, META)
    last = {
        n: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t
        for n, t in TENSORS.items()
    }
    assert pack(last, META) == pack(TENSORS, META)
    graph = {n: t.requires_grad_() if t.is_floating_point() else t for n, t in last.items()}
    assert pack(graph, META) == pack(TENSORS, META)
    assert pack(TENSORS, META | {"step": 8}) != pack(TENSORS, META)


def test_bytes_are_equal_in_another_process() -> None:
    """Safetensors keeps metadata in a hash map whose seed differs per process."""
    code = (
        "import torch; from trainers.checkpoint import checksum, pack;"
        "print(checksum(pack({'b': torch.ones(2), 'a': torch.zeros(3)}, {'x': 1, 'y': [2.5]})))"
    )
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    here = pack({"a": torch.zeros(3), "b": torch.ones(2)}, {"y": [2.5], "x": 1})
    assert process.stdout.strip() == checksum(here) == hashlib.sha256(here).hexdigest()


def test_every_truncation_is_found() -> None:
    data = pack(TENSORS, META)
    for length in [*range(0, len(data), 7), len(data) - 1]:
        with pytest.raises(CheckpointError, match=r"^not a checkpoint: "):
            unpack(data[:length])


@pytest.mark.parametrize("place", [0, 8, 9, 100, -1])
def test_a_damaged_byte_is_found(place: int) -> None:
    data = pack(TENSORS, META)
    damaged = bytearray(data)
    damaged[place] ^= 1
    with pytest.raises(CheckpointError, match=r"^damaged checkpoint: hash [0-9a-f]{16}, expected"):
        verify(bytes(damaged), checksum(data))
    assert verify(data, checksum(data)) is data
    assert verify(data, checksum(data)[:16]) is data


def test_no_hash_verifies_nothing() -> None:
    with pytest.raises(CheckpointError, match="damaged checkpoint"):
        verify(b"anything", "")


def test_other_files_are_no_checkpoints() -> None:
    from safetensors.torch import save

    for data in (b"", b"{}", b"PK\x03\x04" * 100, save({"a": torch.ones(2)})):
        with pytest.raises(CheckpointError, match=r"^not a checkpoint: "):
            unpack(data)
    with pytest.raises(CheckpointError, match=r"^not a checkpoint: "):
        unpack(save({"a": torch.ones(2)}, {"layerwise": "{"}))


def test_the_file_is_safetensors_with_one_entry_of_json() -> None:
    data = pack(TENSORS, META)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert list(header["__metadata__"]) == ["layerwise"]
    assert json.loads(header["__metadata__"]["layerwise"]) == META
    assert b"pickle" not in data
