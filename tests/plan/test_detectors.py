"""Tasks of objects in boxes: their detectors in a plan, and keys that do not go with them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.errors import SweepError
from orchestrator.plan.filter import find
from orchestrator.plan.measurement import measurements_of
from orchestrator.plan.plan import Plan
from orchestrator.sweep.records import training_from
from trainers.canonical import canonical
from trainers.config import training_macs
from trainers.detector import Detector

PlanOf = Callable[..., Plan]

SCENES = """\
name: scenes
tasks:
  alone: {dataset: {name: shapes, classes: [circle, cross], boxes: false, most: 1, size: 32}}
  scenes: {dataset: {name: shapes, classes: [circle, cross], size: 32}}
transfers: [[alone, scenes]]
network: {name: conv8, conv: [4, 6], pool: [1, 2], fc: [8]}
treatments: [base, transfer, transfer+, random]
recipe: {rate: 0.01, steps: 4, batch: 4, detector: {width: 8}}
"""
MISTAKES = [
    ("recipe.crop=28", "a crop would cut the objects of scenes: leave it out"),
    (
        "recipe.classifier={kind: knn}",
        "images of scenes have several objects each: leave the classifier out",
    ),
    (
        "treatments=[base, transfer, stitched]",
        "the upper layers of scenes are a detector: leave stitched out",
    ),
    (
        "measure=[weights]",
        "measured are networks that name classes, and all transfers go to detectors: leave it out",
    ),
    ("layers=[3]", "layer 3 is out of range: the detector of scenes sees layers 1..2"),
    (
        "recipe.detector.backbone=3",
        "recipe.detector.backbone is 3, but only layers 1..2 keep the places of an image",
    ),
    ("recipe.detector.width=6", "expected a multiple of 4: channels are normed in 4s"),
    (
        "tasks.scenes.classes=[circle]",
        "a detector learns all classes of its dataset: leave classes out",
    ),
]


def test_the_target_has_a_detector_and_the_source_has_none(plan_of: PlanOf) -> None:
    planned = plan_of(SCENES)
    names = [trial.name for trial in planned.members]
    assert len(names) == len(set(names)) == 2 + 3 * 2  # n is 1 or 2
    detectors = {x.target: x.training.recipe.detector for x in planned.members}
    assert detectors == {"alone": None, "scenes": Detector(width=8)}
    base = find(planned, "alone")
    copies = [x for x in planned.members if x.training.treatment.kind == "transfer"]
    assert {x.parent for x in copies} == {base.id}
    assert training_from(canonical(copies[0].training)) == copies[0].training
    assert (planned.layers(base).depth, planned.layers(copies[0]).depth) == (4, 3)
    frozen = next(x for x in copies if x.training.treatment.frozen)
    macs = training_macs(planned.layers(frozen).macs, frozen.training.frozen_layers)
    assert planned.flops(frozen) == 2.0 * macs * frozen.images


def test_settings_of_a_detector_are_part_of_the_ids_of_detectors_alone(plan_of: PlanOf) -> None:
    planned, other = plan_of(SCENES), plan_of(SCENES, "recipe.detector={kind: retinanet}")
    shared = {planned.trials[id].target for id in planned.trials.keys() & other.trials.keys()}
    assert shared == {"alone"}
    smooth = plan_of(SCENES, "recipe.label_smoothing=0.1")  # a loss of classes, not of boxes
    shared = {planned.trials[id].name for id in planned.trials.keys() & smooth.trials.keys()}
    assert shared == {x.name for x in planned.members if x.treatment_name in ("random",)} | {
        x.name for x in planned.members if x.treatment_name == "base" and x.target == "scenes"
    }


def test_detectors_are_not_measured(plan_of: PlanOf) -> None:
    both = SCENES.replace("[[alone, scenes]]", "[[alone, scenes], [scenes, alone]]")
    planned = plan_of(both, "measure=[weights]", "layers=1")
    measured = [planned.trials[x.first.id] for x in measurements_of(planned).values()]
    assert measured
    assert {trial.target for trial in measured} == {"alone"}


@pytest.mark.parametrize(("change", "message"), MISTAKES, ids=[x for x, _ in MISTAKES])
def test_what_does_not_go_with_a_detector_is_named(
    plan_of: PlanOf, change: str, message: str
) -> None:
    with pytest.raises(SweepError) as error:
        plan_of(SCENES, change)
    (line,) = str(error.value).splitlines()
    assert message in line


def test_objects_make_no_halves(plan_of: PlanOf) -> None:
    text = "name: x\ndataset: {name: shapes}\nsplits: {random: [0]}\nlayers: [1]\n"
    text += "network: {name: conv8}\nrecipe: {rate: 0.1, steps: 1}\n"
    message = "shapes has objects in boxes, which make no halves: name it under tasks"
    with pytest.raises(SweepError, match=message):
        plan_of(text)


def test_a_folder_that_is_no_voc_is_named(plan_of: PlanOf, tmp_path: object) -> None:
    dataset = f"{{name: voc, root: '{tmp_path}'}}"
    message = r"no folder VOCdevkit/VOC2007 or VOC2007 in .*: name the folder that holds it"
    with pytest.raises(SweepError, match=message) as error:
        plan_of(SCENES, f"tasks.scenes.dataset={dataset}")
    assert len(str(error.value).splitlines()) == 1
