"""Views of stored images: crops, mirrors, and the mean image at the pixels of the crop."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from tests.trainings import training
from trainers.views import Augmentation, Crops, View

CPU = torch.device("cpu")
IMAGES = torch.randint(
    0, 256, (9, 3, 10, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
MEAN = torch.rand(3, 10, 12, generator=torch.Generator().manual_seed(1)) * 255


def crops(tops: list[int], lefts: list[int], mirrored: list[bool]) -> Crops:
    return Crops(torch.tensor(tops), torch.tensor(lefts), torch.tensor(mirrored))


def drawn(count: int = 4000, side: int = 256, crop: int | None = 227, **changes: object) -> Crops:
    one = training(crop=crop, **{"mirror": True} | changes)  # type: ignore[arg-type]
    view = View((3, side, side), torch.float32, crop)
    of_epoch = Augmentation(one, view, count, CPU)(3)
    assert of_epoch is not None
    return of_epoch


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_is_cropped_less_the_mean_there_and_mirrored(dtype: torch.dtype) -> None:
    """The batch equals a loop over its images, as in Caffe's data layer."""
    view = View((3, 10, 12), dtype, 7, MEAN.to(dtype))
    rows = torch.tensor([8, 0, 3, 0])
    where = crops([0, 2, 3, 1], [4, 0, 5, 1], [True, False, True, False])
    batch = view.training(IMAGES, rows, where)
    assert (batch.dtype, tuple(batch.shape)) == (dtype, (4, 3, 7, 7))
    assert batch.is_contiguous(memory_format=torch.channels_last)
    for image, row, top, left, mirrored in zip(batch, rows, *where, strict=True):
        square = np.s_[:, top : top + 7, left : left + 7]
        expected = IMAGES[row][square].to(dtype) - MEAN.to(dtype)[square]
        assert torch.equal(image, expected.flip(2) if mirrored else expected)


def test_the_centre_crop_is_that_of_the_paper() -> None:
    """The crop starts at offset 14 of 256 - 227 = 29, and is not mirrored."""
    images = torch.randint(0, 256, (2, 3, 256, 256), dtype=torch.uint8)
    mean = torch.rand(3, 256, 256)
    centre = View((3, 256, 256), torch.float32, 227, mean).centre(images)
    assert torch.equal(centre, images[:, :, 14:241, 14:241].float() - mean[:, 14:241, 14:241])


def test_mean_and_deviation_per_channel() -> None:
    mean, deviation = torch.rand(3, 1, 1), 1 + torch.rand(3, 1, 1)
    view = View((3, 10, 12), torch.float32, 4, mean, deviation)
    rows = torch.tensor([2, 5])
    batch = view.training(IMAGES, rows, crops([1, 0], [2, 7], [False, False]))
    expected = torch.stack([IMAGES[2, :, 1:5, 2:6], IMAGES[5, :, 0:4, 7:11]])
    assert torch.equal(batch, (expected.float() - mean) / deviation)
    assert torch.equal(view.centre(IMAGES), (IMAGES[:, :, 3:7, 4:8].float() - mean) / deviation)


def test_without_a_crop_images_are_only_mirrored() -> None:
    ready = torch.rand(5, 1, 4, 4).contiguous(memory_format=torch.channels_last)
    view = View((1, 4, 4), torch.float32)
    rows = torch.tensor([4, 1])
    assert torch.equal(view.training(ready, rows, None), ready[rows])
    batch = view.training(ready, rows, crops([0, 0], [0, 0], [True, False]))
    assert torch.equal(batch, torch.stack([ready[4].flip(2), ready[1]]))


def test_the_input_of_a_network_is_new_memory() -> None:
    ready = torch.rand(5, 1, 4, 4)
    before = ready.clone()
    for view in (View((1, 4, 4), torch.float32), View((1, 4, 4), torch.float32, 2)):
        view.centre(ready).zero_()
        view.training(ready, torch.arange(5), None).zero_()
        view.training(ready, torch.arange(5), crops([0] * 5, [0] * 5, [False] * 5)).zero_()
    assert torch.equal(ready, before)


def test_offsets_are_those_of_caffe() -> None:
    """Caffe draws `rand() % (256 - 227)`: 0 to 28, never 29. Half of the images are mirrored."""
    some = drawn()
    for offsets in (some.tops, some.lefts):
        counts = Counter(offsets.tolist())
        assert set(counts) == set(range(29))
        assert max(counts.values()) < 200  # 138 expected of each
    assert 1900 < int(some.mirrored.sum()) < 2100
    assert not torch.equal(some.tops, some.lefts)


def test_the_only_offset_is_0_for_images_of_the_size_of_the_crop() -> None:
    only = drawn(50, side=8, crop=8)
    assert set(only.tops.tolist() + only.lefts.tolist()) == {0}
    assert set(drawn(200, side=9, crop=8).tops.tolist()) == {0}


def test_crops_depend_on_seed_target_and_epoch_only() -> None:
    one = training(crop=8, mirror=True)
    view = View((1, 12, 12), torch.float32, 8)

    def of(other: object, epoch: int = 0) -> list[list[int]]:
        of_epoch = Augmentation(other, view, 30, CPU)(epoch)  # type: ignore[arg-type]
        assert of_epoch is not None
        return [values.tolist() for values in of_epoch]

    first = of(one)
    for other in (
        training("transfer", 2, crop=8, mirror=True, rate=1.0),
        training("selffer", 1, fine_tuned=True, crop=8, mirror=True, steps=99, batch=4),
        training("random", 3, crop=8, mirror=True, precision="bfloat16"),
    ):
        assert of(other) == first
    assert of(training(crop=8)) == [*first[:2], [False] * 30]
    for other, epoch in (
        (training(crop=8, mirror=True, seed=1), 0),
        (training(crop=8, mirror=True, target="A"), 0),
        (one, 1),
    ):
        assert all(a != b for a, b in zip(of(other, epoch), first, strict=True))


def test_the_first_crops_are_known() -> None:
    """A change of the crops changes every result, so it must be deliberate."""
    first = drawn(6)
    assert first.tops.tolist() == [26, 8, 24, 4, 19, 18]
    assert first.lefts.tolist() == [18, 22, 24, 23, 7, 10]
    assert first.mirrored.tolist() == [False, True, False, True, True, True]


def test_a_recipe_without_crop_and_mirror_has_no_crops() -> None:
    view = View((1, 12, 12), torch.float32)
    assert Augmentation(training(), view, 30, CPU)(0) is None
