"""The bundled sweeps: their plans at full size, and tiny forms of the same shape.

The tiny forms are run in `tests/cluster/test_sweeps_through_ray.py`.
"""

from __future__ import annotations

import functools
import io
import re
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.plan.trial import Trial
from orchestrator.reference.published import paper, published
from orchestrator.sweep.load import load_sweep, read_sweep
from tests.conftest import Ended
from trainers.canonical import freeze_options
from trainers.config import DatasetRef
from trainers.datasets import load
from trainers.torchvision_weights import Published

SIZES = {
    "paper": 163,
    "balanced": 296,
    "natural_manmade": 222,
    "reduced": 12,
    "cifar100": 296,
}
FEWER = {"across": (125, 50), "across_stacked": (135, 54)}  # tiny forms of two draws, not five


@functools.cache
def planned(name: str) -> Plan:
    return make_plan(resolve(*load_sweep(name)))


def shape(plan: Plan) -> Counter[tuple[object, ...]]:
    """Count equal cells, without regard to the numbers of classes and images."""
    sizes = [k for grid in plan.sweep.parts.values() for k in grid.images_per_class]

    def cell(trial: Trial) -> tuple[object, ...]:
        division = trial.division.partition("-")[0]
        rank = sizes.index(trial.images_per_class) if trial.images_per_class else None
        training = trial.training.treatment.n, trial.training.seed
        return (trial.treatment_name, division, trial.source, trial.target, rank, *training)

    return Counter(map(cell, plan.members))


@pytest.mark.parametrize("name", SIZES)
def test_the_tiny_form_has_the_same_shape(name: str) -> None:
    full, tiny = planned(name), planned(f"{name}:tiny")
    assert len(full.trials) == len(tiny.trials) == SIZES[name]
    assert shape(full) == shape(tiny)


@pytest.mark.parametrize("name", FEWER)
def test_the_tiny_form_has_fewer_draws(name: str) -> None:
    full, tiny = planned(name), planned(f"{name}:tiny")
    assert (len(full.trials), len(tiny.trials)) == FEWER[name]
    cells = [
        {(t.treatment_name, t.division, t.training.treatment.n, t.condition) for t in plan.members}
        for plan in (full, tiny)
    ]
    assert cells[0] == cells[1]


def test_the_tiny_form_of_unequal_has_fewer_splits_and_layers() -> None:
    full, tiny = planned("unequal"), planned("unequal:tiny")
    assert (len(full.trials), len(tiny.trials)) == (1780, 392)
    fewer = make_plan(resolve(*load_sweep("unequal", ["splits.random=[0, 1]", "layers=[1, 7]"])))
    assert shape(fewer) == shape(tiny)


