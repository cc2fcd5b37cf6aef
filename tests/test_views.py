"""What a network sees of stored images: crops, mirrors, the mean image at the crop's own pixels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from trainings import training

from trainers.views import Augmentation, Places, View

CPU = torch.device("cpu")
IMAGES = torch.randint(
    0, 256, (9, 3, 10, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
MEAN = torch.rand(3, 10, 12, generator=torch.Generator().manual_seed(1)) * 255


def places(tops: list[int], lefts: list[int], mirrored: list[bool]) -> Places:
    return Places(torch.tensor(tops), torch.tensor(lefts), torch.tensor(mirrored))


def drawn(count: int = 4000, side: int = 256, crop: int | None = 227, **changes: object) -> Places:
    one = training(crop=crop, **{"mirror": True} | changes)  # type: ignore[arg-type]
    view = View((3, side, side), torch.float32, crop)
    found = Augmentation(one, view, count, CPU)(3)
    assert found is not None
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_is_cropped_less_the_mean_there_and_mirrored(dtype: torch.dtype) -> None:
    """Against one image after the other, as Caffe's data layer does it."""
    view = View((3, 10, 12), dtype, 7, MEAN.to(dtype))
    rows = torch.tensor([8, 0, 3, 0])
    where = places([0, 2, 3, 1], [4, 0, 5, 1], [True, False, True, False])
    found = view.training(IMAGES, rows, where)
    assert (found.dtype, tuple(found.shape)) == (dtype, (4, 3, 7, 7))
    assert found.is_contiguous(memory_format=torch.channels_last)
    for image, row, top, left, mirrored in zip(found, rows, *where, strict=True):
        square = np.s_[:, top : top + 7, left : left + 7]
        expected = IMAGES[row][square].to(dtype) - MEAN.to(dtype)[square]
        assert torch.equal(image, expected.flip(2) if mirrored else expected)


def test_the_centre_is_the_papers() -> None:
    """Offset 14 of 256 less 227, and no mirror."""
    images = torch.randint(0, 256, (2, 3, 256, 256), dtype=torch.uint8)
    mean = torch.rand(3, 256, 256)
    found = View((3, 256, 256), torch.float32, 227, mean).centre(images)
    assert torch.equal(found, images[:, :, 14:241, 14:241].float() - mean[:, 14:241, 14:241])


def test_a_channels_mean_and_deviation() -> None:
    mean, deviation = torch.rand(3, 1, 1), 1 + torch.rand(3, 1, 1)
    view = View((3, 10, 12), torch.float32, 4, mean, deviation)
    rows = torch.tensor([2, 5])
    found = view.training(IMAGES, rows, places([1, 0], [2, 7], [False, False]))
    expected = torch.stack([IMAGES[2, :, 1:5, 2:6], IMAGES[5, :, 0:4, 7:11]])
    assert torch.equal(found, (expected.float() - mean) / deviation)
    assert torch.equal(view.centre(IMAGES), (IMAGES[:, :, 3:7, 4:8].float() - mean) / deviation)


def test_without_a_crop_images_are_only_mirrored() -> None:
    ready = torch.rand(5, 1, 4, 4).contiguous(memory_format=torch.channels_last)
    view = View((1, 4, 4), torch.float32)
    rows = torch.tensor([4, 1])
    assert torch.equal(view.training(ready, rows, None), ready[rows])
    found = view.training(ready, rows, places([0, 0], [0, 0], [True, False]))
    assert torch.equal(found, torch.stack([ready[4].flip(2), ready[1]]))


def test_what_is_seen_may_be_changed_in_place() -> None:
    ready = torch.rand(5, 1, 4, 4)
    before = ready.clone()
    for view in (View((1, 4, 4), torch.float32), View((1, 4, 4), torch.float32, 2)):
        view.centre(ready).zero_()
        view.training(ready, torch.arange(5), None).zero_()
        view.training(ready, torch.arange(5), places([0] * 5, [0] * 5, [False] * 5)).zero_()
    assert torch.equal(ready, before)


def test_offsets_are_caffes() -> None:
    """`rand() % (256 - 227)`: each of 0..28 in both directions, and never 29; mirrors by halves."""
    found = drawn()
    for offsets in (found.tops, found.lefts):
        counts = Counter(offsets.tolist())
        assert set(counts) == set(range(29))
        assert max(counts.values()) < 200  # 138 expected of each
    assert 1900 < int(found.mirrored.sum()) < 2100
    assert not torch.equal(found.tops, found.lefts)


def test_offsets_of_images_of_the_crops_size_are_0() -> None:
    found = drawn(50, side=8, crop=8)
    assert set(found.tops.tolist() + found.lefts.tolist()) == {0}
    assert set(drawn(200, side=9, crop=8).tops.tolist()) == {0}


def test_places_are_of_seed_target_and_epoch_only() -> None:
    one = training(crop=8, mirror=True)
    view = View((1, 12, 12), torch.float32, 8)

    def of(other: object, epoch: int = 0) -> list[list[int]]:
        found = Augmentation(other, view, 30, CPU)(epoch)  # type: ignore[arg-type]
        assert found is not None
        return [values.tolist() for values in found]

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


def test_the_first_places_are_known() -> None:
    """A change of them changes every result: it must be on purpose."""
    found = drawn(6)
    assert found.tops.tolist() == [26, 8, 24, 4, 19, 18]
    assert found.lefts.tolist() == [18, 22, 24, 23, 7, 10]
    assert found.mirrored.tolist() == [False, True, False, True, True, True]


def test_a_recipe_that_asks_for_nothing_has_no_places() -> None:
    view = View((1, 12, 12), torch.float32)
    assert Augmentation(training(), view, 30, CPU)(0) is None
