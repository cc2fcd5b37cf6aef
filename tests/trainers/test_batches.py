"""Batches: their order, and equal images whether they are whole on the device or streamed."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainings import BATCH_NORM, TASKS, photo_training, photos, training
from trainers.batches import Batches, BatchOrder
from trainers.canonical import freeze_options
from trainers.config import DatasetRef, Task, Training
from trainers.datasets import describe, load, task_arrays
from trainers.datasets.pack_writer import pack
from trainers.task_data import Streamed, Whole, task_data
from trainers.views import Augmentation, View

CPU = torch.device("cpu")


def order(one: Training, images: int = 50, steps: int = 12) -> list[list[int]]:
    order = BatchOrder(one, torch.zeros(images), CPU)
    return [order(step).tolist() for step in range(steps)]


def test_an_epoch_has_every_image_once_except_the_dropped_rest() -> None:
    steps = order(training(batch=16), images=50)
    assert {len(batch) for batch in steps} == {16}
    for epoch in range(4):
        seen = list(itertools.chain(*steps[3 * epoch : 3 * epoch + 3]))
        assert len(set(seen)) == len(seen) == 48
        assert set(seen) <= set(range(50))
    assert sorted(itertools.chain(*order(training(batch=10), 50, 5))) == list(range(50))


def test_a_batch_is_never_larger_than_the_images() -> None:
    order = BatchOrder(training(batch=64), torch.zeros(50), CPU)
    assert (order.batch, order.epoch(0), order.epoch(1)) == (50, 0, 1)
    assert sorted(order(7).tolist()) == list(range(50))


def test_epochs_differ_and_the_order_is_a_function_of_the_step() -> None:
    one = training(batch=16)
    steps = order(one)
    assert steps[:3] != steps[3:6]
    again = BatchOrder(one, torch.zeros(50), CPU)
    for step in (11, 0, 7, 6, 11, 3):  # resuming needs no replay
        assert again(step).tolist() == steps[step]


def test_trials_of_one_target_and_seed_get_the_same_batches() -> None:
    base = order(training())
    for other in (
        training("base_long", steps=40),
        training("selffer", 2),
        training("transfer", 1, fine_tuned=True, rate=1.0, dropout=0.5),
        training("random", 3, optimiser="adam", precision="float64"),
        training(network=BATCH_NORM),
    ):
        assert order(other) == base


@pytest.mark.parametrize(
    "other",
    [
        training(target="A"),
        training(seed=1),
        dataclasses.replace(training(), target=dataclasses.replace(TASKS["B"], images_per_class=5)),
    ],
)
def test_other_targets_and_seeds_get_other_batches(other: Training) -> None:
    assert order(other) != order(training())


def test_the_first_batches_are_known() -> None:
    """A change of the order changes every result, so it must be deliberate."""
    assert order(training(batch=8), 10, 2) == [
        [3, 5, 9, 1, 8, 4, 7, 6],
        [0, 8, 3, 5, 2, 1, 9, 4],
    ]


def all_batches(one: Training, whole_bytes: int, steps: int = 9) -> list[tuple[Any, Any]]:
    """Return the training batches, then the validation and the test images."""
    data = task_data(one, CPU, whole_bytes=whole_bytes)
    assert {type(part) for part in data.parts} == {Whole if whole_bytes else Streamed}
    with contextlib.closing(Batches(one, data, 3)) as batches:
        pairs = [batches(step) for step in range(steps)]
        for part in ("validation", "test"):
            images = torch.cat(list(batches.chunks(part)))
            pairs.append((images, getattr(data, part).labels))
        labels, chunks = batches.training_sample(5)
        pairs.append((torch.cat(list(chunks)), labels))
        assert len(pairs[-1][0]) == 5
        return pairs


def test_training_images_are_scored_on_a_sample_of_the_task() -> None:
    """All networks of a target are scored on the same images, whatever their seed."""
    one = training()
    other = dataclasses.replace(training("random", 1), seed=1)
    samples = []
    for member in (one, other):
        with contextlib.closing(Batches(member, task_data(member, CPU), 1)) as batches:
            labels, chunks = batches.training_sample(7)
            (images,) = chunks
            samples.append((images, labels))
            every, _ = batches.training_sample(10**6)
            assert every.equal(batches.data.train.labels)
    (images, labels), (same_images, same_labels) = samples
    assert images.equal(same_images)
    assert labels.equal(same_labels)
    assert len(images) == len(labels) == 7


VARIED = {"crop": 9, "mirror": True, "pixels": "mean_image"}


@pytest.mark.usefixtures("photo_data")
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(
    "recipe", [{}, VARIED, {"crop": 9}, {"mirror": True}, {"pixels": "mean_image"}]
)
def test_streamed_and_whole_batches_are_equal(
    recipe: dict[str, Any], stored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches are equal bit for bit, over three epochs and in evaluations of several chunks."""
    monkeypatch.setattr("trainers.task_data.CHUNK", 5)
    one = photo_training(photos={"stored": stored}, **recipe)
    pairs = zip(all_batches(one, 10**9), all_batches(one, 0), strict=True)
    for (images, labels), (streamed, same) in pairs:
        assert torch.equal(labels, same)
        assert torch.equal(images, streamed)
        assert images.stride() == streamed.stride()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.usefixtures("photo_data")
