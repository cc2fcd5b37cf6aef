"""The order of batches, and how images are normalised."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from trainings import BATCH_NORM, TASKS, training

from trainers.batches import BatchOrder, task_data
from trainers.config import Training
from trainers.datasets import load, task_arrays

CPU = torch.device("cpu")


def order(one: Training, images: int = 50, steps: int = 12) -> list[list[int]]:
    batches = BatchOrder(one, images, CPU)
    return [batches(step).tolist() for step in range(steps)]


def test_every_image_once_an_epoch_up_to_the_dropped_rest() -> None:
    steps = order(training(batch=16), images=50)
    assert {len(batch) for batch in steps} == {16}
    for epoch in range(4):
        seen = list(itertools.chain(*steps[3 * epoch : 3 * epoch + 3]))
        assert len(set(seen)) == len(seen) == 48
        assert set(seen) <= set(range(50))
    assert sorted(itertools.chain(*order(training(batch=10), 50, 5))) == list(range(50))


def test_a_batch_is_never_larger_than_the_images() -> None:
    batches = BatchOrder(training(batch=64), 50, CPU)
    assert (batches.batch, batches.per_epoch) == (50, 1)
    assert sorted(batches(7).tolist()) == list(range(50))


def test_epochs_differ_and_the_order_is_a_function_of_the_step() -> None:
    one = training(batch=16)
    steps = order(one)
    assert steps[:3] != steps[3:6]
    batches = BatchOrder(one, 50, CPU)
    for step in (11, 0, 7, 6, 11, 3):  # resuming needs no replay
        assert batches(step).tolist() == steps[step]


def test_trials_of_one_target_and_seed_see_the_same_batches() -> None:
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
def test_other_targets_and_seeds_see_others(other: Training) -> None:
    assert order(other) != order(training())


def test_the_first_batches_are_known() -> None:
    """A change of the order changes every result: it must be on purpose."""
    assert order(training(batch=8), 10, 2) == [
        [3, 5, 9, 1, 8, 4, 7, 6],
        [0, 8, 3, 5, 2, 1, 9, 4],
    ]


def normalised(one: Training, reference: np.ndarray) -> Any:
    images, _ = task_arrays(one.target, "test")
    mean, deviation = reference.mean(dtype=np.float64), reference.std(dtype=np.float64)
    return torch.from_numpy(((images - mean) / deviation).astype(np.float32))


def test_normalisation_by_target_source_and_whole() -> None:
    target, source = training("transfer", 2), training("transfer", 2, normalise="source")
    whole = training("transfer", 2, normalise="whole")
    by = {
        "target": (target, task_arrays(TASKS["B"], "train")[0]),
        "source": (source, task_arrays(TASKS["A"], "train")[0]),
        "whole": (whole, load(TASKS["A"].dataset).train.images),
    }
    found = {name: task_data(one, CPU).test[0] for name, (one, _) in by.items()}
    for name, (one, reference) in by.items():
        assert torch.allclose(found[name], normalised(one, reference), atol=1e-6), name
    assert not torch.equal(found["target"], found["source"])
    assert not torch.equal(found["target"], found["whole"])
    images = task_data(target, CPU).train[0].double()
    assert images.mean().item() == pytest.approx(0, abs=1e-6)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-6)


def test_by_the_target_all_treatments_see_identical_pixels() -> None:
    base = task_data(training(), CPU)
    for other in (training("transfer", 2), training("random", 1), training("selffer", 3)):
        assert torch.equal(task_data(other, CPU).train[0], base.train[0])


def test_a_base_is_its_own_source() -> None:
    found = task_data(training(normalise="source"), CPU)
    assert torch.equal(found.train[0], task_data(training(), CPU).train[0])


def test_each_channel_has_its_own_statistics_and_a_constant_one_is_harmless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    images = rng.normal((0, 5, 7), (1, 3, 0), size=(80, 4, 4, 3)).transpose(0, 3, 1, 2)
    labels = np.arange(80) % 5

    arrays = images.astype(np.float32), labels
    monkeypatch.setattr("trainers.batches.task_arrays", lambda *_: arrays)
    one = training(seed=1)
    task = dataclasses.replace(TASKS["B"], images_per_class=7)  # a task that is in no cache
    found = task_data(dataclasses.replace(one, target=task), CPU).train[0]
    assert found.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert found.std((0, 2, 3)).tolist() == pytest.approx([1, 1, 0], abs=1e-3)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("bfloat16", torch.float32), ("float64", torch.float64)],
)
def test_number_formats(precision: str, dtype: torch.dtype) -> None:
    data = task_data(training(precision=precision), CPU)
    assert {data.train[0].dtype, data.validation[0].dtype, data.test[0].dtype} == {dtype}
    assert [len(labels) for _, labels in (data.train, data.validation, data.test)] == [80, 30, 50]
    assert data.train[1].dtype == torch.int64
