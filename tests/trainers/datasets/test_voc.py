"""Folders in the layout of PASCAL VOC: what is read of them, and mistakes in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainers import datasets
from trainers.canonical import ConfigError, Options
from trainers.config import DatasetInfo, DatasetRef
from trainers.datasets import DataError, Dataset

CLASSES = ("cat", "dog")
BOXES = {  # of each image: class, edges counted from 1, difficult
    "a": [("cat", (1, 1, 20, 10), 0), ("dog", (11, 6, 40, 30), 0)],
    "b": [("cat", (5, 5, 30, 20), 1)],
    "c": [("dog", (1, 1, 40, 30), 0)],
    "d": [("cat", (2, 2, 39, 29), 0)],
    "e": [("dog", (2, 2, 39, 29), 0)],
    "f": [("cat", (2, 2, 39, 29), 0)],
}
LISTS = {"train": "abc", "val": "fe", "test": "dc"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the folder of a small `VOCdevkit` of images 40×30."""
    folder = tmp_path / "VOCdevkit" / "VOC2007"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for number, (name, objects) in enumerate((BOXES | {"g": BOXES["c"]}).items()):
        pixels = np.full((30, 40, 3), 30 * number, np.uint8)
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{name}.jpg")
        annotate(tmp_path, name, objects)
    lists = LISTS | {"test": "dg"}
    for name, images in lists.items():
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(images) + "\n")
    return tmp_path


def annotate(root: Path, name: str, objects: list[tuple[str, tuple[float, ...], int]]) -> None:
    """Write the annotation of an image, as the development kit does."""
    items = "".join(
        f"<object><name>{label}</name><pose>Left</pose><truncated>1</truncated>"
        f"<difficult>{difficult}</difficult><bndbox>"
        + "".join(
            f"<{edge}>{value}</{edge}>"
            for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        + "</bndbox><part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
        for label, box, difficult in objects
    )
    path(root, f"Annotations/{name}.xml").write_text(f"<annotation>{items}</annotation>")


def path(root: Path, name: str) -> Path:
    return root / "VOCdevkit" / "VOC2007" / name


def options(**given: object) -> Options:
    return tuple(sorted({"classes": CLASSES, "size": 20, **given}.items()))


def described(root: Path, **given: object) -> DatasetInfo:
    datasets.forget()
    return datasets.describe("voc", options(**given), str(root))


def loaded(root: Path, **given: object) -> Dataset:
    datasets.forget()
    return datasets.load(DatasetRef(name="voc", options=options(**given)), str(root))


def test_images_are_counted_by_their_largest_object(root: Path) -> None:
    info = described(root)
    assert (info.classes, info.shape, info.has_objects) == (CLASSES, (3, 20, 20), True)
    assert (info.train, info.validation, info.test) == ((1, 2), (1, 1), (1, 1))


def test_boxes_are_scaled_with_their_image_and_end_with_their_last_pixel(root: Path) -> None:
    """Pixels 11 to 40 of 40 are the right three quarters: 5 to 20 of 20."""
    first, second, _ = loaded(root).train.objects or ()
    assert first.boxes.tolist() == [
        [0, 0, 10, pytest.approx(20 / 3)],
        [5, pytest.approx(10 / 3), 20, 20],
    ]
    assert (first.labels.tolist(), first.difficult.tolist()) == ([0, 1], [False, False])
    assert (second.labels.tolist(), second.difficult.tolist()) == ([0], [True])


def test_images_are_read_in_the_order_of_their_list(root: Path) -> None:
    images = loaded(root).train.images
    pixels = np.empty((3, 3, 20, 20), np.uint8)
    images.gather(np.arange(3), pixels)  # type: ignore[union-attr]
    assert np.abs(pixels.mean((1, 2, 3)) - [0, 30, 60]).max() < 2


def test_trainval_holds_validation_images_out(root: Path) -> None:
    path(root, "ImageSets/Main/trainval.txt").write_text("a\nb\nc\ne\nf\n")
    info = described(root, train="trainval", held_out=1)
    assert (info.train, info.validation, info.test) == ((1, 2), (1, 1), (1, 1))


def test_a_year_without_test_images_takes_validation_images_for_them(root: Path) -> None:
    path(root, "ImageSets/Main/test.txt").unlink()
    path(root, "ImageSets/Main/train.txt").write_text("a\nb\nc\nd\n")
    info = described(root)
    assert (info.train, info.validation, info.test) == ((1, 1), (1, 1), (1, 1))


def test_the_fingerprint_covers_images_annotations_and_lists(root: Path) -> None:
    before = [described(root).fingerprint]
    annotate(root, "a", BOXES["a"][1:])
    before.append(described(root).fingerprint)
    Image.new("RGB", (40, 30)).save(path(root, "JPEGImages/c.jpg"))
    before.append(described(root).fingerprint)
    path(root, "ImageSets/Main/val.txt").write_text("e\nf\n")
    before.append(described(root).fingerprint)
    assert len(set(before)) == 4
    assert described(root, size=30).fingerprint == before[-1]


def broken(root: Path, **given: object) -> str:
    """Return the message of the mistake, one line, with the root left out."""
    with pytest.raises(DataError) as error:
        described(root, **given)
    message = str(error.value)
    assert "\n" not in message
    return message.replace(f"{root}/VOCdevkit/VOC2007/", "").replace(str(root), "ROOT")


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([("cat", (1, 1, 41, 10), 0)], "box 1, 1, 41, 10 is outside of the image, 40×30"),
        ([("cat", (-1, 1, 20, 10), 0)], "box -1, 1, 20, 10 is outside of the image, 40×30"),
        ([("cat", (9, 9, 9, 20), 0)], "box 9, 9, 9, 20 has no area"),
        ([("cat", (9, 20, 19, 10), 0)], "box 9, 20, 19, 10 has no area"),
        ([("cta", (1, 1, 2, 2), 0)], "unknown class 'cta'; did you mean 'cat'?"),
        ([("horse", (1, 1, 2, 2), 0)], "unknown class 'horse'; known: cat, dog"),
    ],
)
def test_a_wrong_object_is_named(root: Path, objects: list[object], message: str) -> None:
    annotate(root, "b", objects)  # type: ignore[arg-type]
    assert broken(root) == f"annotation Annotations/b.xml, object 1: {message}"


