"""Detectors end to end: rows, effects, proofs, exact resuming, and what copied layers are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from orchestrator.api.results import Results
from orchestrator.errors import LayerwiseError
from orchestrator.execution.features import extract
from orchestrator.execution.inline import run_inline
from orchestrator.execution.origin import weights_of
from orchestrator.execution.run import Run
from orchestrator.plan.extraction import Extraction
from orchestrator.plan.filter import find
from orchestrator.plan.origin import origin
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.report.progress import RunProgress
from orchestrator.stats.statistics import Statistics
from orchestrator.store.store import Store
from orchestrator.sweep.load import load_sweep
from orchestrator.sweep.records import training_from
from trainers.datasets import load
from trainers.detection.scores import box_score
from trainers.feature_form import FeatureForm
from trainers.loop import train
from trainers.results import Result, Runtime, Snapshot
from trainers.task_data import task_data

Row = dict[str, Any]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(resolve(*load_sweep("detection:tiny", ["keep=all"])))


@pytest.fixture(scope="module")
def store(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a store with the tiny form of the sweep `detection`."""
    store = Store(tmp_path_factory.mktemp("detection"))
    run_inline(Run.open(plan, store, RunProgress(Console(quiet=True))))
    return store


def detectors(store: Store) -> list[Row]:
    return [row for row in store.table("trials").to_pylist() if row["detector"]]


def test_a_detector_is_loaded_and_finds_what_its_row_says(store: Store) -> None:
    row = max(detectors(store), key=lambda row: row["map50"])
    results = Results(store)
    network = results.load_network(row["id"])
    training = training_from(row["training"])
    data = task_data(training, torch.device("cpu"))
    images = torch.cat(list(data.test.chunks()))  # type: ignore[union-attr]
    found = network[-1].detections(network(images))  # type: ignore[operator]
    assert data.test.objects is not None
    score = box_score(found, data.test.objects, len(training.target.labels), 0.0)
    assert score.map50 == pytest.approx(row["map50"], abs=1e-6)
    assert results.features(row["id"], 1, images[:2].numpy(), normalised=True).shape[0] == 2


def test_rows_of_detectors_have_map_and_no_top1(store: Store) -> None:
    rows = store.table("trials").to_pylist()
    assert {row["outcome"] for row in rows} == {"complete"}
    assert len(rows) == 9
    of_boxes = detectors(store)
    assert len(of_boxes) == 8
    columns = ("map", "map50", "map50_voc07", "map50_voc10", "val_map50", "train_map50")
    for row in of_boxes:
        assert row["detector"] == "fcos"
        assert all(0 <= row[name] <= 1 for name in columns)
        assert row["map"] <= row["map50"]
        assert [row[name] for name in ("top1", "top5", "correct", "val_top1")] == [None] * 4
        assert row["total"] == 8
    (base,) = [row for row in rows if row not in of_boxes]
    assert [base[name] for name in columns] == [None] * len(columns)
    assert base["top1"] is not None
    frozen = [row for row in of_boxes if row["frozen"]]
    assert [row["frozen_proven"] for row in frozen] == [True] * 4


def test_classes_and_curves_of_detectors(store: Store) -> None:
    ids = {row["id"] for row in detectors(store)}
    classes = [row for row in store.table("classes").to_pylist() if row["id"] in ids]
    assert len(classes) == 8 * 2 * 4
    assert {(row["correct"], row["total"]) for row in classes} == {(None, None)}
    assert any(row["average_precision"] is not None for row in classes)
    points = [row for row in store.table("curves").to_pylist() if row["id"] in ids]
    assert all(row["val_map50"] is not None and row["val_top1"] is None for row in points)


def test_effects_are_of_map(store: Store) -> None:
    effects = Statistics.of_sweep(store, "detection-tiny").effects.to_pylist()
    assert {row["metric"] for row in effects} == {"map50"}
    transfers = [row for row in effects if row["effect"] == "transfer"]
    assert {(row["n"], row["unit"], row["n_splits"]) for row in transfers} == {(2, "draw", 2)}


def test_a_detector_has_no_features(plan: Plan) -> None:
    name = next(x.name for x in plan.members if x.training.recipe.detector)
    with pytest.raises(LayerwiseError, match="is a detector: name the base that its layers are of"):
        origin(plan, name)


def test_features_of_a_base_on_images_of_objects(plan: Plan, store: Store, tmp_path: Path) -> None:
    """The label of an image is the class of its largest object, and not its number."""
    base = next(x for x in plan.members if not x.training.recipe.detector)
    target = next(x for x in plan.members if x.training.recipe.detector).training.target
    of = origin(plan, base.name, next(x.target for x in plan.members if x.training.recipe.detector))
    form = FeatureForm(layers=(1, 2))
    extract(
        Extraction(origin=of, form=form), weights_of(plan, of, store), tmp_path, lambda *_: None
    )
    table = pq.read_table(tmp_path).filter(pc.field("subset") == "test").sort_by("image")
    labels = load(target.dataset, of.data_root).test.labels
    assert table["class_index"].to_pylist() == labels[table["image"].to_numpy()].tolist()
    assert len(set(table["label"].to_pylist())) > 1


@pytest.mark.parametrize("kind", ["transfer", "transfer+"])
def test_resuming_a_detector_is_bit_identical(plan: Plan, store: Store, kind: str) -> None:
    trial = next(x for x in plan.members if x.treatment_name == kind)
    parent = find(plan, plan.trials[trial.parent or ""].name)
    row = store.row(parent.id)
    assert row is not None
    weights = store.get_checkpoint(parent.id, row["checkpoint"])

    def rows(resume: bytes | None = None) -> list[Any]:
        runtime = Runtime(checkpoint_seconds=0.0)
        return list(train(trial.training, parent=weights, resume=resume, runtime=runtime))

    whole = rows()
    expected = whole[-1]
    assert isinstance(expected, Result)
    assert expected.frozen_hash_start == expected.frozen_hash_end
    snapshot = [x for x in whole if isinstance(x, Snapshot)][1]
    last = rows(snapshot.data)[-1]
    assert last.checkpoint == expected.checkpoint
    assert (last.test, last.validation, last.training) == (
        *(expected.test, expected.validation, expected.training),
    )
    once = next(x for x in detectors(store) if x["id"] == trial.id)
    assert expected.test is not None
    assert once["map50"] == expected.test.map50


@pytest.mark.slow
def test_copied_layers_that_learn_find_shapes_far_better(tmp_path: Path) -> None:
    """A detector from scratch has the same steps, images and head."""
    changes = ["tasks.scenes.draws=[0]", "treatments=[base, transfer+]", "layers=[3]"]
    changes += ["recipe.epochs=9", "recipe.evaluate_every=300", "tasks.scenes.dataset.test=25"]
    plan = make_plan(resolve(*load_sweep("detection", changes)))
    store = Store(tmp_path)
    run_inline(Run.open(plan, store, RunProgress(Console(quiet=True))))
    scores = {row["treatment"]: row["map50"] for row in detectors(store)}
    assert scores["transfer"] > scores["base"] + 0.2
