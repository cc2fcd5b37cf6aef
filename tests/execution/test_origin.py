"""The network and the images that features are made of: files of weights, trials, other tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from orchestrator.errors import LayerwiseError
from orchestrator.execution.features import extract
from orchestrator.execution.origin import weights_of
from orchestrator.plan.extraction import Extraction
from orchestrator.plan.origin import Origin, origin
from orchestrator.plan.plan import Plan
from orchestrator.store.store import Store
from trainers.config import NetworkRef, TaskForm
from trainers.feature_form import FeatureForm
from trainers.networks import build, tensors_of

PlanOf = Callable[..., Plan]

SWEEP = """\
name: kept
tasks:
  small:
    dataset: {name: digits, canvas: 12, train: 20, renderings: 1, validation: 4, test: 8}
    classes: [0, 1, 2]
    images_per_class: 5
    draws: [0, 1]
  other: {dataset: {name: digits, canvas: 12, train: 10, renderings: 1, validation: 2, test: 3}}
  idle: {dataset: {name: digits, canvas: 12, train: 7}, images_per_class: 3, draws: [5, 6]}
  large: {dataset: {name: digits, canvas: 14}}
weights:
  old: {file: FILE, mean: [0.2], deviation: [0.4]}
  unused: {file: FILE}
network: {conv: [4, 4], pool: [1], fc: [8]}
grids:
  of_weights: {transfers: [[old, small], [old, other]], images_per_class: [4, all]}
  of_tasks: {transfers: [[other, small]], recipe: {normalise: source}}
treatments: [base, transfer]
layers: [1, 3]
recipe: {rate: 0.03, steps: 3, batch: 6}
"""
CONV = NetworkRef(name="conv8", options=(("conv", (4, 4)), ("fc", (8,)), ("pool", (1,))))


@pytest.fixture
def plan(plan_of: PlanOf, tmp_path: Path) -> Plan:
    torch.manual_seed(0)
    path = tmp_path / "old.safetensors"
    save_file(dict(tensors_of(build(CONV, 7, (1, 12, 12)))), path)
    return plan_of(SWEEP.replace("FILE", str(path)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def mistake(plan: Plan, store: Store, name: str, task: str | None = None) -> str:
    with pytest.raises(LayerwiseError) as raised:
        weights_of(plan, origin(plan, name, task), store)
    return str(raised.value)


def test_a_file_of_weights_sees_images_in_its_own_form(plan: Plan, store: Store) -> None:
    (weights,) = plan.weights.values()
    of = origin(plan, "old", "small")
    assert (of.name, of.id) == ("old", weights.id)
    assert weights_of(plan, of, store) == (weights.sha256, weights.data)
    assert (of.training.target.draw, of.training.target.images_per_class) == (0, 5)
    assert of.training.target.form == TaskForm(mean=(0.2,), deviation=(0.4,))
    second = origin(plan, "old", "small d1")
    assert second.training.target.draw == 1
    whole = origin(plan, "old", "other").training.target
    assert (len(whole.labels), whole.images_per_class) == (10, None)


def written(plan: Plan, of: Origin, layers: tuple[int, ...], store: Store, to: Path) -> int:
    extraction = Extraction(origin=of, form=FeatureForm(layers=layers))
    return extract(extraction, weights_of(plan, of, store), to, lambda *_: None)


def test_features_of_a_file_of_weights(plan: Plan, store: Store, tmp_path: Path) -> None:
    of = origin(plan, "old", "small")
    images = written(plan, of, (1, 3), store, tmp_path / "to")
    assert images == 3 * (5 + 4 + 8)
    with pytest.raises(
        LayerwiseError, match=r"^old: there are no weights of layer 4: expected 1\.\.3$"
    ):
        written(plan, of, (4,), store, tmp_path / "more")
    other = origin(plan, "old", "small d1")
    with pytest.raises(LayerwiseError, match="holds other features"):
        written(plan, other, (1, 3), store, tmp_path / "to")


def test_a_task_that_no_grid_uses_is_seen_as_the_own_one(plan: Plan) -> None:
    base = next(x for x in plan.members if x.division == "source other")
    for name, task, draw in (("idle", "idle d5", 5), ("idle d6", "idle d6", 6)):
        of = origin(plan, base.id, name)
        assert (of.task, of.training.target.draw) == (task, draw)
        assert of.training.target.images_per_class == 3
        assert of.training.target.form == base.training.target.form
    of = origin(plan, "old", "idle")
    assert of.training.target.form == TaskForm(mean=(0.2,), deviation=(0.4,))
    assert {trial.target for trial in plan.members} == {"small", "other"}


def test_images_are_normalised_as_the_network_learned_them(plan: Plan) -> None:
    """Copies of weights keep their mean on a task whose base has none, and the reverse."""
    copy = next(x.name for x in plan.members if x.name.startswith("old-1-small"))
    for task in ("small", "other", "idle"):
        form = origin(plan, copy, task).training.target.form
        assert form == TaskForm(mean=(0.2,), deviation=(0.4,))
    base = next(x for x in plan.members if x.division == "source other")
    for task in ("small d0", "small d1"):
        assert origin(plan, base.id, task).training.target.form == base.training.target.form


def test_mistakes_are_one_line(plan: Plan, store: Store) -> None:
    assert mistake(plan, store, "old") == ("old is copied to small, other: name one with --task")
    assert mistake(plan, store, "unused") == "no grid of sweep kept copies from unused: add one"
    assert mistake(plan, store, "old", "smallest") == (
        "no task 'smallest' in sweep kept; did you mean 'small'?"
    )
    for name in ("idle d7", "larger"):
        assert mistake(plan, store, "old", name).startswith(f"no task {name!r} in sweep kept; did")
    assert mistake(plan, store, "old", "large") == (
        "no grid uses large, whose images are 1×14×14, and old-1-small d0 k4 sees 1×12×12: bring "
        "both to one form, the same in all grids (form.size, form.channels)"
    )
    assert "is not complete in" in mistake(plan, store, "other-1-small d0 k5", "other")
