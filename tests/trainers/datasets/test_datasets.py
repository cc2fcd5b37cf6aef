"""The registry of datasets, the digits, and a user's own data."""

from __future__ import annotations

import dataclasses
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.trainings import DIGITS, SIZES, TASKS
from trainers import datasets
from trainers.canonical import ConfigError, freeze_options
from trainers.config import DatasetRef
from trainers.datasets import SUBSETS, DataError, describe, load, task_arrays
from trainers.datasets.digits import DIGITS_HASH, DIGITS_IMAGES, DigitsOptions, digits, digits_info
from trainers.datasets.own import from_mapping

DEFAULT = {"train": 40, "validation": 40, "test": 94}


def originals(subset: datasets.Subset, canvas: int) -> list[int]:
    """Return the index of the original that each image without noise shows.

    scikit-learn's digits are all different, and none has an empty border on all sides. So there is
    one place at which all ink of the canvas lies on one original.
    """
    pixels = load_digits().images.astype(np.float32) / 16
    known = {image.tobytes(): index for index, image in enumerate(pixels)}
    assert len(known) == 1797
    indices = []
    for image in subset.images[:, 0]:
        places = (
            (known.get(np.ascontiguousarray(image[top : top + 8, left : left + 8]).tobytes()), rest)
            for top in range(canvas - 7)
            for left in range(canvas - 7)
            if (rest := image.sum() - image[top : top + 8, left : left + 8].sum()) == 0
        )
        [index] = {index for index, _ in places if index is not None}
        indices.append(index)
    return indices


def test_no_original_is_in_two_sets() -> None:
    data = digits(DigitsOptions(noise=0, **DEFAULT))
    sets = {name: originals(data.subset(name), 12) for name in SUBSETS}
    for name in SUBSETS:
        copies = 4 if name == "train" else 1
        counts = np.bincount(sets[name], minlength=1797)
        assert sorted(set(counts)) == [0, copies]
        assert (counts > 0).sum() == 10 * DEFAULT[name]
        labels = load_digits().target[sets[name]]
        assert (labels == data.subset(name).labels).all()
    assert not set(sets["train"]) & set(sets["validation"])
    assert not set(sets["train"]) & set(sets["test"])
    assert not set(sets["validation"]) & set(sets["test"])


def test_noise_and_places_do_not_move_originals_between_sets() -> None:
    """Another number of renderings leaves the originals as they are: the division comes first."""
    one, four = (digits(DigitsOptions(noise=0, renderings=count)) for count in (1, 4))
    assert originals(one.train, 12) == originals(four.train, 12)[::4]
    for name in ("validation", "test"):
        assert (one.subset(name).images == four.subset(name).images).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"canvas": 8, "renderings": 1},
        {"canvas": 16, "train": 1, "validation": 1, "test": 1, "seed": 3},
        {"train": 100, "validation": 4, "test": 70},
    ],
)
def test_the_info_equals_what_loading_gives(options: dict[str, Any]) -> None:
    info, data = digits_info(DigitsOptions(**options)), digits(DigitsOptions(**options))
    assert info.classes == data.classes == tuple("0123456789")
    for name in SUBSETS:
        subset = data.subset(name)
        assert subset.images.shape == (len(subset.labels), *info.shape)
        assert (subset.images.dtype, subset.labels.dtype) == (np.float32, np.int64)
        assert tuple(np.bincount(subset.labels, minlength=10)) == getattr(info, name)
    assert info.fingerprint == DIGITS_HASH
    assert describe("digits", freeze_options(options)) == info


def test_the_counts_of_digits_are_those_of_scikit_learn() -> None:
    assert tuple(np.bincount(load_digits().target)) == DIGITS_IMAGES
    assert sum(DIGITS_IMAGES) == 1797


def test_equal_seeds_give_equal_images_and_another_seed_others() -> None:
    first, second, other = (digits(DigitsOptions(**SIZES, seed=seed)) for seed in (0, 0, 1))
    for name in SUBSETS:
        assert (first.subset(name).images == second.subset(name).images).all()
        assert (first.subset(name).images != other.subset(name).images).any()


