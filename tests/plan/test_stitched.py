"""Stitched trials of a plan: two parents each, and what does not fit."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from orchestrator.errors import SweepError
from orchestrator.plan.filter import find
from orchestrator.plan.plan import Plan
from orchestrator.sweep.records import training_from
from trainers.canonical import canonical
from trainers.config import training_macs
from trainers.networks import build, tensors_of

PlanOf = Callable[..., Plan]

STITCHED = """\
name: joined
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {random: [0]}
treatments: [base, stitched, stitched_self]
layers: [1, 3]
recipe: {rate: 0.03, steps: 3, batch: 6}
"""
NAMED = """\
name: named
tasks:
  wide: {dataset: {name: digits, canvas: 14}, images: 100}
  small: {dataset: {name: digits, canvas: 12}, classes: [1, 3, 5], images_per_class: 12}
sources: [wide]
targets: [small]
form: {size: 12}
network: {conv: [4, 4], pool: [1], fc: [8]}
treatments: [base, stitched, stitched_self]
layers: [2]
recipe: {rate: 0.03, steps: 4, batch: 16}
"""


def test_both_parents_are_bases(plan_of: PlanOf) -> None:
    planned = plan_of(STITCHED)
    assert [trial.name for trial in planned.members] == [
        *("A s0", "B s0"),
        *("B1|A s0", "B3|A s0", "A1|A s0", "A3|A s0"),
        *("A1|B s0", "A3|B s0", "B1|B s0", "B3|B s0"),
    ]
    a, b = (find(planned, name) for name in ("A s0", "B s0"))
    across, own = find(planned, "A3|B s0"), find(planned, "B3|B s0")
    assert (across.parent, across.training.upper, across.source) == (a.id, b.id, "A")
    assert (own.parent, own.training.upper, own.source) == (b.id, b.id, "B")
    assert planned.with_parents([across.id]) == {a.id, b.id, across.id}
    assert planned.with_parents([own.id]) == {b.id, own.id}
    labels = across.labels()
    assert (labels["treatment"], labels["frozen"], labels["upper"]) == ("stitched", True, b.id)
    assert training_from(canonical(across.training)) == across.training


def test_the_upper_base_has_the_images_of_its_target(plan_of: PlanOf) -> None:
    planned = plan_of(STITCHED, "images_per_class=[2]", "layers=1")
    across = find(planned, "A1|B s0 k2")
    assert across.parents == (find(planned, "A s0").id, find(planned, "B s0 k2").id)


def test_above_the_last_layer_there_is_nothing_to_stitch(plan_of: PlanOf) -> None:
    planned = plan_of(STITCHED, "treatments=[base, transfer, stitched]", "layers=[3, 4]")
    treatments = {(t.treatment_name, t.training.treatment.n) for t in planned.members}
    assert treatments == {("base", 0), ("transfer", 3), ("transfer", 4), ("stitched", 3)}


def test_keys_of_frozen_layers_and_dropout_change_no_stitch(plan_of: PlanOf) -> None:
    plain = find(plan_of(STITCHED), "A1|B s0").training.recipe
    for change in ("freeze=1", "classifier={kind: knn}", "frozen_statistics=false"):
        other = find(plan_of(STITCHED, f"recipe.{change}"), "A1|B s0")
        assert other.training.recipe == plain, change
    network = "network={conv: [2, 2], pool: [1, 2], fc: [4], dropout: 0.2}"
    dropped = find(plan_of(STITCHED, network, "recipe.dropout=0.5"), "A1|B s0")
    assert dropped.training.recipe == plain


def test_the_start_of_the_map_is_a_key_of_stitched_networks_alone(plan_of: PlanOf) -> None:
    text = STITCHED.replace("[base,", "[base, transfer,")
    plain, fitted = plan_of(text), plan_of(text, "recipe.stitch=least_squares")
    changed = [a.name for a, b in zip(plain.members, fitted.members, strict=True) if a.id != b.id]
    assert changed == [trial.name for trial in plain.members if "|" in trial.name]
    squares = "{recipe: {stitch: least_squares}}"
    grids = f"grids={{frozen: {{treatments: [base, transfer]}}, random: {{}}, squares: {squares}}}"
    both = plan_of(text, "treatments=[base, stitched]", grids)
    conditions = {(t.treatment_name, t.condition) for t in both.members}
    random, squares = (f'{{"recipe.stitch": "{x}"}}' for x in ("random", "least_squares"))
    assert conditions == {
        (name, condition)
        for name in ("base", "transfer", "stitched")
        for condition in (random, squares)
    }


def test_work_is_the_gradient_of_inputs_above_the_map(plan_of: PlanOf) -> None:
    assert training_macs((5, 7, 11), 1, stitched=True) == 23 + 18
    planned = plan_of(STITCHED)
    stitched = find(planned, "A3|B s0")
    macs = planned.layers(stitched).macs
    assert planned.flops(stitched) == 2 * (sum(macs) + macs[3]) * 18


def test_named_tasks_are_stitched_too(plan_of: PlanOf) -> None:
    planned = plan_of(NAMED)
    across, own = find(planned, "wide-2|small k12"), find(planned, "small-2|small k12")
    base, source = find(planned, "small k12"), find(planned, "wide")
    assert (across.parents, own.parents) == ((source.id, base.id), (base.id,))
    assert (across.source, own.source, across.division) == ("wide", "small", "wide to small")


def test_a_file_of_weights_is_stitched_to_the_base_of_the_target(
    plan_of: PlanOf, tmp_path: Path
) -> None:
    planned = plan_of(NAMED)
    network = find(planned, "small k12").training.network
    torch.manual_seed(0)
    (tmp_path / "w.safetensors").write_bytes(save(tensors_of(build(network, 10, (1, 12, 12)))))
    weights = f"weights={{mine: {{file: {tmp_path}/w.safetensors}}}}"
    planned = plan_of(NAMED, weights, "sources=[mine]", "layers=[1]")
    across = find(planned, "mine-1|small k12")
    base = find(planned, "small k12")
    assert across.parents == (next(iter(planned.weights)), base.id)
    assert find(planned, "small-1|small k12").parents == (base.id,)


OTHER = "target_network={conv: [3, 2], pool: [1, 2], fc: [4]}"


def test_a_source_of_other_channels_has_its_own_network(plan_of: PlanOf) -> None:
    planned = plan_of(STITCHED, OTHER)
    across, own = find(planned, "A1|B s0").training, find(planned, "B1|B s0").training
    source, target = (find(planned, name).training for name in ("A s0 source", "B s0"))
    assert across.parents == (source.id, target.id)
    assert (across.network, across.source_network) == (target.network, source.network)
    assert own.source_network is None
    assert training_from(canonical(across)) == across


MISTAKES = {
    "treatments=[stitched]": "stitched copies layers of base: add base",
    "splits={whole: true}": "stitched copies from another half, and whole has one: use grids",
    "target_network={conv: [2], pool: [1], fc: [4, 4]}": (
        "layers: layer 1 gives (2, 6, 6) per image in the source's network and (72,) in the "
        "target's: a stitch can change the number of channels only"
    ),
}


@pytest.mark.parametrize("change", MISTAKES)
def test_mistakes(change: str, plan_of: PlanOf) -> None:
    with pytest.raises(SweepError, match=re.escape(MISTAKES[change])):
        plan_of(STITCHED, change)
