"""Smaller tasks in a grid: fewer images per class, and a single class against the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from orchestrator.execution.inline import run_inline
from orchestrator.execution.run import Run
from orchestrator.plan.cost import cost, rate_key
from orchestrator.plan.plan import Plan
from orchestrator.report.progress import RunProgress
from orchestrator.store.store import Store
from trainers.classifier import Classifier
from trainers.recipe import Recipe

PlanOf = Callable[..., Plan]

ONE = """\
name: one
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {random: [0], sizes: [9]}
treatments: [base, base_long, selffer, transfer, transfer+, random]
layers: [1, 3]
images_per_class: [4, all]
recipe: {rate: 0.03, steps: 3, batch: 6}
"""


def test_images_per_class_limits_the_target_and_not_its_source(plan_of: PlanOf) -> None:
    changes = ("treatments=[base, selffer, transfer]", "images_per_class=[2, all]", "layers=1")
    planned = plan_of(ONE, "splits.sizes=[]", *changes)
    by_name = {trial.name: trial for trial in planned.members}
    assert list(by_name) == [
        *("A s0 k2", "A s0", "B s0 k2", "B s0"),
        *("A1A s0 k2", "B1A s0 k2", "B1B s0 k2", "A1B s0 k2"),
        *("A1A s0", "B1A s0", "B1B s0", "A1B s0"),
    ]
    assert by_name["A1A s0 k2"].parent == by_name["A s0 k2"].id
    assert by_name["B1A s0 k2"].parent == by_name["B s0"].id
    assert by_name["B1A s0 k2"].training.target.images_per_class == 2
    assert by_name["B1A s0 k2"].training.source == by_name["B s0"].training.target
    assert {t.images_per_class for t in planned.members} == {2, None}


def test_one_class_stands_against_what_its_source_never_saw(plan_of: PlanOf) -> None:
    planned = plan_of(ONE)
    by_name = {trial.name: trial.training for trial in planned.members}
    lone, others = by_name["B s0-9"].target, by_name["A s0-9"].target
    assert (lone.rest, len(lone.classes), len(others.classes)) == (others.classes, 1, 9)
    assert lone.reserved == others.reserved == 2  # of 10 images a class: 18 negatives in all
    assert others.rest == ()
    assert by_name["A1B s0-9"].target.images_per_class is None
    assert by_name["A1B s0-9 k4"].target.images_per_class == 4
    assert {trial.division for trial in planned.members} == {"random-9"}


def test_one_class_against_the_rest_is_trained_and_scored(plan_of: PlanOf, tmp_path: Path) -> None:
    planned, store = plan_of(ONE), Store(tmp_path / "results")
    run = Run.open(planned, store, RunProgress(Console(quiet=True)))
    run_inline(run)
    rows = {row["name"]: row for row in store.table("trials").to_pylist()}
    assert Counter(row["outcome"] for row in rows.values()) == {"complete": len(planned.trials)}
    row = rows["A3B s0-9"]
    assert (row["classes"], row["total"], row["top5"]) == (2, 30, None)
    assert 0 <= row["auroc"] <= 1
    counts = [
        (r["class_index"], r["correct"], r["total"])
        for r in store.table("classes").to_pylist()
        if r["id"] == row["id"] and r["subset"] == "test"
    ]
    lone = planned.trials[row["id"]].training.target.classes[0]
    assert [(index, total) for index, _, total in counts] == [(None, 27), (lone, 3)]
    assert row["balanced_accuracy"] == sum(right / total for _, right, total in counts) / 2
    assert rows["A s0-9"]["auroc"] is None


COPIES = """\
name: copies
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {random: [0]}
layers: [1, 3]
recipe: {rate: 0.03, steps: 8, batch: 6}
"""


def test_settings_that_do_not_apply_change_no_id(plan_of: PlanOf) -> None:
    """Equal trainings are one trial: only the trials that use a setting get another id."""
    plain = {trial.name: trial.id for trial in plan_of(COPIES).members}

    def changed(*changes: str) -> set[str]:
        members = plan_of(COPIES, *(f"recipe.{change}" for change in changes)).members
        assert len({trial.id for trial in members}) == len(plain)
        return {trial.name.split()[0] for trial in members if trial.id != plain[trial.name]}

    frozen = {"A3A", "B3B", "A3B", "B3A", "R3A", "R3B"}
    tuned = {f"{name}{n}{name}+" for n in (1, 3) for name in "AB"} | {
        *("A1B+", "A3B+", "B1A+", "B3A+")
    }
    assert changed("freeze=3") == set()
    assert changed("freeze=2") == frozen
    assert changed("learn=[3]") == frozen
    assert changed("learn=[layer4.fc]") == set()
    for fine in ("l2_sp=0.1", "feature_l2=0.1", "fresh_first=0.5"):
        assert changed(fine) == tuned
    assert changed("stages=[{fraction: 1.0}]") == set()
    assert changed("stages=[{fraction: 0.5, learn: [2]}, {fraction: 0.5}]") == tuned
    assert changed("l2_sp=0.1", "freeze=2") == tuned | frozen
    everything = {name.split()[0] for name in plain}
    for of_all in ("loss=squared_error", "label_smoothing=0.1", "stop={patience: 2}"):
        assert changed(of_all) == everything


def test_pixels_are_planned_once_per_target_and_number_of_images(plan_of: PlanOf) -> None:
    """Neither the network's first weights nor pooling belong to a classifier on pixels."""
    wanted = ("treatments=[base, transfer, pixels]", "images_per_class=[5, all]")
    classifier = "recipe.classifier={kind: svm, pool: maximum}"
    members = plan_of(COPIES, *wanted, classifier).members
    pixels = {trial.name: trial for trial in members if trial.treatment_name == "pixels"}
    assert list(pixels) == ["A pixels s0 k5", "B pixels s0 k5", "A pixels s0", "B pixels s0"]
    trial = pixels["B pixels s0 k5"]
    svm = Classifier(kind="svm", pool="none")
    assert trial.training.recipe == Recipe(steps=1, batch=25, classifier=svm)
    assert (trial.parent, trial.source, trial.training.treatment.n) == (None, None, 0)
    assert (trial.labels()["frozen"], trial.keep_checkpoint) == (False, False)
    for change in ("recipe.init=torch", "recipe.rate=1", "recipe.classifier.pool=none"):
        other = plan_of(COPIES, *wanted, classifier, change)
        assert {x.id for x in pixels.values()} <= other.trials.keys()


