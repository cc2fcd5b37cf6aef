"""Streams of images: order, reading ahead, failures, and the end of the threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tests.trainings import Photos
from trainers.datasets import DataError
from trainers.streams import AHEAD, READERS, SLICE, InMemory, Stream, chunk_stream, in_chunks

CPU = torch.device("cpu")
IMAGES = np.random.RandomState(0).randint(0, 256, (100, 3, 5, 4)).astype(np.uint8)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3, READERS) as threads:
        yield threads
    assert not readers()


def readers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith(READERS)]


def indices(number: int) -> np.ndarray:
    return np.random.RandomState(number).permutation(100)[:70]


def stream(pixels: object, pool: ThreadPoolExecutor, stop: int = 9) -> Stream:
    return Stream(pixels, indices, stop=stop, size=70, device=CPU, pool=pool)  # type: ignore[arg-type]


def test_batches_in_any_order(pool: ThreadPoolExecutor) -> None:
    """A batch is a function of its number."""
    photos = Photos(IMAGES)
    one = stream(photos, pool)
    for number in (0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 2, 3, 7, 0, 1):
        assert np.array_equal(one.take(number, torch.clone), IMAGES[indices(number)])
    one.close()
    assert all(name.startswith(READERS) for name in photos.readers)


@pytest.mark.parametrize("number", [-1, 9])
def test_a_batch_outside_the_stream(number: int, pool: ThreadPoolExecutor) -> None:
    with pytest.raises(IndexError, match="of a stream of 9"):
        stream(Photos(IMAGES), pool).take(number, torch.clone)


def test_batches_are_read_ahead_but_none_from_stop_on(pool: ThreadPoolExecutor) -> None:
    numbers: list[int] = []

    def note(number: int) -> np.ndarray:
        numbers.append(number)
        return indices(number)

    one = Stream(InMemory(IMAGES), note, stop=7, size=70, device=CPU, pool=pool)
    for number in range(7):
        one.take(number, lambda _: None)
        assert numbers == list(range(min(7, number + 1 + AHEAD + 1)))
    one.close()


def test_a_batch_is_read_in_slices(pool: ThreadPoolExecutor) -> None:
    lengths = []

    class Noting(Photos):
        def gather(self, indices: np.ndarray, out: np.ndarray) -> None:
            lengths.append(len(indices))
            super().gather(indices, out)

    stream(Noting(IMAGES), pool, stop=1).take(0, torch.clone)
    assert sorted(lengths) == sorted([SLICE, SLICE, 70 - 2 * SLICE])


def test_the_error_of_a_thread_is_raised_by_its_batch(pool: ThreadPoolExecutor) -> None:
    broken = next(i for i in indices(2) if i not in indices(0) and i not in indices(1))
    one = stream(Photos(IMAGES, int(broken)), pool)
    one.take(0, torch.clone)
    one.take(1, torch.clone)
    for _ in range(2):
        with pytest.raises(DataError, match=f"^image {broken} cannot be read$"):
            one.take(2, torch.clone)
    one.close()


def test_closing_waits_for_the_threads_and_starts_nothing(pool: ThreadPoolExecutor) -> None:
    blocked, go = threading.Event(), threading.Event()
    begun: list[int] = []
    ended: list[int] = []

    class Slow(Photos):
        def gather(self, indices: np.ndarray, out: np.ndarray) -> None:
            begun.append(len(indices))
            if len(begun) > 6:  # after the first batch, while reading ahead
                blocked.set()
                go.wait()
            super().gather(indices, out)
            ended.append(len(indices))

    one = stream(Slow(IMAGES), pool)
    one.take(0, torch.clone)
    blocked.wait()
    threading.Timer(0.05, go.set).start()
    one.close()
    assert 6 < len(begun) == len(ended) <= 9


def test_waiting_is_counted_once(pool: ThreadPoolExecutor) -> None:
    class Slow(Photos):
        def gather(self, indices: np.ndarray, out: np.ndarray) -> None:
            time.sleep(0.02)
            super().gather(indices, out)

    one = stream(Slow(IMAGES), pool)
    one.take(0, torch.clone)
    assert 0.02 <= one.waited() < 20
    assert one.waited() == 0
    one.close()


def test_chunks_have_all_members_in_order(pool: ThreadPoolExecutor) -> None:
    chosen = np.flatnonzero(np.arange(100) % 3)
    images = torch.cat(list(in_chunks(Photos(IMAGES), chosen, 25, CPU, 2)))
    assert np.array_equal(images, IMAGES[chosen])
    one = chunk_stream(InMemory(IMAGES), chosen, 25, CPU, pool)
    assert one.stop == 3
    for _ in range(2):  # several evaluations read the same chunks
        lengths = [one.take(number, len) for number in range(one.stop)]
        assert lengths == [25, 25, 16]
    one.close()
    assert chunk_stream(InMemory(IMAGES), chosen, 1000, CPU, pool).stop == 1


@pytest.mark.parametrize("broken", [None, 0, 90])
def test_chunks_leave_no_thread_behind(broken: int | None) -> None:
    chunks = in_chunks(Photos(IMAGES, broken), np.arange(100), 10, CPU, 2)
    if broken == 0:
        with pytest.raises(DataError, match=r"^image 0 cannot be read$"):
            next(chunks)
    else:
        assert np.array_equal(next(chunks), IMAGES[:10])
        chunks.close()  # type: ignore[attr-defined]
    assert not readers()
