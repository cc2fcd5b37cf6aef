"""The command `features`: outputs of layers as Parquet, by whole parts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from orchestrator.store.store import Store
from tests.small import files, small
from trainers import checkpoint, feature_form, features
from trainers.datasets import load
from trainers.networks import build, load_tensors
from trainers.task_data import task_data

Layerwise = Callable[..., tuple[int, str, str]]
LINE = ("features", "small.yaml", "A s0", "--layer", "1", "--layer", "3", "--pool", "none")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_form, "PART_BYTES", 4 * (2 * 6 * 6 + 4) * 20)


@pytest.mark.usefixtures("small_parts")
def test_they_are_the_outputs_of_the_layers_for_the_images_of_the_task(
    full: Path, layerwise: Layerwise
) -> None:
    code, out, _ = layerwise(*LINE)
    assert (code, out) == (0, "wrote the features of 75 images to features\n")
    rows = pq.read_table("features").sort_by([("subset", "ascending"), ("image", "ascending")])
    trial = next(x for x in small(full).members if x.name == "A s0")
    store = Store(full / "results")
    row = store.row(trial.id)
    assert row is not None
    data = task_data(trial.training, torch.device("cpu"))
    network = build(trial.training.network, 5, (1, 12, 12)).eval()
    weights = store.get_checkpoint(trial.id, row["checkpoint"])
    load_tensors(network, checkpoint.unpack(weights)[0])
    stored = load(trial.training.target.dataset)
    for name, part in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        of_set = rows.filter(pc.equal(rows["subset"], name))
        assert of_set["label"].to_pylist() == part.labels.tolist()
        images = of_set["image"].to_numpy()
        assert (stored.subset(name).labels[images] == of_set["class_index"].to_numpy()).all()
        for layer in (1, 3):
            with torch.no_grad():
                expected = network[:layer](part.images).flatten(1).numpy()  # type: ignore[union-attr]
            column = of_set[f"layer{layer}"].combine_chunks()
            vectors = column.values.to_numpy().reshape(len(of_set), -1)
            np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("full")
def test_every_reader_reads_them(layerwise: Layerwise) -> None:
    assert layerwise(*LINE)[0] == 0
    table = pq.read_table("features")
    assert str(table.schema.field("layer3").type) == "fixed_size_list<element: float>[4]"
    [(images, size)] = duckdb.sql(
        "SELECT count(*), any_value(len(layer1)) FROM 'features/*.parquet' WHERE subset = 'train'"
    ).fetchall()
    assert (images, size) == (50, table.schema.field("layer1").type.list_size)
    assert table.num_rows == 75
    expected = np.concatenate([chunk.flatten().to_numpy() for chunk in table["layer3"].chunks])
    for chunk in table["layer3"].chunks:  # one per file
        values = chunk.flatten().to_numpy(zero_copy_only=True)
        address = chunk.values.buffers()[1].address
        assert values.ctypes.data == address + chunk.offset * 4 * values.itemsize
    for path in sorted(Path("features").iterdir()):
        column = pl.read_parquet(path)["layer3"]
        assert column.to_numpy(allow_copy=False).shape == (len(column), 4)
    read = pl.read_parquet("features/*.parquet")["layer3"].to_numpy()
    assert np.array_equal(np.sort(read, axis=None), np.sort(expected))
    frame = pd.read_parquet("features", dtype_backend="pyarrow")
    assert len(frame) == 75
    assert str(frame["layer3"].dtype) == "fixed_size_list<element: float>[4][pyarrow]"


@pytest.mark.usefixtures("full")
def test_the_images_may_be_those_of_another_task(full: Path, layerwise: Layerwise) -> None:
    """The images of B are seen by the network of A as transfers see them."""
    assert layerwise(*LINE, "--task", "B s0", "--to", "b")[0] == 0
    assert layerwise(*LINE, "--task", "B", "--to", "b")[0] == 0  # B of the same split: a cached one
    plan = small(full)
    base, other = (next(x for x in plan.members if x.name == f"{half} s0") for half in "AB")
    rows = pq.read_table("b").filter(pc.field("subset") == "test").sort_by("image")
    assert set(rows["class_index"].to_pylist()) == set(other.training.target.classes)
    store = Store(full / "results")
    row = store.row(base.id)
    assert row is not None
    network = build(base.training.network, 5, (1, 12, 12)).eval()
    load_tensors(network, checkpoint.unpack(store.get_checkpoint(base.id, row["checkpoint"]))[0])
    images = task_data(other.training, torch.device("cpu")).test.images  # type: ignore[union-attr]
    with torch.no_grad():
        expected = network[:3](images).flatten(1).numpy()
    found = np.stack(rows["layer3"].to_numpy(zero_copy_only=False))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert layerwise(*LINE, "--to", "b")[0] == 2  # never mixed with the images of A
    own = layerwise(*LINE, "--task", "A", "--to", "a")
    assert own[0] == layerwise(*LINE, "--to", "a")[0] == 0


@pytest.mark.usefixtures("small_parts", "full")
def test_a_stopped_extraction_goes_on_after_its_whole_files(
    layerwise: Layerwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, made = features.Extractor.part, []

    def stopping(self: Any, subset: str, first: int) -> Any:
        made.append((subset, first))
        if len(made) == 3:
            raise KeyboardInterrupt
        return compute(self, subset, first)

    with monkeypatch.context() as patch:
        patch.setattr(features.Extractor, "part", stopping)
        assert layerwise(*LINE)[0] == 130
        assert files(Path("features")) == ["train-000000000.parquet", "train-000000020.parquet"]
        assert layerwise(*LINE)[0] == 0
    assert made == [
        ("train", 0),
        ("train", 20),
        ("train", 40),
        ("train", 40),
        ("validation", 0),
        ("test", 0),
    ]
    assert layerwise(*LINE, "--to", "other")[0] == 0
    assert files(Path("features")) == files(Path("other"))
    for name in files(Path("other")):
        assert Path("features", name).read_bytes() == Path("other", name).read_bytes()


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--layer", "9"], "A s0: there are no weights of layer 9: expected 1..4"),
        (["--layer", "0"], "A s0: there are no weights of layer 0: expected 1..4"),
        (["--task", "C"], "no task 'C' in sweep small; expected one of A s0, B s0"),
        (["--pool", "maximum"], "features holds other features (test-000000000.parquet); give"),
    ],
)
@pytest.mark.usefixtures("full")
def test_mistakes_are_one_line(more: list[str], line: str, layerwise: Layerwise) -> None:
    assert layerwise(*LINE)[0] == 0
    before = files(Path("features"))
    code, _, err = layerwise(*LINE, *more)
    assert code == 2
    assert err.startswith(f"layerwise: {line}")
    assert err.count("\n") == 1
    assert files(Path("features")) == before


@pytest.mark.usefixtures("full")
def test_a_folder_of_something_else_stays(layerwise: Layerwise) -> None:
    Path("features").mkdir()
    Path("features/mine.parquet").write_text("no table")
    line = "layerwise: features/mine.parquet is no Parquet file; give another --to\n"
    assert layerwise(*LINE)[2].endswith(line)
    assert files(Path("features")) == ["mine.parquet"]
    code, _, err = layerwise(*LINE, "--to", "features/mine.parquet")
    assert (code, err.count("\n")) == (2, 1)
    assert Path("features/mine.parquet").read_text() == "no table"


@pytest.mark.usefixtures("full")
def test_parts_of_another_size_are_not_joined(
    layerwise: Layerwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert layerwise(*LINE)[0] == 0
    monkeypatch.setattr(feature_form, "PART_BYTES", 1000)
    code, _, err = layerwise(*LINE)
    assert code == 2
    assert "features holds other features" in err


@pytest.mark.usefixtures("full")
def test_a_trial_without_weights_or_a_row(layerwise: Layerwise) -> None:
    code, _, err = layerwise("features", "small.yaml", "A1B s0", "--layer", "1")
    assert code == 2
    assert "`keep: all` keeps the weights of every trial" in err
    changed = layerwise("features", "small.yaml", "A s0", "--layer", "1", "--set", "seeds=[3]")
    assert changed[0] == 2
    assert "is not complete in" in changed[2]
    classifier = "recipe.classifier={kind: knn, choices: [1]}"
    named = layerwise("features", "small.yaml", "A1B s0", "--layer", "1", "--set", classifier)
    assert "A1B s0 is a classifier on the features of its base: name the base" in named[2]
    changes = ("--set", classifier, "--set", "treatments=[base, pixels]")
    pixels = layerwise("features", "small.yaml", "A pixels s0", "--layer", "1", *changes)
    assert "A pixels s0 is a classifier on pixels, without a network" in pixels[2]
    assert not Path("features").exists()


@pytest.mark.usefixtures("full")
def test_a_full_disk(layerwise: Layerwise, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))  # type: ignore[attr-defined]
    code, _, err = layerwise(*LINE)
    assert code == 2
    assert "the features need 0.0 GB" in err
    assert not Path("features").exists()
