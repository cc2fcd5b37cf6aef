"""The network and the images that features are made of: files of weights, trials, other tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from orchestrator.errors import LayerwiseError
from orchestrator.execution.extraction import extract
from orchestrator.execution.origin import origin
from orchestrator.plan.plan import Plan
from orchestrator.store.store import Store
from trainers.config import NetworkRef, TaskForm
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
        origin(plan, name, task, store)
    return str(raised.value)


def test_a_file_of_weights_sees_images_in_its_own_form(plan: Plan, store: Store) -> None:
    (weights,) = plan.weights.values()
    of = origin(plan, "old", "small", store)
    assert (of.name, of.id, of.sha256) == ("old", weights.id, weights.sha256)
    assert (of.training.target.draw, of.training.target.images_per_class) == (0, 5)
    assert of.training.target.form == TaskForm(mean=(0.2,), deviation=(0.4,))
    second = origin(plan, "old", "small d1", store)
    assert second.training.target.draw == 1
    whole = origin(plan, "old", "other", store).training.target
    assert (len(whole.labels), whole.images_per_class) == (10, None)


def test_features_of_a_file_of_weights(plan: Plan, store: Store, tmp_path: Path) -> None:
    of = origin(plan, "old", "small", store)
    images = extract(of, [1, 3], "average", tmp_path / "to", lambda *_: None)
    assert images == 3 * (5 + 4 + 8)
    with pytest.raises(
        LayerwiseError, match=r"^old: there are no weights of layer 4: expected 1\.\.3$"
    ):
        extract(of, [4], "average", tmp_path / "more", lambda *_: None)
    other = origin(plan, "old", "small d1", store)
    with pytest.raises(LayerwiseError, match="holds other features"):
        extract(other, [1, 3], "average", tmp_path / "to", lambda *_: None)


def test_mistakes_are_one_line(plan: Plan, store: Store) -> None:
    assert mistake(plan, store, "old") == ("old is copied to small, other: name one with --task")
    assert mistake(plan, store, "unused") == "no grid of sweep kept copies from unused: add one"
    assert mistake(plan, store, "old", "smallest") == (
        "no task 'smallest' in sweep kept; did you mean 'small'?"
    )
    assert "is not complete in" in mistake(plan, store, "other-1-small d0 k5", "other")
