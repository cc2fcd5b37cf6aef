"""Outputs of frozen layers, computed once for all trainings of this process that need them.

Outputs are known by the images, the layers and their weights. Those of more layers start from those
of fewer: seven transfers that copy 1 to 7 layers of one base pass its layers once. They are kept in
memory; on a CPU, those that are too large in a file that goes away with this process.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import nn

from trainers import streams
from trainers.batches import chunks_at
from trainers.canonical import digest
from trainers.config import NetworkRef
from trainers.networks import Network, tensors_of
from trainers.task_data import Streamed, TaskData, Whole
from trainers.transfer import fingerprint
from trainers.views import View

Key = tuple[int, str, str]

SHARE_OF_DISK = 0.25
"""Share of what is free in the folder of temporary files that outputs may take, at most."""


class Room(NamedTuple):
    """Largest sizes of outputs that are kept, in bytes: in memory, and in files."""

    memory: int
    disk: int = 0


def prefixes(network: Network, ref: NetworkRef, n: int) -> tuple[str, ...]:
    """Return a hash of the first m layers with their weights, for m = 1..n."""
    hashes, last = [], digest(ref)
    for layer in range(n):
        part = Network.of([network[layer]])
        last = digest([last, layer, fingerprint(part, tensors_of(part).keys())])
        hashes.append(last)
    return tuple(hashes)


class _Entry(NamedTuple):
    data: TaskData
    """Images or outputs from which these were computed, so that their id stays theirs."""
    outputs: TaskData
    on_disk: bool

    @property
    def bytes(self) -> int:
        return sum(x.images.nbytes for x in self.outputs.parts if isinstance(x, Whole))


class Kept:
    """The outputs that were used last, up to a number of bytes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, _Entry] = OrderedDict()

    def outputs(
        self,
        data: TaskData,
        network: Network,
        hashes: Sequence[str],
        precision: str,
        room: Room,
        readers: int,
    ) -> TaskData | None:
        """Return the outputs of the layers whose prefixes have these `hashes`, for all images.

        Streamed images are read by `readers` threads. None if the outputs exceed `room`.
        """
        known = [(id(data), precision, text) for text in hashes]
        first = next((m for m in range(len(known), 0, -1) if known[m - 1] in self._kept), 0)
        entry = self._kept[known[first - 1]] if first else None
        if entry is None or first < len(hashes):
            below = entry.outputs if entry else data
            made = _outputs(network[first : len(hashes)], below, room, readers)
            if made is None:
                return None
            entry = _Entry(data, *made)
        elif entry.bytes > (room.disk if entry.on_disk else room.memory):
            return None
        self._kept[known[-1]] = entry
        self._kept.move_to_end(known[-1])
        for on_disk, most in ((False, room.memory), (True, room.disk)):
            self._drop_oldest(on_disk, most)
        return entry.outputs

    def _drop_oldest(self, on_disk: bool, most: int) -> None:
        kept = [key for key, entry in self._kept.items() if entry.on_disk is on_disk]
        size = sum(self._kept[key].bytes for key in kept)
        for key in kept[:-1]:
            if size <= most:
                return
            size -= self._kept.pop(key).bytes

    def clear(self) -> None:
        """Drop all outputs."""
        self._kept.clear()


KEPT = Kept()


@torch.no_grad()
def _outputs(
    layers: nn.Module, data: TaskData, room: Room, readers: int
) -> tuple[TaskData, bool] | None:
    """Return the outputs for all images, and whether they are in a file; None without room."""
    with ThreadPoolExecutor(readers, streams.READERS) as pool:

        def images(part: Whole | Streamed, count: int) -> Iterator[torch.Tensor]:
            return chunks_at(part, torch.arange(count), pool)

        one = layers(next(images(data.train, 1)))
        size = one.nbytes * sum(len(part.labels) for part in data.parts)
        on_disk = size > room.memory
        if on_disk and (one.device.type != "cpu" or not _fits_disk(size, room.disk)):
            return None
        view, sets = View(tuple(one.shape[1:]), one.dtype), []
        for part in data.parts:
            count = len(part.labels)
            values = _on_disk(count, one) if on_disk else _in_memory(count, one)
            if values is None:
                return None
            done = 0
            for chunk in images(part, count):
                values[done : done + len(chunk)] = layers(chunk)
                done += len(chunk)
            sets.append(Whole(values, part.labels, view, part.chunk))
    return TaskData(*sets), on_disk


def _fits_disk(size: int, most: int) -> bool:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    return size <= min(most, SHARE_OF_DISK * free)


def _in_memory(count: int, one: torch.Tensor) -> torch.Tensor:
    """Return room for `count` outputs like `one` (1, …), with the channels last."""
    form = torch.channels_last if one.dim() == 4 else torch.contiguous_format
    shape = (count, *one.shape[1:])
    return torch.empty(shape, dtype=one.dtype, device=one.device, memory_format=form)


def _on_disk(count: int, one: torch.Tensor) -> torch.Tensor | None:
    """Return the same in a file; None if the disk has no room."""
    if one.dim() != 4:
        return in_file((count, *one.shape[1:]), one.dtype)
    c, h, w = one.shape[1:]
    values = in_file((count, h, w, c), one.dtype)
    return None if values is None else values.permute(0, 3, 1, 2)


def in_file(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor | None:
    """Return a new tensor in a file without a name in the folder of temporary files.

    The disk has all of it at once, so that no later write fails. None if it has no room.
    """
    values = math.prod(shape)
    with tempfile.NamedTemporaryFile(prefix="layerwise-features-") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, max(1, values * dtype.itemsize))
        except OSError:
            return None
        return torch.from_file(file.name, shared=True, size=values, dtype=dtype).view(shape)
