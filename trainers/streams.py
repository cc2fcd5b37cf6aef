"""Streams of images: threads read ahead into reusable buffers, which are copied to the device.

The batches of a stream are numbered, and a function gives the images of a number. So a stream can
begin anywhere, and a resumed training needs no replay.
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
READERS = "layerwise-reader"  # the prefix of the threads' names

T = TypeVar("T")


class InMemory:
    """Images (`Pixels`) of an array (N, C, H, W), uint8."""

    def __init__(self, images: np.ndarray):
        self.images = images
        n, c, h, w = images.shape
        self.shape = (n, c, h, w)

    def gather(self, indices: np.ndarray, out: np.ndarray) -> None:
        self.images.take(indices, axis=0, out=out, mode="clip")  # other modes copy twice


class Stream:
    """Batches of `pixels` by number, from 0 to `stop` − 1, with at most `size` images each.

    `indices(number)` returns the images (B,) of a batch. The threads of `pool` read up to `AHEAD`
    batches beyond the one in use. On a GPU the buffers are pinned, and copies run on their own CUDA
    stream beside the computation. `take` raises the errors of the threads. Call `close` before the
    pool ends.
    """

    def __init__(
        self,
        pixels: Pixels,
        indices: Callable[[int], np.ndarray],
        *,
        stop: int,
        size: int,
        device: torch.device,
        pool: ThreadPoolExecutor,
    ):
        self.pixels, self.indices, self.stop, self.pool = pixels, indices, stop, pool
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

    def take(self, number: int, use: Callable[[torch.Tensor], T]) -> T:
        """Return `use(images)` of batch `number`; its images (B, C, H, W) are uint8 on the device.

        The memory of the images is reused afterwards. Batches in order are read ahead. Raises
        `IndexError` for a number outside the stream, and `DataError`.
        """
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
        self._copy_ahead()
        self._count_wait(began, slot)
        self._queue.popleft()
        self._next += 1
        try:
            self._read_ahead()
            return use(slot.on_device[: slot.images])
        finally:
            slot.release()
            self._spare.append(slot)

    def waited(self) -> float:
        """Return the seconds of waiting for images since the last call.

        On a GPU these are the seconds in which it was idle; synchronise before the call.
        """
        milliseconds = sum(began.elapsed_time(ended) for began, ended in self._waits)
        seconds: float = self._seconds + milliseconds / 1000
        self._seconds = 0.0
        self._waits.clear()
        return seconds

    def close(self) -> None:
        """Stop reading ahead. Afterwards no thread writes into a buffer."""
        self._drop()
        if self.copies is not None:
            self.copies.synchronize()

    def _read_ahead(self) -> None:
        while len(self._queue) <= AHEAD and self._next + len(self._queue) < self.stop:
            if self._slots < AHEAD + 2:  # the queue, and one in use
                self._spare.appendleft(_Slot(self.shape, self.device))
                self._slots += 1
            indices = self.indices(self._next + len(self._queue))
            self._queue.append(slot := self._spare.popleft())
            slot.read(self.pixels, indices, self.pool)

    def _copy_ahead(self) -> None:
        """Begin to copy the batches that are read to the device, in order."""
        if self.copies is None:
            return
        for slot in self._queue:
            if not all(part.done() and part.exception() is None for part in slot.reading):
                return
            slot.copy(self.copies)

    def _drop(self) -> None:
        """Cancel the reading ahead, and wait for what cannot be cancelled."""
        reading = [part for slot in self._queue for part in slot.reading]
        for part in reading:
            part.cancel()
        wait(reading)
        self._spare.extend(self._queue)
        self._queue.clear()

    def _now(self) -> float | torch.cuda.Event:
        """Return the time on the CPU, or an event on the GPU."""
        if self.copies is None:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _count_wait(self, began: float | torch.cuda.Event, slot: _Slot) -> None:
        """Make the next computation wait for the slot's copy, and count the time."""
        if isinstance(began, float):
            self._seconds += time.perf_counter() - began
        else:
            slot.copied.wait()
            ended = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            ended.record()
            self._waits.append((began, ended))


class _Slot:
    """A buffer that threads write into, and on a GPU a second one there.

    The threads wait until the last copy is done (`copied`). A copy waits until the computation on
    the last one is done (`free`).
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device):
        cuda = device.type == "cuda"
        self.host = torch.empty(shape, dtype=torch.uint8, pin_memory=cuda)
        self.on_device = self.host
        if cuda:
            self.on_device = torch.empty(shape, dtype=torch.uint8, device=device)
        self.images = 0
        self.reading: list[Future[None]] = []
        self.is_copied = True
        if cuda:
            self.copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.free = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.free.record()  # an earlier computation may still read this memory

    def read(self, pixels: Pixels, indices: np.ndarray, pool: ThreadPoolExecutor) -> None:
        """Begin to read the images at `indices` into the buffer, in slices."""
        if self.on_device is not self.host:
            self.copied.synchronize()
        self.images, self.is_copied = len(indices), False
        buffer = self.host.numpy()
        self.reading = []
        for start in range(0, len(indices), SLICE):
            part = slice(start, min(start + SLICE, len(indices)))
            self.reading.append(pool.submit(pixels.gather, indices[part], buffer[part]))

    def copy(self, copies: torch.cuda.Stream) -> None:
        """Begin to copy the buffer to the GPU."""
        if self.is_copied:
            return
        with torch.cuda.stream(copies):
            self.free.wait()
            self.on_device[: self.images].copy_(self.host[: self.images], non_blocking=True)
            self.copied.record()
        self.is_copied = True

    def release(self) -> None:
        """Mark the end of the computation on this buffer, as queued so far."""
        if self.on_device is not self.host:
            self.free.record()


def in_chunks(
    pixels: Pixels, members: np.ndarray, size: int, device: torch.device, readers: int
) -> Iterator[torch.Tensor]:
    """Yield the `pixels` at `members` (N,) in chunks (≤ size, C, H, W), uint8, on the device."""
    with (
        ThreadPoolExecutor(readers, READERS) as pool,
        contextlib.closing(chunk_stream(pixels, members, size, device, pool)) as stream,
    ):
        for number in range(stream.stop):
            yield stream.take(number, torch.clone)


def chunk_stream(
    pixels: Pixels, members: np.ndarray, size: int, device: torch.device, pool: ThreadPoolExecutor
) -> Stream:
    """Return a stream of the `pixels` at `members` (N,), in order, `size` images per batch."""
    return Stream(
        pixels,
        lambda number: members[number * size : (number + 1) * size],
        stop=-(-len(members) // size),
        size=min(size, len(members)),
        device=device,
        pool=pool,
    )
