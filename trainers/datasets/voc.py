"""Images of objects in boxes, in the layout of PASCAL VOC.

Everingham and others, The PASCAL Visual Object Classes Challenge 2007, development kit: images in
`JPEGImages`, one annotation per image in `Annotations`, lists of images in `ImageSets/Main`.
"""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainers.canonical import digest, require
from trainers.datasets.images import DataError, Files, Form, first_few
from trainers.datasets.listings import Scan, hashed, stamp_of
from trainers.datasets.places import Place
from trainers.datasets.sets import Dataset, Labelled, Objects, divide
from trainers.spelling import hint

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
DEVKIT = "VOCdevkit"
LISTS = {"train": ("train", "val", "test"), "trainval": ("trainval", "test")}
REMEDY = "leave it out of the lists in ImageSets/Main"
EDGES = ("xmin", "ymin", "xmax", "ymax")


def voc(
    place: Place,
    /,
    *,
    year: int = 2007,
    size: int = 300,
    train: str = "train",
    held_out: int | None = None,
    classes: tuple[str, ...] = CLASSES,
) -> Dataset:
    """Return the images and objects of `VOCdevkit/VOC<year>`, or of `VOC<year>`.

    Images are (3, size, size), uint8, scaled without regard to their aspect ratio, which changes no
    overlap of boxes. The class of an image, by which images are counted and drawn, is that of its
    largest object. Raises `DataError` and, for an option, `ConfigError`.

    Options:
        year: Year in the name of the folder.
        size: Height and width in pixels that images are brought to, 1 to 4096.
        train: List of the training images: `train`, or `trainval`, out of which validation images
            are held.
        held_out: Images per class that are held out of training for validation, where no list of
            validation images is used; by default a tenth of each class.
        classes: Names of the classes in order; by default the twenty of VOC.
    """
    require(train in LISTS, "train", f"expected {' or '.join(LISTS)}")
    require(len(set(classes)) == len(classes) > 0, "classes", "expected different names")
    folder = _folder(place.folder, year)
    return read(folder, Form(size=size), classes, train, held_out)


def read(
    folder: Path,
    form: Form,
    classes: tuple[str, ...],
    train: str = "train",
    held_out: int | None = None,
) -> Dataset:
    """Return the dataset of a folder with `JPEGImages`, `Annotations` and `ImageSets/Main`.

    Raises as `voc` does.
    """
    listed = {
        "train" if name == train else name: _listed(folder, name)
        for name in LISTS[train]
        if name == train or (folder / "ImageSets" / "Main" / f"{name}.txt").is_file()
    }
    if len(listed) < 2:
        raise DataError(f"{folder}/ImageSets/Main has neither val.txt nor test.txt")
    _require_disjoint(folder, listed)
    names = [name for images in listed.values() for name in images]
    hashes = hashed(folder, _scan(folder, names)).hashes
    hasher, sets, done = hashlib.sha256(), {}, 0
    for subset, images in listed.items():
        content = hashes[done : done + len(images)]
        done += len(images)
        objects = [_objects(folder, name, form, classes, hasher) for name in images]
        labels = np.array([_largest(x) for x in objects], np.int64)
        files = [f"JPEGImages/{name}.jpg" for name in images]
        hasher.update(f"{subset} {files}".encode() + content.tobytes())
        sets[subset] = Labelled(
            Files(folder, files, content, form, REMEDY), files, labels, content, objects
        )
    fingerprint = digest([hasher.hexdigest(), classes], 16)
    return Dataset(classes, *divide(classes, sets, held_out), fingerprint=fingerprint)


def _folder(root: Path, year: int) -> Path:
    """Return the folder of a year below the root. Raises `DataError`."""
    places = [root / DEVKIT / f"VOC{year}", root / f"VOC{year}"]
    for folder in places:
        if folder.is_dir():
            return folder
    raise DataError(
        f"no folder {DEVKIT}/VOC{year} or VOC{year} in {root}: name the folder that holds it with "
        "dataset.root"
    )


def _listed(folder: Path, name: str) -> list[str]:
    """Return the names of the images of a list. Raises `DataError`."""
    path = folder / "ImageSets" / "Main" / f"{name}.txt"
    try:
        names = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error
    if not names:
        raise DataError(f"{path} lists no image")
    if wrong := [name for name in names if Path(name).name != name or name in (".", "..")]:
        raise DataError(f"{path}: expected names of images, found {wrong[0]!r}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path} lists image {twice} twice")
    return names


