"""Forms: sizes, channels and scales that a sweep declares for the images of its tasks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainers.canonical import ConfigError
from trainers.config import TaskForm
from trainers.forms import Formed, formed, moments_of, shape_of
from trainers.streams import InMemory

GREY = np.arange(2 * 4 * 6, dtype=np.uint8).reshape(2, 1, 4, 6)


def test_padding_centres_the_image_and_cropping_takes_it_out_again() -> None:
    padded = formed(TaskForm(size=8, fit="pad"), GREY)
    assert padded.shape == (2, 1, 8, 8)
    assert np.array_equal(padded[:, :, 2:6, 1:7], GREY)
    assert padded.sum() == GREY.sum()
    cropped = formed(TaskForm(size=4, fit="crop"), GREY)
    assert np.array_equal(cropped, GREY[:, :, :, 1:5])


def test_covering_keeps_the_aspect_ratio_and_squashing_does_not() -> None:
    halves = np.zeros((1, 1, 4, 8), np.uint8)
    halves[..., 4:] = 200
    assert np.array_equal(
        formed(TaskForm(size=2, fit="cover"), halves)[0, 0].round(-2), [[0, 200], [0, 200]]
    )
    squashed = formed(TaskForm(size=4), halves)
    assert squashed.shape == (1, 1, 4, 4)
    assert np.array_equal(formed(TaskForm(size=4, fit="cover"), halves), halves[..., 2:6])


def test_channels_follow_the_declared_rules() -> None:
    colour = formed(TaskForm(channels=3, grey_to_colour="repeat"), GREY)
    assert np.array_equal(colour, np.repeat(GREY, 3, axis=1))
    pixel = np.array([100, 50, 200], np.uint8).reshape(1, 3, 1, 1)
    # 0.299 · 100 + 0.587 · 50 + 0.114 · 200 = 82.05
    assert formed(TaskForm(channels=1, colour_to_grey="luma"), pixel).item() == 82
    assert formed(TaskForm(channels=1, colour_to_grey="mean"), pixel).item() == 117
    floats = formed(TaskForm(channels=1, colour_to_grey="luma"), pixel.astype(np.float32))
    assert floats.item() == pytest.approx(82.05)


def test_pixels_are_formed_as_they_are_read() -> None:
    form = TaskForm(size=8, fit="pad", channels=3, grey_to_colour="repeat")
    pixels = Formed.of(form, InMemory(GREY))
    out = np.empty((1, 3, 8, 8), np.uint8)
    pixels.gather(np.array([1]), out)
    assert pixels.shape == (2, 3, 8, 8)
    assert np.array_equal(out, formed(form, GREY[1:]))
    stored = InMemory(GREY)
    assert Formed.of(TaskForm(), stored) is stored


def test_declared_moments_are_on_the_scale_of_the_range() -> None:
    mean, deviation = moments_of(TaskForm(mean=(0.5,), deviation=(0.25,)))
    assert (mean.item(), deviation.item()) == (127.5, 63.75)
    wide = TaskForm(mean=(0.0,), deviation=(1.0,), range=(-1.0, 1.0))
    mean, deviation = moments_of(wide)  # −1 + 2 p / 255 = (p − 127.5) / 127.5
    assert torch.equal(torch.cat([mean, deviation]).flatten(), torch.tensor([127.5] * 2).double())


@pytest.mark.parametrize(
    ("form", "shape", "field", "message"),
    [
        (TaskForm(channels=3), (1, 8, 8), "channels", "the images are grey and the networks see c"),
        (TaskForm(channels=1), (3, 8, 8), "channels", "give the rule colour_to_grey: luma or mean"),
        (TaskForm(channels=3), (4, 8, 8), "channels", "no rule makes 3 channels of 4"),
        (TaskForm(size=9, fit="crop"), (1, 8, 8), "size", "use cover or pad"),
        (TaskForm(size=7, fit="pad"), (1, 8, 8), "size", "use cover or crop"),
        (TaskForm(mean=(0.1,), deviation=(0.1,)), (3, 8, 8), "mean", "expected 3, one per channel"),
    ],
)
def test_a_form_that_does_not_fit_names_its_key(
    form: TaskForm, shape: tuple[int, ...], field: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        shape_of(form, shape)
    assert error.value.field == field
