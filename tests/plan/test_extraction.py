"""The features that a sweep asks for: networks, tasks, layers, and ids that are the content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from orchestrator.errors import SweepError
from orchestrator.plan.extraction import extractions_of
from orchestrator.plan.plan import Plan
from tests.small import SMALL
from trainers import feature_form
from trainers.config import NetworkRef
from trainers.networks import build, tensors_of

PlanOf = Callable[..., Plan]
CONV = NetworkRef(name="conv8", options=(("conv", (2, 2)), ("fc", (4,)), ("pool", (1, 2))))
NAMED = """\
name: named
tasks:
  few: {{dataset: {{name: digits, train: 10, renderings: 1}}}}
  one: {{dataset: {{name: digits, train: 10, renderings: 1}}, classes: [3, 4]}}
weights: {{old: {0}, spare: {0}}}
network: {{conv: [2, 2], pool: [1, 2], fc: [4]}}
sources: [old]
treatments: [base, transfer]
layers: [1]
recipe: {{rate: 0.03, steps: 3, batch: 8}}
"""


def asked(plan: Plan) -> list[str]:
    """Return what is extracted: `A s0 for B s0: layers 1, 3`."""
    return [
        f"{one.origin.name} for {one.origin.task}: {', '.join(map(str, one.form.layers))}"
        for one in extractions_of(plan).values()
    ]


def mistake(plan: Plan) -> str:
    with pytest.raises(SweepError) as raised:
        extractions_of(plan)
    return str(raised.value).partition(": ")[2]


def test_a_sweep_extracts_nothing_by_default_and_ids_of_trials_stay(plan_of: PlanOf) -> None:
    plain, asking = plan_of(SMALL), plan_of(SMALL, "features.low.layers=[1]")
    assert extractions_of(plain) == {}
    assert list(plain.trials) == list(asking.trials)


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ("{layers: 1}", ["A s0 for A s0: 1", "B s0 for B s0: 1"]),
        ("{layers: [3, 1, 3]}", ["A s0 for A s0: 1, 3", "B s0 for B s0: 1, 3"]),
        ("{layers: all, of: [A s0]}", ["A s0 for A s0: 1, 2, 3"]),
        ("{layers: 1..4, of: [B s0]}", ["B s0 for B s0: 1, 2, 3, 4"]),
        (
            "{layers: 1, of: [transfer, A s0, B1A s0], tasks: [A]}",
            ["B1A s0 for A s0: 1", "A1B s0 for A s0: 1", "A s0 for A s0: 1"],
        ),
        ("{layers: 1, of: [A s0], tasks: [A s0, B]}", ["A s0 for A s0: 1", "A s0 for B s0: 1"]),
    ],
)
def test_networks_and_tasks_are_named(plan_of: PlanOf, features: str, expected: list[str]) -> None:
    assert asked(plan_of(SMALL, f"features.one={features}")) == expected


def test_a_file_of_weights_sees_all_tasks_that_it_is_copied_to(
    plan_of: PlanOf, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    save_file(dict(tensors_of(build(CONV, 7, (1, 12, 12)))), tmp_path / "old.safetensors")
    text = NAMED.format(tmp_path / "old.safetensors")
    plan = plan_of(text, "features.one={layers: all, of: [old]}")
    assert asked(plan) == ["old for few: 1, 2, 3", "old for one: 1, 2, 3"]
    assert asked(plan_of(text, "features.one={layers: 1, of: [old], tasks: [one]}")) == [
        "old for one: 1"
    ]
    beyond = mistake(plan_of(text, "features.one={layers: 4, of: [old]}"))
    assert beyond.endswith("layer 4 is out of range: old has layers 1..3")
    unused = mistake(plan_of(text, "features.one={layers: 1, of: [spare]}"))
    assert unused.endswith("no grid of the sweep has spare")


def test_equal_requests_of_two_sweeps_are_one_extraction(plan_of: PlanOf) -> None:
    first = extractions_of(plan_of(SMALL, "features.low={layers: [1, 3]}"))
    changes = ["name=other", "layers=[1, 2]", "features.high={layers: [3, 1], of: [B s0, A s0]}"]
    assert extractions_of(plan_of(SMALL, *changes)).keys() == first.keys()


def test_the_id_is_of_all_that_the_files_depend_on(
    plan_of: PlanOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [
        ("features.x={layers: 1, of: [A s0]}",),
        ("features.x={layers: 2, of: [A s0]}",),
        ("features.x={layers: 1, of: [B s0]}",),
        ("features.x={layers: 1, of: [A s0], tasks: [B]}",),
        ("features.x={layers: 1, of: [A s0], pool: maximum}",),
        ("features.x={layers: 1, of: [A s0], pool: none}",),
        ("features.x={layers: 1, of: [A s0], pool: none, most: 40}",),
        ("features.x={layers: 1, of: [A s0]}", "recipe.steps=4"),
    ]
    ids = [id for some in changes for id in extractions_of(plan_of(SMALL, *some))]
    monkeypatch.setattr(feature_form, "PART_BYTES", 1000)
    ids += extractions_of(plan_of(SMALL, *changes[0]))
    assert len(set(ids)) == len(ids) == 9


def test_sizes_by_hand(plan_of: PlanOf) -> None:
    """Each half has five classes of 10, 2 and 3 images; layer 1 has two channels of 6×6 places."""
    plan = plan_of(SMALL, "features.x={layers: [1, 3], of: [A s0], pool: none}")
    [one] = extractions_of(plan).values()
    assert (one.images(plan), one.bytes(plan)) == (75, 75 * 4 * (2 * 6 * 6 + 4))
    macs = plan.networks[one.origin.network].macs
    assert one.flops(plan) == 2 * sum(macs[:3]) * 75


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ("{layers: 5}", "layer 5 is out of range: A s0 has layers 1..4"),
        ("{layers: 0}", "layer 0 is out of range: A s0 has layers 1..4"),
        ("{layers: 1, tasks: [C]}", "no task 'C' in sweep small; expected one of A s0, B s0"),
        ("{layers: 1, of: [random]}", "no grid of the sweep has random"),
        ("{layers: 1, of: [A s1]}", "no network 'A s1'; did you mean 'A s0'?"),
        ("{layers: 1, pool: none, most: 1}", "A s0: the layer has 2 channels, and most is 1"),
    ],
)
def test_mistakes_say_where(plan_of: PlanOf, features: str, expected: str) -> None:
    assert mistake(plan_of(SMALL, f"features.x={features}", "name=small")).endswith(expected)


def test_classifiers_on_features_have_no_outputs_of_their_own(plan_of: PlanOf) -> None:
    text = f"{SMALL}features: {{x: {{layers: 1, of: [transfer]}}}}\n"
    classifier = "recipe.classifier={kind: knn, choices: [1]}"
    expected = "B1A s0 is a classifier on the features of its base: name the base"
    assert mistake(plan_of(text, classifier)).endswith(expected)


def test_a_limit_belongs_to_no_pooling(plan_of: PlanOf) -> None:
    with pytest.raises(SweepError, match=r"features\.x\.most: it limits the values of pool: none"):
        plan_of(f"{SMALL}features: {{x: {{layers: 1, most: 5}}}}\n")
    with pytest.raises(SweepError, match=r"features\.x\.layer: unknown key 'layer'; did you mean"):
        plan_of(f"{SMALL}features: {{x: {{layer: 1}}}}\n")