def _require_disjoint(folder: Path, listed: dict[str, list[str]]) -> None:
    """Raise `DataError` if an image is in two lists."""
    of: dict[str, str] = {}
    for subset, names in listed.items():
        for name in names:
            if (other := of.setdefault(name, subset)) != subset:
                where = folder / "ImageSets" / "Main"
                raise DataError(f"{where}: image {name} is in the lists of {other} and {subset}")


def _scan(folder: Path, names: Sequence[str]) -> Scan:
    """Return the image files of these names. Raises `DataError` for missing ones."""
    stamps, missing = [], []
    for name in names:
        try:
            stamps.append(stamp_of((folder / "JPEGImages" / f"{name}.jpg").stat()))
        except OSError:
            missing.append(f"{name}.jpg")
    if missing:
        raise DataError(
            f"{folder}/JPEGImages lacks {len(missing)} of {len(names)} listed images: "
            f"{first_few(missing)}"
        )
    files = [f"JPEGImages/{name}.jpg" for name in names]
    return Scan(("JPEGImages",), [len(files)], files, np.array(stamps, np.int64), {})


def _objects(
    folder: Path, name: str, form: Form, classes: tuple[str, ...], hasher: hashlib._Hash
) -> Objects:
    """Return the objects of an image, and add its annotation to a hash. Raises `DataError`.

    VOC counts pixels from 1, and a box has its last pixel: it ends at the right edge of pixel xmax.
    """
    path = folder / "Annotations" / f"{name}.xml"
    try:
        content = path.read_bytes()
        root = ET.fromstring(content)
    except OSError as error:
        raise DataError(f"cannot read annotation {path}: {error.strerror}") from error
    except ET.ParseError as error:
        raise DataError(f"annotation {path} is broken XML: {error}") from error
    hasher.update(content)
    width, height = _image_size(folder / "JPEGImages" / f"{name}.jpg")
    boxes, labels, difficult = [], [], []
    for number, item in enumerate(root.iter("object"), start=1):
        try:
            label, box, is_difficult = _object(item, classes, width, height)
        except ValueError as error:
            raise DataError(f"annotation {path}, object {number}: {error}") from error
        labels.append(label)
        boxes.append(box)
        difficult.append(is_difficult)
    if not boxes:
        raise DataError(f"annotation {path} has no object: leave the image out of the lists")
    scale = np.array([form.size / width, form.size / height] * 2)
    return Objects(
        (np.array(boxes) * scale).astype(np.float32),
        np.array(labels, np.int64),
        np.array(difficult, bool),
    )


def _object(
    item: ET.Element, classes: tuple[str, ...], width: int, height: int
) -> tuple[int, list[float], bool]:
    """Return class, edges in pixels from 0, and difficulty of an object. Raises `ValueError`."""
    name = (item.findtext("name") or "").strip()
    if name not in classes:
        near = hint(name, classes) or f"; known: {first_few(classes, 20)}"
        raise ValueError(f"unknown class {name!r}{near}")
    texts = [item.findtext(f"bndbox/{edge}") for edge in EDGES]
    try:
        left, top, right, bottom = (float(text or "") for text in texts)
    except ValueError:
        raise ValueError(f"expected numbers for {', '.join(EDGES)}, found {texts}") from None
    box = f"{left:g}, {top:g}, {right:g}, {bottom:g}"
    if not (right > left and bottom > top):
        raise ValueError(f"box {box} has no area")
    if left < 0 or top < 0 or right > width or bottom > height:
        raise ValueError(f"box {box} is outside of the image, {width}×{height}")
    edges = [max(left - 1, 0), max(top - 1, 0), right, bottom]
    return classes.index(name), edges, (item.findtext("difficult") or "0").strip() == "1"


def _image_size(path: Path) -> tuple[int, int]:
    """Return width and height of an image file, from its header. Raises `DataError`."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size
    except Exception as error:  # a decoder raises what it likes at damaged bytes
        message = f"image {path} is damaged or not an image: {error}; {REMEDY}"
        raise DataError(message) from error


def _largest(objects: Objects) -> int:
    """Return the class of the object of the largest area, the first of several."""
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    return int(objects.labels[np.argmax(sides.prod(1))])