def test_steps_of_unequal_follow_the_images() -> None:
    bases = [t for t in planned("unequal").members if t.treatment_name == "base"]
    steps = {(t.division, t.target, t.images_per_class): t.training.recipe.steps for t in bases}
    assert steps["random-999", "B", 10] == steps["random-990", "B", 100] == 5000  # the least
    assert steps["random", "B", 20] == 20 * (10_000 // 32)
    assert steps["random", "B", 100] == 20 * (50_000 // 32)
    assert steps["random", "A", None] > 20 * (500 * 1200 // 32)


def test_the_papers_networks() -> None:
    """The plan has ten bases, 140 transfers, one network of all classes, twelve of few images."""
    plan = planned("paper")
    divisions = Counter((trial.division, trial.treatment_name) for trial in plan.trials.values())
    assert divisions == {
        ("random", "base"): 8,
        ("random", "selffer"): 28,
        ("random", "transfer"): 56,
        ("random", "selffer+"): 14,
        ("random", "transfer+"): 28,
        ("natural_manmade", "base"): 2,
        ("natural_manmade", "transfer"): 14,
        ("whole", "base"): 13,
    }
    known = Counter(published(trial.labels()) for trial in plan.members)
    assert known == {True: 141, False: 22}
    theirs = {(row["split"], row["split_hash"]) for row in paper().to_pylist()}
    assert {(trial.split, trial.split_hash) for trial in plan.members} == theirs
    recipe = plan.members[0].training.recipe
    assert (recipe.optimiser, recipe.rate, recipe.steps) == ("caffe_sgd", 0.01, 450_000)
    halves = {t.target: t.training.target for t in plan.members if t.split == "natural_manmade"}
    assert [len(halves[letter].classes) for letter in "AB"] == [449, 551]


def test_random_filters_are_a_form_of_the_paper() -> None:
    plan = planned("paper:random")
    assert len(plan.trials) == 170
    filters = [trial for trial in plan.members if trial.treatment_name == "random"]
    assert [trial.name for trial in filters] == [f"R{n}A whole" for n in range(1, 8)]
    assert [published(trial.labels()) for trial in filters] == [True] * 7


def test_only_the_paper_validates_on_its_test_images() -> None:
    held = {name: load_sweep(name)[0].dataset.options["held_out"] for name in SIZES}
    assert [name for name, images in held.items() if images == 0] == ["paper"]


def test_the_balanced_design_pairs_everything() -> None:
    cells = Counter((t.split, t.target, t.treatment_name) for t in planned("balanced").members)
    assert set(cells.values()) == {1, 7}
    assert len(cells) == 4 * 2 * 7


def test_one_class_of_a_thousand_is_trained_against_the_rest() -> None:
    lone = [t for t in planned("unequal").members if t.division == "random-999" and t.target == "B"]
    assert {len(trial.training.target.labels) for trial in lone} == {2}
    negatives = {t.images_per_class: t.training.target.negatives for t in lone}
    assert {k: negatives[k] for k in (10, 20, 100)} == {10: 30, 20: 60, 100: 300}
    assert {trial.training.target.reserved for trial in lone} <= {3, 4}  # of 999 classes


# Which layers to keep ----------------------------------------------------------------------------


def header_commands(name: str) -> list[list[str]]:
    text, _ = read_sweep(name)
    lines = re.findall(r"^#\s+(?:Run:\s+)?(layerwise .*?)(?:\s{2,}.*)?$", text, re.MULTILINE)
    return [shlex.split(line)[1:] for line in lines]


@pytest.mark.slow
@pytest.mark.usefixtures("folder", "fresh_data")
def test_the_tiny_form_of_which_layers_runs_by_its_commands(
    layerwise: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAYERWISE_DATA", str(tmp_path / "data"))
    commands = [words for words in header_commands("which_layers") if words[1] != "which_layers"]
    assert [words[0] for words in commands] == ["run", "export", "run", "advise"]
    for words in commands:
        options = ["--inline"] if words[0] == "run" else []

        done = layerwise(*words, *options)
        assert done.code == 0, done
    assert "weights pretrained to mine, 8 images of each class (test top-1)" in done.out
    assert "Fine-tuned, n = " in done.out
    page = Path("results/reports/which_layers-tiny/index.html").read_text(encoding="utf-8")
    assert "Which layers to keep" in page
    assert "The source is a file of weights. So there is no BnB" in page


@pytest.mark.usefixtures("folder", "fresh_data")
def test_which_layers_has_eighty_networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torchvision.models import resnet18

    monkeypatch.setenv("LAYERWISE_DATA", str(tmp_path / "data"))
    options = {"classes": 4, "images": 40, "test": 2, "size": 24, "held_out": 1}
    load(DatasetRef(name="generated", options=freeze_options(options)))
    (drawn,) = (tmp_path / "data/generated").iterdir()
    monkeypatch.setenv("IMAGES", str(drawn))
    file = io.BytesIO()
    torch.save(resnet18().state_dict(), file)
    monkeypatch.setattr(Published, "obtain", lambda _: file.getvalue())
    plan = planned("which_layers")
    assert len(plan.trials) == 80
    form = plan.members[0].training.target.form
    assert form.mean == (0.485, 0.456, 0.406)