def test_a_broken_annotation_is_named(root: Path) -> None:
    path(root, "Annotations/c.xml").write_text("<annotation><object>")
    assert broken(root).startswith("annotation Annotations/c.xml is broken XML: ")
    path(root, "Annotations/c.xml").write_text(
        "<annotation><object><name>cat</name></object></annotation>"
    )
    expected = "expected numbers for xmin, ymin, xmax, ymax, found [None, None, None, None]"
    assert broken(root) == f"annotation Annotations/c.xml, object 1: {expected}"
    path(root, "Annotations/c.xml").unlink()
    assert broken(root) == "cannot read annotation Annotations/c.xml: No such file or directory"
    path(root, "Annotations/c.xml").write_text("<annotation/>")
    expected = "has no object: leave the image out of the lists"
    assert broken(root) == f"annotation Annotations/c.xml {expected}"


def test_missing_and_damaged_images_are_named(root: Path) -> None:
    path(root, "JPEGImages/c.jpg").write_bytes(b"no image")
    assert broken(root).startswith("image JPEGImages/c.jpg is damaged or not an image")
    assert broken(root).endswith("; leave it out of the lists in ImageSets/Main")
    path(root, "JPEGImages/c.jpg").unlink()
    path(root, "JPEGImages/e.jpg").unlink()
    assert broken(root) == ("JPEGImages lacks 2 of 7 listed images: c.jpg, e.jpg")


def test_an_image_damaged_after_its_header_is_named_with_a_way_out(root: Path) -> None:
    """There is no pack of such a folder that could leave it out."""
    image = path(root, "JPEGImages/c.jpg")
    image.write_bytes(image.read_bytes()[:-8])
    images = loaded(root).train.images
    with pytest.raises(DataError) as raised:
        images.gather(np.array([2]), np.empty((1, 3, 20, 20), np.uint8))  # type: ignore[union-attr]
    message = str(raised.value)
    assert message.startswith(f"image {image} is damaged or not an image: ")
    assert message.endswith("; leave it out of the lists in ImageSets/Main")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "ImageSets/Main/val.txt lists no image"),
        ("e\ne\n", "ImageSets/Main/val.txt lists image e twice"),
        ("../e\n", "ImageSets/Main/val.txt: expected names of images, found '../e'"),
        ("e\na\n", "ImageSets/Main: image a is in the lists of train and val"),
    ],
)
def test_a_wrong_list_is_named(root: Path, lines: str, message: str) -> None:
    path(root, "ImageSets/Main/val.txt").write_text(lines)
    assert broken(root) == message


def test_a_folder_without_the_year_is_named(root: Path) -> None:
    expected = "no folder VOCdevkit/VOC2012 or VOC2012 in ROOT: name the folder that holds it with"
    assert broken(root, year=2012) == f"{expected} dataset.root"
    with pytest.raises(ConfigError, match="expected train or trainval"):
        described(root, train="val")


def test_a_class_without_an_image_in_a_set_is_named(root: Path) -> None:
    path(root, "ImageSets/Main/test.txt").write_text("d\n")
    assert broken(root).startswith("dataset voc: no test images of 1 of its 2 classes (dog)")
