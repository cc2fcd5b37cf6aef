"""The order of batches, and how images are normalised."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trainings import BATCH_NORM, TASKS, photo_training, photos, photos_info, training

from trainers import batches, checkpoint, datasets, means
from trainers.batches import Batches, BatchOrder, Streamed, Whole, task_data
from trainers.config import DatasetRef, Task, Training, freeze_options
from trainers.datasets import DATASETS, DataError, DatasetKind, describe, load, task_arrays
from trainers.packing import pack
from trainers.views import Augmentation, View

CPU = torch.device("cpu")


def order(one: Training, images: int = 50, steps: int = 12) -> list[list[int]]:
    order = BatchOrder(one, images, CPU)
    return [order(step).tolist() for step in range(steps)]


def test_every_image_once_an_epoch_up_to_the_dropped_rest() -> None:
    steps = order(training(batch=16), images=50)
    assert {len(batch) for batch in steps} == {16}
    for epoch in range(4):
        seen = list(itertools.chain(*steps[3 * epoch : 3 * epoch + 3]))
        assert len(set(seen)) == len(seen) == 48
        assert set(seen) <= set(range(50))
    assert sorted(itertools.chain(*order(training(batch=10), 50, 5))) == list(range(50))


def test_a_batch_is_never_larger_than_the_images() -> None:
    order = BatchOrder(training(batch=64), 50, CPU)
    assert (order.batch, order.per_epoch) == (50, 1)
    assert sorted(order(7).tolist()) == list(range(50))


def test_epochs_differ_and_the_order_is_a_function_of_the_step() -> None:
    one = training(batch=16)
    steps = order(one)
    assert steps[:3] != steps[3:6]
    again = BatchOrder(one, 50, CPU)
    for step in (11, 0, 7, 6, 11, 3):  # resuming needs no replay
        assert again(step).tolist() == steps[step]


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
    found = {name: task_data(one, CPU).test.images for name, (one, _) in by.items()}
    for name, (one, reference) in by.items():
        assert torch.allclose(found[name], normalised(one, reference), atol=1e-6), name
    assert not torch.equal(found["target"], found["source"])
    assert not torch.equal(found["target"], found["whole"])
    images = task_data(target, CPU).train.images.double()
    assert images.mean().item() == pytest.approx(0, abs=1e-6)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-6)


def test_by_the_target_all_treatments_see_identical_pixels() -> None:
    base = task_data(training(), CPU)
    for other in (training("transfer", 2), training("random", 1), training("selffer", 3)):
        assert torch.equal(task_data(other, CPU).train.images, base.train.images)


def test_a_base_is_its_own_source() -> None:
    found = task_data(training(normalise="source"), CPU)
    assert torch.equal(found.train.images, task_data(training(), CPU).train.images)


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
    found = task_data(dataclasses.replace(one, target=task), CPU).train.images
    assert found.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert found.std((0, 2, 3)).tolist() == pytest.approx([1, 1, 0], abs=1e-3)
    assert found.is_contiguous(memory_format=torch.channels_last)


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


@pytest.fixture
def photo_data(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`photos` is a dataset like any other."""
    monkeypatch.setitem(DATASETS, "photos", DatasetKind(photos, photos_info))
    forget()
    yield
    forget()


def forget() -> None:
    batches._task_data.cache_clear()
    batches._moments.cache_clear()
    datasets._load.cache_clear()


def all_batches(one: Training, whole_bytes: int, steps: int = 9) -> list[tuple[Any, Any]]:
    """The training batches, and then the other images."""
    data = task_data(one, CPU, whole_bytes=whole_bytes)
    assert {type(part) for part in data.parts} == {Whole if whole_bytes else Streamed}
    with contextlib.closing(Batches(one, data, 3)) as these:
        found = [these(step) for step in range(steps)]
        for part in ("validation", "test"):
            images = torch.cat(list(these.chunks(part)))
            found.append((images, getattr(data, part).labels))
        return found