@pytest.mark.parametrize("recipe", [{}, VARIED])
def test_a_gpu_sees_the_same_batches(recipe: dict[str, Any]) -> None:
    """Images lie on the GPU or are streamed to it, with many uses of every buffer."""
    one = photo_training(steps=200, **recipe)
    cuda = torch.device("cuda")
    expected = all_batches(one, 10**9, 200)
    for whole_bytes in (10**9, 0):
        data = task_data(one, cuda, whole_bytes=whole_bytes)
        with contextlib.closing(Batches(one, data, 3)) as batches:
            on_gpu = [batches(step) for step in range(200)]
            torch.cuda.synchronize()
            assert (batches.waited() > 0) == (whole_bytes == 0)
        for (images, labels), on_cpu in zip(on_gpu, expected[:200], strict=True):
            assert torch.equal(images.cpu(), on_cpu[0])
            assert torch.equal(labels.cpu(), on_cpu[1])


@pytest.mark.usefixtures("photo_data")
@pytest.mark.parametrize("whole_bytes", [0, 10**9])
def test_a_batch_follows_the_recipe(whole_bytes: int) -> None:
    """Each image has the order, crop, mean image of the source, mirror and label of the recipe."""
    one = photo_training("transfer", 1, fine_tuned=True, normalise="source", **VARIED)
    train = photos().train
    stored = train.images.images  # type: ignore[union-attr]
    ours, source = np.flatnonzero(train.labels % 2 == 1), np.flatnonzero(train.labels % 2 == 0)
    mean = torch.from_numpy(stored[source].mean(0, dtype=np.float64)).float()
    view = View((3, 14, 14), torch.float32, 9)
    for step, (images, labels) in enumerate(all_batches(one, whole_bytes)[:9]):
        rows = BatchOrder(one, torch.zeros(20), CPU)(step)
        crops = Augmentation(one, view, 20, CPU)(step // 3)
        assert crops is not None
        for image, label, row in zip(images, labels, rows, strict=True):
            top, left, mirrored = (int(x[row]) for x in crops)
            square = np.s_[:, top : top + 9, left : left + 9]
            expected = torch.from_numpy(stored[ours[row]]).float()[square] - mean[square]
            assert torch.equal(image, expected.flip(2) if mirrored else expected)
            assert int(label) == {1: 0, 3: 1}[int(train.labels[ours[row]])]


@pytest.mark.usefixtures("photo_data")
def test_bytes_are_normalised_as_floats_are() -> None:
    images = task_data(photo_training(), CPU)
    with contextlib.closing(Batches(photo_training(steps=1, batch=20), images, 1)) as batches:
        batch = batches(0)[0].double()
    assert batch.mean((0, 2, 3)).tolist() == pytest.approx([0] * 3, abs=1e-6)
    assert batch.std((0, 2, 3), correction=0).tolist() == pytest.approx([1] * 3, abs=1e-6)


def test_files_and_their_pack_give_the_same_batches(
    tmp_path: Path, own_cache: Path, fresh_data: Callable[[], None]
) -> None:
    """Batches are equal bit for bit, streamed or not. So are the two mean images."""
    root = str(tmp_path / "data")
    options = freeze_options({"classes": 4, "images": 8, "test": 3, "held_out": 2, "size": 20})
    info = describe("generated", options)
    dataset = DatasetRef(name="generated", options=options, fingerprint=info.fingerprint)
    one = dataclasses.replace(
        training(batch=4, crop=16, mirror=True, pixels="mean_image"),
        target=Task(dataset=dataset, classes=(0, 3)),
    )

    def read() -> list[tuple[torch.Tensor, torch.Tensor]]:
        pairs = []
        for whole_bytes in (0, 10**9):
            data = task_data(one, CPU, whole_bytes=whole_bytes, data_root=root)
            with contextlib.closing(Batches(one, data, 3)) as batches:
                pairs += [batches(step) for step in range(7)]
                pairs.append((torch.cat(list(batches.chunks("test"))), data.test.labels))
        return pairs

    from_files = read()
    stored = load(dataset, root).stored
    assert stored is not None
    assert stored.pack == ""
    pack(stored, stored.folder / "packs", workers=1)
    fresh_data()
    from_pack = read()
    after = load(dataset, root).stored
    assert after is not None
    assert after.pack
    for (images, labels), (same_images, same_labels) in zip(from_files, from_pack, strict=True):
        assert torch.equal(images, same_images)
        assert torch.equal(labels, same_labels)
    assert len(list((own_cache / "means").iterdir())) == 2


def test_floats_lose_their_mean_image_and_are_cropped() -> None:
    """The mean image of the digits, which are floats, is in their own unit."""
    one = training(**VARIED)
    images, labels = task_arrays(TASKS["B"], "train")
    ready = torch.from_numpy(images - images.mean(0, dtype=np.float64)).float()
    data = task_data(one, CPU)
    with contextlib.closing(Batches(one, data, 1)) as batches:
        batch, batch_labels = batches(3)
    rows = BatchOrder(one, torch.zeros(80), CPU)(3)
    crops = Augmentation(one, data.view, 80, CPU)(0)
    assert crops is not None
    assert torch.equal(batch, data.view.training(ready, rows, crops.of(rows)))
    assert batch_labels.tolist() == labels[rows].tolist()
    assert data.view.seen == (1, 9, 9)