def test_pixels_run_no_network(plan_of: PlanOf) -> None:
    wanted = ("treatments=[base, transfer, pixels]", "recipe.classifier={kind: knn}")
    planned = plan_of(COPIES, *wanted)
    by_name = {trial.name: trial for trial in planned.members}
    macs = planned.layers(by_name["A s0"]).macs
    assert planned.flops(by_name["B pixels s0"]) == 0
    assert planned.flops(by_name["A3B s0"]) == 2 * sum(macs[:3]) * 50
    rates = {rate_key(by_name["B pixels s0"]): 10.0, rate_key(by_name["A3B s0"]): 25.0}
    ids = [by_name[name].id for name in ("B pixels s0", "A3B s0")]
    assert cost(planned, ids, rates).seconds == 5 + 2
    base = by_name["A s0"]
    alone = {rate_key(base): 4.0}
    assert cost(planned, [base.id, ids[0]], alone).seconds == 8 * 6 / 4


def test_a_classifier_on_features_has_no_settings_of_steps(plan_of: PlanOf) -> None:
    """Bases and fine-tuned networks stay as they are, and of the rest of the recipe, nothing."""
    classifier = "recipe.classifier={kind: logistic, choices: [1]}"
    plain, features, others = (
        {trial.name.partition(" recipe")[0]: trial for trial in plan_of(COPIES, *changes).members}
        for changes in (
            (),
            (classifier,),
            (classifier, "recipe.rate=0.2", "recipe.steps=9", "recipe.loss=squared_error"),
        )
    )
    frozen = {name for name, trial in plain.items() if trial.training.treatment.frozen}
    assert {name for name in plain if features[name].id != plain[name].id} == frozen
    for name in frozen:
        recipe = features[name].training.recipe
        assert recipe == Recipe(
            steps=1, batch=50, classifier=Classifier(kind="logistic", choices=(1,))
        )
        is_random = name.startswith("R")
        assert (features[name].id == others[name].id) == is_random  # others have another base
    assert features["A3B s0"].images == 50
    again = plan_of(COPIES, classifier.replace("[1]", "[1.0]"))
    assert again.trials.keys() == {trial.id for trial in features.values()}


def test_short_and_long_forms_of_stages_are_one_training(plan_of: PlanOf) -> None:
    ids = [
        [trial.id for trial in plan_of(COPIES, f"recipe.{change}").members]
        for change in (
            "fresh_first=0.25",
            "stages=[{fraction: 0.25, learn: fresh}, {fraction: 0.75}]",
            "stages=[{fraction: 0.25, learn: [4]}, {fraction: 0.75}]",
        )
    ]
    assert ids[0] == ids[1] == ids[2]


def test_freezing_less_costs_more(plan_of: PlanOf) -> None:
    planned, less = plan_of(COPIES), plan_of(COPIES, "recipe.freeze=1")
    (a, b) = (
        next(trial for trial in plan.members if trial.name == "A3B s0") for plan in (planned, less)
    )
    assert (a.training.frozen_layers, b.training.frozen_layers) == (3, 1)
    assert planned.flops(a) < less.flops(b)
