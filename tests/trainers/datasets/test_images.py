"""Decoding of image files; files that changed or are not images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.pictures import files_in, hashes, picture, pixels_of
from trainers.canonical import ConfigError
from trainers.datasets import images
from trainers.datasets.images import (
    DataError,
    Files,
    Form,
    Picked,
    decode,
    first_few,
)


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


def test_squash_changes_the_aspect_ratio_and_crop_keeps_the_centre() -> None:
    image = Image.new("RGB", (20, 8), (255, 0, 0))
    image.paste((0, 0, 255), (6, 0, 14, 8))  # a blue middle between red sides
    squashed = decode(encoded(image), Form(size=8, resize="squash"))
    assert squashed.shape == (3, 8, 8)
    assert (squashed[0, :, [0, 7]] > squashed[2, :, [0, 7]]).all()  # both sides are still there
    assert (squashed[2, :, 3:5] > squashed[0, :, 3:5]).all()
    cropped = decode(encoded(image), Form(size=8, resize="crop"))
    assert (cropped[2] == 255).all()
    assert (cropped[0] == 0).all()


def test_crop_scales_the_shorter_side_to_size() -> None:
    image = Image.new("RGB", (9, 30), (255, 0, 0))
    image.paste((0, 0, 255), (0, 10, 9, 20))
    cropped = decode(encoded(image), Form(size=3, resize="crop"))
    assert cropped.shape == (3, 3, 3)
    assert cropped[2, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("size", [(1, 30_000), (30_000, 2)])
def test_the_crop_of_a_very_long_image_takes_little_memory(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scaled as a whole, the first one would take 6 GB."""
    resize = Image.Image.resize

    def bounded(image: Image.Image, to: tuple[int, int], *options: Any) -> Image.Image:
        assert to[0] * to[1] < 2**22
        return resize(image, to, *options)

    monkeypatch.setattr(Image.Image, "resize", bounded)
    image = Image.new("RGB", size, (255, 0, 0))
    blue = Image.new("RGB", tuple(min(16, side) for side in size), (0, 0, 255))  # type: ignore[arg-type]
    image.paste(blue, tuple((side - min(16, side)) // 2 for side in size))  # type: ignore[arg-type]
    cropped = decode(encoded(image), Form(size=256, resize="crop"))
    assert cropped.shape == (3, 256, 256)
    assert (cropped.reshape(3, -1).T == (0, 0, 255)).all()


def test_the_middle_of_a_long_image_is_scaled_as_the_whole_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for size in ((2, 41), (4, 60), (60, 4)):
        data, form = encoded(picture(3, size=size)), Form(size=8, resize="crop")
        whole = decode(data, form)
        with monkeypatch.context() as patch:
            patch.setattr(images, "LARGEST_SCALED", 0)
            assert (decode(data, form) == whole).all()


@pytest.mark.parametrize(("mode", "kind"), [("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG")])
def test_every_kind_of_image_becomes_rgb(mode: str, kind: str) -> None:
    image = picture(1, mode, (5, 5))
    data = encoded(image, kind)
    with Image.open(io.BytesIO(data)) as file:
        expected = np.asarray(file.convert("RGB")).transpose(2, 0, 1)
    assert (decode(data, Form(size=5)) == expected).all()


def deep(values: list[list[float]], dtype: str, kind: str) -> bytes:
    return encoded(Image.fromarray(np.array(values, dtype)), kind)


def test_16_bits_of_a_png_are_scaled_to_8() -> None:
    """All of them were white but the first."""
    pixels = decode(deep([[0, 256, 32768, 65535]] * 4, "uint16", "PNG"), Form(size=4))
    assert pixels[:, 0].tolist() == [[0, 1, 128, 255]] * 3


@pytest.mark.parametrize(
    "data", [deep([[9, 4095]], "uint16", "TIFF"), deep([[0.5, 1]], "float32", "TIFF")]
)
def test_other_deep_pixels_are_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"more than 8 bits \(TIFF, mode .*range is not known: save"
    ):
        decode(data, Form(size=2))
    (tmp_path / "a.tif").write_bytes(data)
    images = Files(tmp_path, ["a.tif"], hashes(tmp_path, ["a.tif"]), Form(size=2))
    with pytest.raises(DataError, match=r"^image .*a.tif: its pixels have more than 8 bits"):
        pixels_of(images)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot identify image file"),
        (b"<html>404</html>", "cannot identify image file"),
        (encoded(picture(0), "DDS"), "cannot identify image file: expected JPEG, PNG, BMP, WEBP"),
        (encoded(picture(0, "P"), "BLP"), "cannot identify image file"),
        (encoded(picture(0), "JPEG")[:300], "Truncated File Read|image file is truncated"),
        (encoded(picture(0), "PNG")[:100], "Truncated File Read|image file is truncated"),
    ],
    ids=["empty", "html", "DDS", "BLP", "half a JPEG", "half a PNG"],
)
def test_bytes_that_are_not_a_whole_image(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode(data, Form(size=8))


def test_whatever_a_decoder_raises_is_a_corrupt_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> None:
        raise NotImplementedError("unknown compression")

    image = files_in(tmp_path, 3)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", failing)
    with pytest.raises(DataError, match=r"^image .*00.png is damaged .*: unknown compression; "):
        pixels_of(image)


def test_the_first_frame_of_a_gif() -> None:
    file = io.BytesIO()
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    assert decode(file.getvalue(), Form(size=4))[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("options", "field"),
    [({"size": 0}, "size"), ({"size": 5000}, "size"), ({"resize": "stretch"}, "resize")],
)
def test_forms_that_do_not_exist(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as error:
        Form(**options)
    assert error.value.field == field


def test_gather_copies_images_in_any_order(tmp_path: Path) -> None:
    images = files_in(tmp_path, 3)
    assert images.shape == (3, 3, 4, 4)
    every = pixels_of(images)
    out = np.empty((4, 3, 4, 4), np.uint8)
    images.gather(np.array([2, 0, 2, 1]), out)
    assert (out == every[[2, 0, 2, 1]]).all()
    picked = Picked(images, np.array([2, 1]))
    assert picked.shape == (2, 3, 4, 4)
    assert (pixels_of(picked) == every[[2, 1]]).all()


def test_a_file_that_changed_since_it_was_listed(tmp_path: Path) -> None:
    images = files_in(tmp_path, 3)
    picture(7, size=(5, 4)).save(tmp_path / "01.png")
    with pytest.raises(DataError, match=r"01.png has changed since its folder was listed: run"):
        pixels_of(images)
    (tmp_path / "01.png").unlink()
    with pytest.raises(DataError, match=r"cannot read image .*01.png: No such file"):
        pixels_of(images)


def test_a_file_that_is_not_an_image_is_named(tmp_path: Path) -> None:
    images = files_in(tmp_path, 3)
    (tmp_path / "01.png").write_bytes(b"x")
    images.hashes = hashes(tmp_path, list(images.names))
    with pytest.raises(DataError, match=r"image .*01.png is damaged or not an image: cannot iden"):
        pixels_of(images)


def test_a_shortened_list() -> None:
    assert first_few(["a", "b"]) == "a, b"
    assert first_few([str(number) for number in range(1003)]) == "0, 1, 2 and 1,000 more"


@pytest.mark.parametrize(
    ("orientation", "corner"), [(1, (0, 0)), (3, (7, 7)), (6, (0, 7)), (8, (7, 0)), (99, (0, 0))]
)
def test_exif_turns_images_of_that_form(orientation: int, corner: tuple[int, int]) -> None:
    """The first pixel as stored stands in another corner once the image is upright."""
    image = Image.new("RGB", (8, 8))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    upright = decode(file.getvalue(), Form(size=8, orientation="exif"))
    assert upright[0].argmax() == 8 * corner[0] + corner[1]
    assert decode(file.getvalue(), Form(size=8))[0].argmax() == 0
