"""Images gathered ahead of time by threads into reusable buffers, and moved to the device.

A stream's batches are numbered, and what a number stands for is asked of a function: it can begin
anywhere, so that a resumed training needs no replay.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np
import torch

from trainers.datasets import Pixels

AHEAD = 3  # batches that are read while one is used
SLICE = 32  # images that a thread reads at a time
READERS = "layerwise-reader"  # the threads' name

T = TypeVar("T")


class InMemory:
    """An array of images (N, C, H, W), uint8, as `Pixels`."""

    def __init__(self, images: np.ndarray):
        self.images = images
        n, c, h, w = images.shape
        self.shape = (n, c, h, w)

    def gather(self, indices: np.ndarray, out: np.ndarray) -> None:
        self.images.take(indices, axis=0, out=out, mode="clip")  # other modes copy once more


class Stream:
    """Batches of `pixels`, at most `size` images each; batch `number` is `wanted(number)`.

    The threads of `pool` read up to `AHEAD` batches beyond the one in use, never one from `stop`
    on. On a GPU the buffers are pinned, and copies run beside the computing, on a stream of their
    own. What a thread raises is raised by `take`. `close` before the pool ends.
    """

    def __init__(
        self,
        pixels: Pixels,
        wanted: Callable[[int], np.ndarray],
        *,
        stop: int,
        size: int,
        device: torch.device,
        pool: ThreadPoolExecutor,
    ):
        self.pixels, self.wanted, self.stop, self.pool = pixels, wanted, stop, pool
        self.copies: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self.copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.device, self.shape = device, (size, *pixels.shape[1:])
        self._spare: deque[_Slot] = deque()
        self._queue: deque[_Slot] = deque()
        self._slots = 0
        self._next = 0  # the number of the first batch in the queue
        self._waits: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0

    def take(self, number: int, make: Callable[[torch.Tensor], T]) -> T:
        """What `make` makes of batch `number`, uint8 on the device, whose memory is used again."""
        if not 0 <= number < self.stop:
            raise IndexError(f"batch {number} of a stream of {self.stop}")
        if number != self._next:
            self._drop()
            self._next = number
        began = self._now()
        self._read_ahead()
        slot = self._queue[0]
        for part in slot.reading:
            part.result()
        self._move_ahead()
        self._count_wait(began, slot)
        self._queue.popleft()
        self._next += 1
        try:
            self._read_ahead()
            return make(slot.there[: slot.images])
        finally:
            slot.used()
            self._spare.append(slot)

    def waited(self) -> float:
        """Seconds that were spent waiting for images since this was asked last.

        On a GPU they are those in which it had nothing to do; the caller synchronises first.
        """
        milliseconds = sum(began.elapsed_time(ended) for began, ended in self._waits)
        seconds: float = self._seconds + milliseconds / 1000
        self._seconds = 0.0
        self._waits.clear()
        return seconds

    def close(self) -> None:
        """Stop reading ahead; when this returns, no thread writes into a buffer."""
        self._drop()
        if self.copies is not None:
            self.copies.synchronize()

    def _read_ahead(self) -> None:
        while len(self._queue) <= AHEAD and self._next + len(self._queue) < self.stop:
            if self._slots < AHEAD + 2:  # those in the queue, and one in use
                self._spare.appendleft(_Slot(self.shape, self.device))
                self._slots += 1
            indices = self.wanted(self._next + len(self._queue))
            self._queue.append(slot := self._spare.popleft())
            slot.read(self.pixels, indices, self.pool)

    def _move_ahead(self) -> None:
        """Begin to copy what is read, in order."""
        if self.copies is None:
            return
        for slot in self._queue:
            if not all(part.done() and part.exception() is None for part in slot.reading):
                return
            slot.move(self.copies)

    def _drop(self) -> None:
        reading = [part for slot in self._queue for part in slot.reading]
        for part in reading:
            part.cancel()
        wait(reading)
        self._spare.extend(self._queue)
        self._queue.clear()

    def _now(self) -> float | torch.cuda.Event:
        if self.copies is None:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _count_wait(self, began: float | torch.cuda.Event, slot: _Slot) -> None:
        """Let what is computed next wait for the slot's copy, and count for how long."""
        if isinstance(began, float):
            self._seconds += time.perf_counter() - began
        else:
            slot.moved.wait()
            ended = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            ended.record()
            self._waits.append((began, ended))


class _Slot:
    """A buffer that threads write, and on a GPU its twin there.

    Each waits for the other: the threads until the last copy is done (`moved`), a copy until what
    was computed from the last one is (`free`).
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device):
        cuda = device.type == "cuda"
        self.host = torch.empty(shape, dtype=torch.uint8, pin_memory=cuda)
        self.there = torch.empty(shape, dtype=torch.uint8, device=device) if cuda else self.host
        self.images = 0
        self.reading: list[Future[None]] = []
        self.is_moved = True
        if cuda:
            self.moved = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.free = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.free.record()  # whatever had this memory before

    def read(self, pixels: Pixels, indices: np.ndarray, pool: ThreadPoolExecutor) -> None:
        if self.there is not self.host:
            self.moved.synchronize()
        self.images, self.is_moved = len(indices), False
        buffer = self.host.numpy()
        self.reading = []
        for start in range(0, len(indices), SLICE):
            part = slice(start, min(start + SLICE, len(indices)))
            self.reading.append(pool.submit(pixels.gather, indices[part], buffer[part]))

    def move(self, copies: torch.cuda.Stream) -> None:
        if self.is_moved:
            return
        with torch.cuda.stream(copies):
            self.free.wait()
            self.there[: self.images].copy_(self.host[: self.images], non_blocking=True)
            self.moved.record()
        self.is_moved = True

    def used(self) -> None:
        if self.there is not self.host:
            self.free.record()


def in_chunks(
    pixels: Pixels, members: np.ndarray, size: int, device: torch.device, readers: int
) -> Iterator[torch.Tensor]:
    """`pixels` at `members`, in their order, `size` at a time, on the device."""
    with (
        ThreadPoolExecutor(readers, READERS) as pool,
        contextlib.closing(chunk_stream(pixels, members, size, device, pool)) as stream,
    ):
        for number in range(stream.stop):
            yield stream.take(number, torch.clone)


def chunk_stream(
    pixels: Pixels, members: np.ndarray, size: int, device: torch.device, pool: ThreadPoolExecutor
) -> Stream:
    """A stream whose batch i is the i-th `size` of `members`."""
    return Stream(
        pixels,
        lambda number: members[number * size : (number + 1) * size],
        stop=-(-len(members) // size),
        size=min(size, len(members)),
        device=device,
        pool=pool,
    )
