"""The images of a task: normalisation, number formats, and which images are whole on the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trainings import TASKS, photo_training, photos, training
from trainers import checkpoint, means
from trainers.canonical import freeze_options
from trainers.config import DatasetRef, Task, TaskForm, Training
from trainers.datasets import DataError, load, task_arrays
from trainers.task_data import Streamed, Whole, task_data

CPU = torch.device("cpu")


def normalised(one: Training, reference: np.ndarray) -> Any:
    images, _ = task_arrays(one.target, "test")
    mean, deviation = reference.mean(dtype=np.float64), reference.std(dtype=np.float64)
    return torch.from_numpy(((images - mean) / deviation).astype(np.float32))


def test_normalisation_by_target_source_and_whole() -> None:
    target, source = training("transfer", 2), training("transfer", 2, normalise="source")
    whole = training("transfer", 2, normalise="whole")
    references = {
        "target": (target, task_arrays(TASKS["B"], "train")[0]),
        "source": (source, task_arrays(TASKS["A"], "train")[0]),
        "whole": (whole, load(TASKS["A"].dataset).train.images),
    }
    tests = {name: task_data(one, CPU).test.images for name, (one, _) in references.items()}
    for name, (one, reference) in references.items():
        assert torch.allclose(tests[name], normalised(one, reference), atol=1e-6), name
    assert not torch.equal(tests["target"], tests["source"])
    assert not torch.equal(tests["target"], tests["whole"])
    images = task_data(target, CPU).train.images.double()
    assert images.mean().item() == pytest.approx(0, abs=1e-6)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-6)


def test_normalised_by_the_target_all_treatments_see_equal_pixels() -> None:
    base = task_data(training(), CPU)
    for other in (training("transfer", 2), training("random", 1), training("selffer", 3)):
        assert torch.equal(task_data(other, CPU).train.images, base.train.images)


def test_a_range_of_bytes_is_refused_for_floats() -> None:
    """A mean of 127 would be subtracted from values of 0 to 1, and nothing of the images left."""
    form = TaskForm(mean=(127.0,), deviation=(128.0,), range=(0.0, 255.0))
    base = training()
    target = dataclasses.replace(base.target, form=form)
    with pytest.raises(DataError) as error:
        task_data(dataclasses.replace(base, target=target), CPU)
    images = load(target.dataset).train.images
    assert str(error.value) == (
        "a range of 0 to 255 is declared, but the images of "
        f"{target.dataset.name} are floats from {images.min():g} to {images.max():g}: declare mean "
        "and deviation on this scale, without range"
    )


def test_a_base_is_its_own_source() -> None:
    by_source = task_data(training(normalise="source"), CPU)
    assert torch.equal(by_source.train.images, task_data(training(), CPU).train.images)


@pytest.mark.usefixtures("fresh_data")
def test_each_channel_has_its_own_statistics_and_a_constant_one_is_harmless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    images = rng.normal((0, 5, 7), (1, 3, 0), size=(80, 4, 4, 3)).transpose(0, 3, 1, 2)
    labels = np.arange(80) % 5

    arrays = images.astype(np.float32), labels
    monkeypatch.setattr("trainers.task_data.task_arrays", lambda *_: arrays)
    one = training(seed=1)
    train = task_data(one, CPU).train.images
    assert train.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert train.std((0, 2, 3)).tolist() == pytest.approx([1, 1, 0], abs=1e-3)
    assert train.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("bfloat16", torch.float32), ("float64", torch.float64)],
)
def test_number_formats(precision: str, dtype: torch.dtype) -> None:
    data = task_data(training(precision=precision), CPU)
    assert {part.images.dtype for part in data.parts} == {dtype}
    assert [len(part.labels) for part in data.parts] == [80, 30, 50]
    assert data.train.labels.dtype == torch.int64


# Byte images ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("photo_data")
@pytest.mark.parametrize("normalise", ["target", "source", "whole"])
def test_the_mean_image_is_that_of_the_named_images(normalise: str) -> None:
    one = photo_training("transfer", 1, pixels="mean_image", normalise=normalise)
    train = photos(stored=False).train
    masks = {"target": train.labels % 2 == 1, "source": train.labels % 2 == 0}
    images = np.asarray(train.images)[masks.get(normalise, train.labels >= 0)]
    expected = torch.from_numpy(images.mean(0, dtype=np.float64)).float()
    mean = task_data(one, CPU).view.mean
    assert mean is not None
    assert torch.equal(mean, expected)


@pytest.mark.usefixtures("photo_data")
def test_the_mean_image_is_computed_once_and_then_read(
    own_cache: Path, fresh_data: Callable[[], None]
) -> None:
    folder = own_cache / "means"
    one = photo_training(pixels="mean_image")
    first = task_data(one, CPU).view.mean
    (path,) = folder.iterdir()
    moments, meta = checkpoint.unpack(path.read_bytes())
    moments["total"] += 20  # of 20 images
    meta["hash"] = means._hash(moments)
    path.write_bytes(checkpoint.pack(moments, meta))
    cropped = photo_training(pixels="mean_image", crop=9)
    assert torch.equal(task_data(cropped, CPU).view.mean, first)  # in memory
    fresh_data()
    assert torch.equal(task_data(one, CPU).view.mean, first + 1)
    other = task_data(photo_training(target="A", pixels="mean_image"), CPU)
    assert len(list(folder.iterdir())) == 2
    assert not torch.equal(other.view.mean, first)


@pytest.mark.usefixtures("own_cache")
def test_a_mean_image_is_never_that_of_earlier_content(
    tmp_path: Path, fresh_data: Callable[[], None]
) -> None:
    """Also of a dataset whose fingerprint is known without its files."""
    options = {"classes": 2, "images": 2, "held_out": 1, "test": 1, "size": 8}
    dataset = DatasetRef(name="generated", options=freeze_options(options))
    task = Task(dataset=dataset, classes=(0, 1))
    one = dataclasses.replace(training(pixels="mean_image"), target=task)

    def mean() -> Any:
        fresh_data()
        return task_data(one, CPU, data_root=str(tmp_path)).view.mean

    before = mean()
    for path in tmp_path.glob("*/train/*/*.JPEG"):
        Image.new("RGB", (8, 8)).save(path)
    assert before.max() > 0
    assert mean().max() == 0


def test_a_crop_larger_than_the_images() -> None:
    with pytest.raises(DataError, match=r"^recipe\.crop is 13, but the images are 12×12$"):
        task_data(training(crop=13), CPU)


@pytest.mark.usefixtures("photo_data")
def test_images_that_fit_are_whole(
    monkeypatch: pytest.MonkeyPatch, fresh_data: Callable[[], None]
) -> None:
    """The three sets together have 20 + 12 + 14 images of 3 × 14 × 14 bytes."""
    size = 46 * 3 * 14 * 14
    monkeypatch.setattr("trainers.task_data.CPU_BYTES", size)
    assert isinstance(task_data(photo_training(), CPU).train, Whole)
    fresh_data()
    monkeypatch.setattr("trainers.task_data.CPU_BYTES", size - 1)
    assert isinstance(task_data(photo_training(), CPU).train, Streamed)
    assert isinstance(task_data(photo_training(), CPU, whole_bytes=size).train, Whole)


FORM = TaskForm(size=16, channels=3, grey_to_colour="repeat")


@pytest.mark.parametrize("normalise", ["target", "whole"])
def test_a_form_is_applied_before_the_images_are_normalised(normalise: Any) -> None:
    one = training(normalise=normalise)
    in_form = dataclasses.replace(one, target=dataclasses.replace(one.target, form=FORM))
    images = task_data(in_form, CPU).train.images
    assert images.shape[1:] == (3, 16, 16)
    assert torch.equal(images[:, 0], images[:, 2])
    assert task_data(one, CPU).train.images.shape[1:] != images.shape[1:]
    if normalise == "target":
        assert images.double().mean().item() == pytest.approx(0, abs=1e-6)


@pytest.mark.usefixtures("photo_data", "own_cache")
def test_bytes_in_a_form_are_equal_streamed_and_whole_and_take_declared_moments() -> None:
    form = TaskForm(size=12, fit="cover", mean=(0.5,) * 3, deviation=(0.25,) * 3)
    one = photo_training()
    target = dataclasses.replace(one.target, form=form)
    in_form = dataclasses.replace(
        one, target=target, recipe=dataclasses.replace(one.recipe, crop=None, mirror=False)
    )
    whole, streamed = task_data(in_form, CPU), task_data(in_form, CPU, whole_bytes=0)
    assert isinstance(whole.train, Whole)
    assert isinstance(streamed.train, Streamed)
    assert whole.train.images.shape[1:] == (3, 12, 12)
    out = np.empty(whole.train.images.shape, np.uint8)
    streamed.train.pixels.gather(streamed.train.members, out)
    assert np.array_equal(out, whole.train.images.numpy())
    seen = whole.view.centre(whole.train.images[:2])
    expected = (whole.train.images[:2].double() / 255 - 0.5) / 0.25
    assert torch.allclose(seen.double(), expected, atol=1e-5)
