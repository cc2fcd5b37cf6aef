"""Decoding, and files that change or are no images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import picture, pixels_of
from PIL import Image

from trainers.config import ConfigError
from trainers.datasets.images import DataError, Files, Form, Picked, decode, some


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def test_an_image_of_the_right_size_keeps_its_pixels() -> None:
    image = picture(0, size=(8, 8))
    expected = np.asarray(image).transpose(2, 0, 1)
    for resize in ("squash", "crop"):
        pixels = decode(encoded(image), Form(size=8, resize=resize))
        assert pixels.dtype == np.uint8
        assert (pixels == expected).all()


def test_squash_gives_up_the_aspect_ratio_and_crop_keeps_the_centre() -> None:
    image = Image.new("RGB", (20, 8), (255, 0, 0))
    image.paste((0, 0, 255), (6, 0, 14, 8))  # a blue middle between red sides
    squashed = decode(encoded(image), Form(size=8, resize="squash"))
    assert squashed.shape == (3, 8, 8)
    assert (squashed[0, :, [0, 7]] > squashed[2, :, [0, 7]]).all()  # both sides are still there
    assert (squashed[2, :, 3:5] > squashed[0, :, 3:5]).all()
    cropped = decode(encoded(image), Form(size=8, resize="crop"))
    assert (cropped[2] == 255).all()
    assert (cropped[0] == 0).all()


def test_crop_brings_the_shorter_side_to_size() -> None:
    image = Image.new("RGB", (9, 30), (255, 0, 0))
    image.paste((0, 0, 255), (0, 10, 9, 20))
    cropped = decode(encoded(image), Form(size=3, resize="crop"))
    assert cropped.shape == (3, 3, 3)
    assert cropped[2, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize(("mode", "kind"), [("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG")])
def test_every_kind_of_image_becomes_rgb(mode: str, kind: str) -> None:
    image = picture(1, mode, (5, 5))
    data = encoded(image, kind)
    with Image.open(io.BytesIO(data)) as file:
        expected = np.asarray(file.convert("RGB")).transpose(2, 0, 1)
    assert (decode(data, Form(size=5)) == expected).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot identify image file"),
        (b"<html>404</html>", "cannot identify image file"),
        (encoded(picture(0), "JPEG")[:300], "Truncated File Read|image file is truncated"),
        (encoded(picture(0), "PNG")[:100], "Truncated File Read|image file is truncated"),
    ],
    ids=["empty", "html", "half a JPEG", "half a PNG"],
)
def test_what_is_no_whole_image(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode(data, Form(size=8))


@pytest.mark.parametrize(
    ("options", "field"),
    [({"size": 0}, "size"), ({"size": 5000}, "size"), ({"resize": "stretch"}, "resize")],
)
def test_forms_that_there_are_not(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as error:
        Form(**options)
    assert error.value.field == field


def files(folder: Path) -> Files:
    names = ["a.png", "b.png", "c.png"]
    for number, name in enumerate(names):
        picture(number, size=(4, 4)).save(folder / name)
    sizes = np.array([(folder / name).stat().st_size for name in names])
    return Files(folder, names, sizes, Form(size=4))


def test_gather_takes_images_in_any_order(tmp_path: Path) -> None:
    images = files(tmp_path)
    assert images.shape == (3, 3, 4, 4)
    every = pixels_of(images)
    out = np.empty((4, 3, 4, 4), np.uint8)
    images.gather(np.array([2, 0, 2, 1]), out)
    assert (out == every[[2, 0, 2, 1]]).all()
    picked = Picked(images, np.array([2, 1]))
    assert picked.shape == (2, 3, 4, 4)
    assert (pixels_of(picked) == every[[2, 1]]).all()


def test_a_file_that_changed_since_it_was_listed(tmp_path: Path) -> None:
    images = files(tmp_path)
    picture(7, size=(5, 4)).save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"b.png has \d+ bytes, and had \d+ when its folder was"):
        pixels_of(images)
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match=r"cannot read image .*b.png: No such file"):
        pixels_of(images)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    images = files(tmp_path)
    size = int(images.sizes[1])
    (tmp_path / "b.png").write_bytes(b"x" * size)
    with pytest.raises(DataError, match=r"image .*b.png is damaged or no image: cannot identify"):
        pixels_of(images)


def test_a_list_that_is_cut_short() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some([str(number) for number in range(1003)]) == "0, 1, 2 and 1,000 more"
