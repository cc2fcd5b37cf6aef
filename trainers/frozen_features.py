"""Outputs of frozen layers, computed once for all trainings of this process that need them.

Outputs are known by the images, the layers and their weights. Those of more layers start from those
of fewer: seven transfers that copy 1 to 7 layers of one base pass its layers once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from trainers.canonical import digest
from trainers.config import NetworkRef
from trainers.evaluation import features
from trainers.networks import Network, tensors_of
from trainers.task_data import TaskData, Whole
from trainers.transfer import fingerprint
from trainers.views import View

Key = tuple[int, str, str]


def prefixes(network: Network, ref: NetworkRef, n: int) -> tuple[str, ...]:
    """Return a hash of the first m layers with their weights, for m = 1..n."""
    hashes, last = [], digest(ref)
    for layer in range(n):
        part = Network.of([network[layer]])
        last = digest([last, layer, fingerprint(part, tensors_of(part).keys())])
        hashes.append(last)
    return tuple(hashes)


class Kept:
    """The outputs that were used last, up to a number of bytes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, tuple[TaskData, TaskData]] = OrderedDict()

    def outputs(
        self,
        data: TaskData,
        network: Network,
        hashes: Sequence[str],
        precision: str,
        most_bytes: int,
    ) -> TaskData | None:
        """Return the outputs of the layers whose prefixes have these `hashes`, for all images.

        None if images are streamed, or if the outputs exceed `most_bytes`.
        """
        if any(not isinstance(part, Whole) for part in data.parts):
            return None
        known = [(id(data), precision, text) for text in hashes]
        first = next((m for m in range(len(known), 0, -1) if known[m - 1] in self._kept), 0)
        below = self._kept[known[first - 1]][1] if first else data
        if first < len(hashes):
            outputs = _outputs(network[first : len(hashes)], below, most_bytes)
            if outputs is None:
                return None
            below = outputs
        elif _bytes(below) > most_bytes:
            return None
        self._kept[known[-1]] = data, below
        self._kept.move_to_end(known[-1])
        while len(self._kept) > 1 and sum(_bytes(x) for _, x in self._kept.values()) > most_bytes:
            self._kept.popitem(last=False)
        return below

    def clear(self) -> None:
        """Drop all outputs."""
        self._kept.clear()


KEPT = Kept()


def _outputs(layers: nn.Module, data: TaskData, most_bytes: int) -> TaskData | None:
    sets = [part for part in data.parts if isinstance(part, Whole)]
    one = features(layers, [data.view.centre(sets[0].images[:1])])
    if one.nbytes * sum(len(part.labels) for part in sets) > most_bytes:
        return None
    view = View(tuple(one.shape[1:]), one.dtype)
    return TaskData(*(Whole(features(layers, p.chunks()), p.labels, view, p.chunk) for p in sets))


def _bytes(data: TaskData) -> int:
    return sum(part.images.nbytes for part in data.parts if isinstance(part, Whole))