VARIED = {"crop": 9, "mirror": True, "pixels": "mean_image"}


@pytest.mark.usefixtures("photo_data")
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(
    "recipe", [{}, VARIED, {"crop": 9}, {"mirror": True}, {"pixels": "mean_image"}]
)
def test_streamed_and_whole_batches_are_equal(
    recipe: dict[str, Any], stored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit: over three epochs, and in evaluations of several chunks."""
    monkeypatch.setattr(batches, "CHUNK", 5)
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
    """Whole there and streamed to it, over many reuses of every buffer."""
    one = photo_training(steps=200, **recipe)
    cuda = torch.device("cuda")
    expected = all_batches(one, 10**9, 200)
    for whole_bytes in (10**9, 0):
        data = task_data(one, cuda, whole_bytes=whole_bytes)
        with contextlib.closing(Batches(one, data, 3)) as these:
            found = [these(step) for step in range(200)]
            torch.cuda.synchronize()
            assert (these.waited() > 0) == (whole_bytes == 0)
        for (images, labels), (same, numbers) in zip(found, expected[:200], strict=True):
            assert torch.equal(images.cpu(), same)
            assert torch.equal(labels.cpu(), numbers)


@pytest.mark.usefixtures("photo_data")
@pytest.mark.parametrize("whole_bytes", [0, 10**9])
def test_a_batch_is_what_the_recipe_says(whole_bytes: int) -> None:
    """Image by image, from the dataset: order, crop, mean image of the source, mirror, label."""
    one = photo_training("transfer", 1, fine_tuned=True, normalise="source", **VARIED)
    train = photos().train
    stored = train.images.images  # type: ignore[union-attr]
    ours, source = np.flatnonzero(train.labels % 2 == 1), np.flatnonzero(train.labels % 2 == 0)
    mean = torch.from_numpy(stored[source].mean(0, dtype=np.float64)).float()
    view = View((3, 14, 14), torch.float32, 9)
    for step, (images, labels) in enumerate(all_batches(one, whole_bytes)[:9]):
        rows = BatchOrder(one, 20, CPU)(step)
        places = Augmentation(one, view, 20, CPU)(step // 3)
        assert places is not None
        for image, label, row in zip(images, labels, rows, strict=True):
            top, left, mirrored = (int(x[row]) for x in places)
            square = np.s_[:, top : top + 9, left : left + 9]
            expected = torch.from_numpy(stored[ours[row]]).float()[square] - mean[square]
            assert torch.equal(image, expected.flip(2) if mirrored else expected)
            assert int(label) == {1: 0, 3: 1}[int(train.labels[ours[row]])]


@pytest.mark.usefixtures("photo_data")
def test_bytes_are_normalised_as_floats_are() -> None:
    images = task_data(photo_training(), CPU)
    with contextlib.closing(Batches(photo_training(steps=1, batch=20), images, 1)) as these:
        found = these(0)[0].double()
    assert found.mean((0, 2, 3)).tolist() == pytest.approx([0] * 3, abs=1e-6)
    assert found.std((0, 2, 3), correction=0).tolist() == pytest.approx([1] * 3, abs=1e-6)


@pytest.mark.usefixtures("photo_data")
@pytest.mark.parametrize("normalise", ["target", "source", "whole"])
def test_whose_mean_image(normalise: str) -> None:
    one = photo_training("transfer", 1, pixels="mean_image", normalise=normalise)
    train = photos(stored=False).train
    keep = {"target": train.labels % 2 == 1, "source": train.labels % 2 == 0}
    images = np.asarray(train.images)[keep.get(normalise, train.labels >= 0)]
    expected = torch.from_numpy(images.mean(0, dtype=np.float64)).float()
    mean = task_data(one, CPU).view.mean
    assert mean is not None
    assert torch.equal(mean, expected)


@pytest.mark.usefixtures("photo_data")
def test_the_mean_image_is_computed_once_and_found_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "layerwise" / "means"
    one = photo_training(pixels="mean_image")
    first = task_data(one, CPU).view.mean
    (path,) = folder.iterdir()
    moments, meta = checkpoint.unpack(path.read_bytes())
    moments["total"] += 20  # of 20 images
    meta["hash"] = means._hash(moments)
    path.write_bytes(checkpoint.pack(moments, meta))
    batches._task_data.cache_clear()
    assert torch.equal(task_data(one, CPU).view.mean, first)  # in memory
    forget()
    assert torch.equal(task_data(one, CPU).view.mean, first + 1)
    other = task_data(photo_training(target="A", pixels="mean_image"), CPU)
    assert len(list(folder.iterdir())) == 2
    assert not torch.equal(other.view.mean, first)


def test_files_and_their_pack_give_the_same_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streamed and whole, bit for bit; each with a mean image of its own, which are equal."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = str(tmp_path / "data")
    options = freeze_options({"classes": 4, "images": 8, "test": 3, "held_out": 2, "size": 20})
    info = describe("generated", options)
    dataset = DatasetRef(name="generated", options=options, fingerprint=info.fingerprint)
    one = dataclasses.replace(
        training(batch=4, crop=16, mirror=True, pixels="mean_image"),
        target=Task(dataset=dataset, classes=(0, 3)),
    )

    def found() -> list[tuple[torch.Tensor, torch.Tensor]]:
        pairs = []
        for whole_bytes in (0, 10**9):
            data = task_data(one, CPU, whole_bytes=whole_bytes, data_root=root)
            with contextlib.closing(Batches(one, data, 3)) as these:
                pairs += [these(step) for step in range(7)]
                pairs.append((torch.cat(list(these.chunks("test"))), data.test.labels))
        return pairs

    first = found()
    stored = load(dataset, root).stored
    assert stored is not None
    assert stored.pack == ""
    pack(stored, stored.folder / "packs", workers=1, allow_corrupt=False, told=lambda *_: None)
    forget()
    packed = found()
    after = load(dataset, root).stored
    assert after is not None
    assert after.pack
    for (images, labels), (same, numbers) in zip(first, packed, strict=True):
        assert torch.equal(images, same)
        assert torch.equal(labels, numbers)
    forget()
    assert len(list((tmp_path / "cache" / "layerwise" / "means").iterdir())) == 2


def test_floats_are_cropped_less_their_mean_image() -> None:
    """The digits are floats: their mean image is subtracted in their own unit."""
    one = training(**VARIED)
    images, labels = task_arrays(TASKS["B"], "train")
    ready = torch.from_numpy(images - images.mean(0, dtype=np.float64)).float()
    data = task_data(one, CPU)
    with contextlib.closing(Batches(one, data, 1)) as these:
        found, numbers = these(3)
    rows = BatchOrder(one, 80, CPU)(3)
    places = Augmentation(one, data.view, 80, CPU)(0)
    assert places is not None
    assert torch.equal(found, data.view.training(ready, rows, places.of(rows)))
    assert numbers.tolist() == labels[rows].tolist()
    assert data.view.seen == (1, 9, 9)


def test_a_crop_larger_than_the_images() -> None:
    with pytest.raises(DataError, match=r"^recipe\.crop is 13, and the images are 12×12$"):
        task_data(training(crop=13), CPU)


@pytest.mark.usefixtures("photo_data")
def test_what_fits_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The three sets together: 20 + 12 + 14 images of 3 × 14 × 14 bytes."""
    size = 46 * 3 * 14 * 14
    monkeypatch.setattr(batches, "CPU_BYTES", size)
    assert isinstance(task_data(photo_training(), CPU).train, Whole)
    forget()
    monkeypatch.setattr(batches, "CPU_BYTES", size - 1)
    assert isinstance(task_data(photo_training(), CPU).train, Streamed)
    assert isinstance(task_data(photo_training(), CPU, whole_bytes=size).train, Whole)
