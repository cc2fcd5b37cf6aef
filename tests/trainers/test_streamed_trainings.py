"""Training on images that are read as it goes."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.execution import worker
from orchestrator.store.store import Store
from tests.trainers.runs import assert_equal, assignment
from tests.trainings import photo_training, result
from trainers import streams
from trainers.datasets import DataError
from trainers.learner import Learner
from trainers.loop import train
from trainers.results import Runtime, Snapshot
from trainers.task_data import task_data

CPU = torch.device("cpu")
STREAMED = Runtime(whole_bytes=0, readers=3, checkpoint_seconds=0.0)
PHOTOS = {"steps": 14, "evaluate_every": 5, "crop": 9, "mirror": True, "pixels": "mean_image"}


@pytest.fixture
def photo_data(photo_data: None) -> Iterator[None]:  # noqa: ARG001
    """Make `photos` a known dataset, and check that no thread that reads it outlives a training."""
    yield
    assert not reading()


def reading() -> list[str]:
    """Return the names of the threads that read images."""
    return [t.name for t in threading.enumerate() if t.name.startswith(streams.READERS)]


@pytest.mark.usefixtures("photo_data")
def test_a_streamed_training_is_the_same_bit_for_bit() -> None:
    """It equals a training whose images are in memory, also when it is resumed from any step."""
    one = photo_training(dropout=0.3, **PHOTOS)
    expected = result(one, whole_bytes=10**9)
    streamed = list(train(one, runtime=STREAMED))
    assert_equal(streamed[-1], expected, resumes=0)
    assert expected.seconds.wait == 0 < streamed[-1].seconds.wait  # type: ignore[union-attr]
    for snapshot in [row for row in streamed if isinstance(row, Snapshot)][::3]:
        last = list(train(one, resume=snapshot.data, runtime=STREAMED))[-1]
        assert_equal(last, expected, resumes=1)


@pytest.mark.usefixtures("photo_data")
@pytest.mark.parametrize("varied", [True, False])
def test_frozen_layers_see_images_that_vary_at_every_step(varied: bool) -> None:
    """Features are kept only if they are the same in every step, of streamed images too."""
    recipe = PHOTOS if varied else {"steps": 14, "evaluate_every": 5}
    parent = result(photo_training(**recipe), whole_bytes=10**9).checkpoint
    one = photo_training("selffer", 2, **recipe)
    for whole_bytes in (0, 10**9):
        data = task_data(one, CPU, whole_bytes=whole_bytes)
        with contextlib.closing(Learner(one, data, parent, 10**9)) as learner:
            assert learner.cached_layers == (0 if varied else 2)
    whole, streamed = (result(one, parent, whole_bytes=size) for size in (10**9, 0))
    assert_equal(streamed, whole, resumes=0)


@pytest.mark.usefixtures("photo_data")
@pytest.mark.parametrize("rows_taken", [0, 1, 3])
def test_reading_ends_with_the_training(rows_taken: int) -> None:
    """The threads end, also if the caller closes the training after some rows."""
    training_rows = train(photo_training(**PHOTOS), runtime=STREAMED)
    taken = list(itertools.islice(training_rows, rows_taken))
    assert len(taken) == rows_taken
    assert bool(reading()) == bool(rows_taken)
    training_rows.close()
    assert not reading()


@pytest.mark.usefixtures("photo_data")
@pytest.mark.parametrize("raised", [KeyboardInterrupt, OSError])
def test_reading_ends_when_the_one_who_watches_fails(
    raised: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.task_data.CPU_BYTES", 0)
    given = assignment(photo_training(**PHOTOS), Store(tmp_path), None)

    def watch(*_: Any) -> None:
        assert reading()
        raise raised

    with pytest.raises(raised):
        worker.run(given, watch=watch)
    assert not reading()


@pytest.mark.usefixtures("photo_data")
def test_an_image_that_cannot_be_read_ends_the_training_with_its_name() -> None:
    """The training ends at the step that needs the image."""
    broken = photo_training(photos={"broken": 1}, **PHOTOS | {"pixels": "standard"})
    with pytest.raises(DataError, match=r"^image 1 cannot be read$"):
        list(train(broken, runtime=STREAMED))
    assert not reading()