def test_renderings_differ_in_place_and_noise() -> None:
    images = digits(DigitsOptions(train=1, renderings=4)).train.images[:4]
    assert len({image.tobytes() for image in images}) == 4
    plain = digits(DigitsOptions(train=1, renderings=1, canvas=8, noise=0)).train.images
    noisy = digits(DigitsOptions(train=1, renderings=400, canvas=8)).train.images[:400]
    assert (noisy - plain[0]).std() == pytest.approx(0.15, rel=0.02)


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        ({"canvas": 7}, "canvas", "expected 8 ≤ x ≤ 256"),
        ({"renderings": 0}, "renderings", "expected 1 ≤ x ≤ 1000"),
        ({"test": 0}, "test", "expected 1 ≤ x ≤ 174"),
        ({"noise": -0.1}, "noise", "expected 0 ≤ x ≤ 100"),
        (
            {"train": 41},
            "train",
            "train + validation + test is 175 images per class; expected at mo",
        ),
        ({"nois": 0.1}, "nois", "unknown key 'nois'; did you mean 'noise'?"),
        ({"colour": 1}, "colour", "unknown key 'colour'; known: canvas, noise, renderings, train"),
        ({"canvas": 12.0}, "canvas", "expected a whole number, found 12.0"),
        ({"canvas": True}, "canvas", "expected a whole number, found True"),
        ({"noise": "much"}, "noise", "expected a number, found 'much'"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        describe("digits", freeze_options(options))
    assert error.value.field == field
    assert str(error.value).startswith(message)


NAMES = [
    *("digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "imagenet", "generated"),
    "shapes",
]
KNOWN = [name for name, kind in datasets.DATASETS.items() if kind.info]


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_dataset_is_described_without_its_data(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`held_out` changes the counts and not the fingerprint."""
    monkeypatch.setenv("LAYERWISE_DATA", "/nowhere")
    info = describe(name, ())
    assert KNOWN == NAMES
    assert len(info.classes) == len(info.train) == len(info.validation) == len(info.test)
    assert len(info.fingerprint) == 16
    assert min(info.train + info.validation + info.test) > 0
    if name not in ("digits", "shapes"):  # they draw each set apart
        other = describe(name, (("held_out", 0),))
        assert other.fingerprint == info.fingerprint
        assert other.validation == other.test == info.test
        assert sum(other.train) == sum(info.train) + sum(info.validation)


@pytest.mark.parametrize("name", datasets.DATASETS)
def test_each_option_is_documented(name: str) -> None:
    """A class has a string below each option.

    In a function, a section `Options:` has one entry per option, in the order of the signature.
    """
    kind = datasets.DATASETS[name]
    parameters = inspect.signature(kind.declares).parameters.values()
    if kind.options:
        source = inspect.getsource(kind.options)
        documented = re.findall(r'^    (\w+): .+ = .+\n    """\S', source, re.MULTILINE)
    else:
        section = (inspect.getdoc(kind.load) or "").partition("\nOptions:\n")[2]
        documented = re.findall(r"^    (\w+): ", section, re.MULTILINE)
    assert documented == [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def test_describing_known_datasets_imports_no_heavy_library() -> None:
    code = (
        "import sys; from trainers import datasets; "
        "[datasets.describe(n, ()) for n, kind in datasets.DATASETS.items() if kind.info]; "
        "print(*{'torch', 'torchvision', 'PIL', 'pyarrow', 'sklearn'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "\n"


def test_changed_digits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainers.datasets.digits.DIGITS_HASH", "0" * 16)
    with pytest.raises(DataError, match="scikit-learn's digits have changed: expected hash 0000"):
        digits(DigitsOptions())


def test_data_that_differ_from_those_of_the_plan_are_refused() -> None:
    with pytest.raises(
        DataError, match=f"{DIGITS_HASH}, then feed.*; make them equal, or plan again"
    ):
        load(dataclasses.replace(DIGITS, fingerprint="feed"))
    assert load(DIGITS) is load(dataclasses.replace(DIGITS, fingerprint=""))


def test_the_images_of_a_task() -> None:
    """Labels are indices into the task's classes; images stay in the order of the dataset."""
    validation = load(DIGITS).validation
    order = (8, 0, 7, 3, 1)
    images, labels = task_arrays(dataclasses.replace(TASKS["A"], classes=order), "validation")
    expected = [i for i, label in enumerate(validation.labels) if label in order]
    assert (images == validation.images[expected]).all()
    assert [order[label] for label in labels] == validation.labels[expected].tolist()


def test_images_per_class_takes_the_first_training_images_only() -> None:
    few = dataclasses.replace(TASKS["A"], images_per_class=3)
    images, labels = task_arrays(few, "train")
    all_images, all_labels = task_arrays(TASKS["A"], "train")
    assert np.bincount(labels).tolist() == [3] * 5
    for label in range(5):
        assert (images[labels == label] == all_images[all_labels == label][:3]).all()
    assert len(task_arrays(few, "test")[1]) == len(task_arrays(TASKS["A"], "test")[1]) == 50
    many = dataclasses.replace(few, images_per_class=1000)
    assert len(task_arrays(many, "train")[1]) == len(all_labels) == 80


# A user's own data -------------------------------------------------------------------------------


def mapping(dtype: Any = np.float32, shape: tuple[int, ...] = (4, 3, 8, 8)) -> dict[str, Any]:
    return {s: (np.ones(shape, dtype), [0, 1, 0, 1]) for s in SUBSETS}


def test_floats_stay_and_bytes_are_scaled() -> None:
    images = np.full((2, 5, 6), 51, np.uint8)
    data = from_mapping("mine", dict.fromkeys(SUBSETS, (images, [1, 0])))
    assert data.train.images.shape == (2, 1, 5, 6)
    assert data.train.images.dtype == np.float32
    assert (data.train.images == np.float32(51) / 255).all()
    assert (data.train.labels.tolist(), data.classes) == ([1, 0], ("0", "1"))
    assert (from_mapping("mine", mapping(np.float64)).test.images == 1).all()
    assert from_mapping("mine", {**mapping(), "classes": ["cat", "dog", "cow"]}).classes == (
        "cat",
        "dog",
        "cow",
    )


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 12, 9, 3), (3, 12, 9)),
        ((2, 8, 8, 1), (1, 8, 8)),
        ((2, 3, 9, 3), (3, 9, 3)),  # channels first, as documented
        ((2, 4, 9, 4), (4, 9, 4)),
    ],
)
def test_the_axis_of_channels(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    images = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    data = from_mapping("mine", dict.fromkeys(SUBSETS, (images, [0, 1])))
    assert data.train.images.shape == (2, *expected)
    if expected != shape[1:]:
        assert np.array_equal(data.train.images[1, :, 2, 5], images[1, 2, 5])


def test_a_dataset_keeps_its_own_copy() -> None:
    arrays = mapping()
    data = from_mapping("mine", arrays)
    arrays["train"][0][:] = 7
    assert (data.train.images == 1).all()


@pytest.mark.parametrize(
    "classes", [{"dog": 1, "cat": 0}, {1: "dog", 0: "cat"}, {np.int64(1): "dog", 0: "cat"}]
)
def test_a_mapping_of_classes_is_read_by_its_values(classes: Any) -> None:
    assert from_mapping("mine", {**mapping(), "classes": classes}).classes == ("cat", "dog")


PAIR = "expected a mapping with 'train', 'validation' and 'test', each a pair (images, labels)"
BAD: list[tuple[Any, str]] = [
    (None, f"dataset mine: {PAIR}"),
    ({"train": 1, "test": 2}, f"dataset mine: {PAIR}"),
    ({**mapping(), "test": np.ones((4, 8, 8))}, f"dataset mine: {PAIR}"),
    ({**mapping(), "test": (np.ones((1, 8, 8)),)}, f"dataset mine: {PAIR}"),
    (
        {**mapping(), "test": (np.ones((1, 8, 8)), [[0]])},
        "dataset mine, test: expected labels as a list of class indices from 0",
    ),
    (
        {**mapping(), "test": (np.ones((1, 8, 8)), ["cat"])},
        "dataset mine, test: expected labels as a list of class indices from 0",
    ),
    (
        {**mapping(), "test": (np.ones((1, 8, 8)), [-1])},
        "dataset mine, test: expected labels as a list of class indices from 0",
    ),
    ({**mapping(), "test": (np.ones((2, 8, 8)), [0])}, "dataset mine, test: 2 images and 1 labels"),
    (
        {**mapping(), "validation": ([], np.zeros(0, int))},
        "dataset mine, validation: 0 images and 0 labels",
    ),
    (
        {**mapping(), "validation": (np.ones((1, 64)), [0])},
        "dataset mine, validation: expected images (N, C, H, W) or (N, H, W), uint8 or float, or "
        "image files; found float64 (1, 64)",
    ),
    (
        {**mapping(), "validation": (np.ones((1, 3, 8, 8), bool), [0])},
        "dataset mine, validation: expected images (N, C, H, W) or (N, H, W), uint8 or float, or "
        "image files; found bool (1, 3, 8, 8)",
    ),
    (
        {**mapping(), "test": (np.ones((1, 3, 8, 9)), [0])},
        "dataset mine: expected images of one size (C, H, W), found {'train': (3, 8, 8), "
        "'validation': (3, 8, 8), 'test': (3, 8, 9)}",
    ),
    (
        {**mapping(np.uint8), "test": (np.ones((4, 3, 8, 8), np.int64), [0, 1, 0, 1])},
        "dataset mine: expected images of one type, found {'train': 'uint8', 'validation': "
        "'uint8', 'test': 'int64'}",
    ),
    (
        {**mapping(), "test": (np.full((4, 3, 8, 8), 255.0), [0, 1, 0, 1])},
        "dataset mine: expected images of one range, found {'train': '1 to 1', 'validation': "
        "'1 to 1', 'test': '255 to 255'}",
    ),
    ({**mapping(), "classes": ["cat"]}, "dataset mine: label 1 found, but only 1 classes named"),
    (
        {**mapping(), "classes": {"cat": 1, "dog": 2}},
        "dataset mine: expected classes as a list of names, or as a mapping from each name to its "
        "index 0..1; found {'cat': 1, 'dog': 2}",
    ),
    ({**mapping(), "classes": ["cat", "cat"]}, "dataset mine: two classes have the same name"),
    (
        {**mapping(), "train": (["nowhere.png"], [0])},
        "dataset mine, train: cannot read image nowhere.png: ",
    ),
]


@pytest.mark.parametrize(("bad", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_mapping(bad: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        from_mapping("mine", bad)
    assert str(error.value).startswith(message)


def write_png(path: Path, size: int, value: int) -> Path:
    Image.new("RGB", (size, size), (value, 0, 0)).save(path)
    return path


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_pixels_that_are_not_finite(value: float) -> None:
    images = np.zeros((4, 8, 8))
    sets = {name: (images.copy(), [0, 1, 0, 1]) for name in SUBSETS}
    sets["test"][0][2:, 5, 5] = value
    with pytest.raises(DataError) as error:
        from_mapping("mine", sets)
    assert str(error.value) == (
        "dataset mine, test: image 2 has pixels that are not finite numbers, and so have 1 others"
    )


def test_image_files(tmp_path: Path) -> None:
    paths = [write_png(tmp_path / f"{value}.png", 6, value) for value in (0, 51)]
    data = from_mapping("mine", dict.fromkeys(SUBSETS, (list(map(str, paths)), [0, 1])))
    assert data.train.images.shape == (2, 3, 6, 6)
    assert data.train.images[:, 0, 0, 0].tolist() == [0, np.float32(51) / np.float32(255)]
    assert (data.train.images[:, 1:] == 0).all()
    other = write_png(tmp_path / "other.png", 5, 0)
    with pytest.raises(DataError, match=r"other.png is 5×5, but the images before it are 6×6; gi"):
        from_mapping("mine", dict.fromkeys(SUBSETS, ([paths[0], other], [0, 1])))
    paths[1].write_text("no image")
    with pytest.raises(DataError, match=r"train: cannot read image .*51.png"):
        from_mapping("mine", dict.fromkeys(SUBSETS, (paths, [0, 1])))


OWN = """\
import numpy as np

def flowers(size: int = 4, value: float = 1.0):
    images = np.full((2, size, size), value)
    sets = ("train", "validation", "test")
    return {name: (images + i, [0, 1]) for i, name in enumerate(sets)}

tulip = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_data: Callable[[], None]) -> Any:
    """A function that writes the module `own_data` and forgets the imported one."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str) -> None:
        (tmp_path / "own_data.py").write_text(text)
        sys.modules.pop("own_data", None)
        fresh_data()

    yield write
    sys.modules.pop("own_data", None)


def test_a_dataset_of_the_users_own_code(own: Any) -> None:
    own(OWN)
    info = describe("own_data:flowers", (("size", 5),))
    assert (info.classes, info.shape) == (("0", "1"), (1, 5, 5))
    assert info.train == info.validation == info.test == (1, 1)
    ref = DatasetRef(name="own_data:flowers", options=(("size", 5),), fingerprint=info.fingerprint)
    assert load(ref).train.images.shape == (2, 1, 5, 5)
    assert describe("own_data:flowers", (("value", 2.0),)).fingerprint != info.fingerprint
    with pytest.raises(ConfigError, match="own_data:flowers reads no files; expected no root"):
        describe("own_data:flowers", (), "/data")
    own(OWN.replace("images + i", "images + i % 2"))
    with pytest.raises(DataError, match=r"1 images of train and test are equal, such as train\[0"):
        describe("own_data:flowers", ())
    shared = describe("own_data:flowers", (("shared_images", True),))
    assert shared.notes[0].endswith("; shared_images allows it")
    options = datasets.options_of("own_data:flowers", (("shared_images", True), ("size", 5)))
    assert options == (("shared_images", True), ("size", 5))
    assert datasets.options_of("own_data:flowers", (("shared_images", False),)) == ()
    with pytest.raises(ConfigError, match="expected true or false, found 1"):
        describe("own_data:flowers", (("shared_images", 1),))
    own(OWN.replace("[0, 1]", "[1, 2]"))
    with pytest.raises(DataError, match=r"no train images of 1 of its 3 classes .*count from 0$"):
        describe("own_data:flowers", ())
    own(OWN + "# changed\n")
    assert describe("own_data:flowers", (("size", 5),)).fingerprint != info.fingerprint
    with pytest.raises(DataError, match="the data or its code differs from what the plan was made"):
        load(ref)
