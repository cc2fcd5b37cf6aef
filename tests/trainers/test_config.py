"""Configurations: wrong fields, canonical JSON, ids and documentation."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import json
from types import ModuleType
from typing import Any, Literal, get_args, get_origin

import pytest

from tests.trainings import SMALL, TASKS, training
from trainers import config, recipe
from trainers.canonical import ConfigError, canonical, digest
from trainers.config import (
    Adaptation,
    DatasetRef,
    Task,
    Training,
    Treatment,
    training_macs,
    unsearched_id,
)
from trainers.recipe import Recipe, Schedule

WRONG: list[tuple[type, dict[str, Any], str]] = [
    (Adaptation, {"replaced": ("conv1",)}, "replaced"),
    (Adaptation, {"replaced": ("layer0",)}, "replaced"),
    (Adaptation, {"widened": ("layer1.",)}, "widened"),
    (Adaptation, {"widened": ("layer1..conv",)}, "widened"),
]


@pytest.mark.parametrize(("kind", "fields", "field"), WRONG)
def test_a_wrong_field_is_named(kind: type, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=r"^expected ") as error:
        kind(**fields)
    assert error.value.field == field


@pytest.mark.parametrize("kind", [Recipe, Schedule, Task, Training, Treatment, DatasetRef])
def test_configurations_are_frozen_and_keyword_only(kind: Any) -> None:
    assert kind.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(kind))


def test_treatments_freeze_their_first_layers() -> None:
    assert [
        (t.frozen, t.has_parent)
        for t in (
            Treatment(kind="base"),
            Treatment(kind="base_long"),
            Treatment(kind="selffer", n=3),
            Treatment(kind="transfer", n=3, fine_tuned=True),
            Treatment(kind="random", n=2),
            Treatment(kind="pixels"),
        )
    ] == [
        (False, False),
        (False, False),
        (True, True),
        (False, True),
        (True, False),
        (False, False),
    ]


def test_the_id_is_the_hash_of_the_canonical_json() -> None:
    one = training("transfer", 2)
    assert json.loads(canonical(one))["parent"] == training(target="A").id
    assert one.id == hashlib.sha256(canonical(one).encode()).hexdigest()[:16] == digest(one, 16)
    assert canonical(one) == json.dumps(
        json.loads(canonical(one)), sort_keys=True, separators=(",", ":")
    )


TRAININGS = [
    training(),
    training("transfer", 2, fine_tuned=True, seed=7, dropout=0.5),
    training("random", 1, schedule=Schedule(family="multi_step", milestones=(0.5, 0.75))),
    training("transfer", 2, frozen_statistics=False, frozen_affine=False),
    training(schedule=Schedule(family="step", every=5, count_from=1)),
    training(weight_decay=1e-7, rate=3.0, network=dataclasses.replace(SMALL, name="naïve:nét")),
    dataclasses.replace(training("transfer", 2), adapt=Adaptation.of([1], ["layer2.conv.weight"])),
    dataclasses.replace(
        training("selffer", 1), target=dataclasses.replace(TASKS["B"], images_per_class=3)
    ),
]


@pytest.mark.parametrize("one", TRAININGS)
def test_the_unsearched_id_is_that_of_the_training_with_its_own_schedule(one: Training) -> None:
    searched = dataclasses.replace(one, schedule_from="digits-0123456789abcdef")
    assert unsearched_id(canonical(searched)) == one.id != searched.id
    assert unsearched_id(canonical(one)) == one.id


@pytest.mark.parametrize("source", [config, recipe])
def test_every_field_and_every_choice_is_documented_beside_it(source: ModuleType) -> None:
    """A field has a string below it; the string below a list of choices names each of them."""

    def documented(body: list[ast.stmt]) -> dict[str, str]:
        """The assignments of a class or module by name, with the string below each."""
        documents = {}
        for statement, below in zip(body, [*body[1:], ast.Pass()], strict=True):
            match statement:
                case (
                    ast.Assign(targets=[ast.Name(id=name)])
                    | ast.AnnAssign(target=ast.Name(id=name))
                ):
                    is_string = isinstance(below, ast.Expr)
                    documents[name] = ast.literal_eval(below.value) if is_string else ""
        return documents

    module = ast.parse(inspect.getsource(source))
    classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
    for node in classes:
        kind, documents = getattr(source, node.name), documented(node.body)
        if dataclasses.is_dataclass(kind):
            fields = [field.name for field in dataclasses.fields(kind)]
            assert [field for field in fields if not documents[field]] == [], node.name
    choices = {
        name: (get_args(vars(source)[name]), text)
        for name, text in documented(module.body).items()
        if get_origin(vars(source)[name]) is Literal
    }
    assert choices
    for name, (members, text) in choices.items():
        assert [member for member in members if f"- `{member}`: " not in text] == [], name


def test_the_network_is_part_of_the_id() -> None:
    changed = dataclasses.replace(SMALL, fingerprint="0123")
    assert training(network=changed).id != training().id


def test_an_adaptation_says_layers_by_number_and_modules_by_name() -> None:
    adapt = Adaptation.of([3, "layer10.fc"], ["layer2.conv", "layer1"])
    assert adapt.replaced == ("layer10.fc", "layer3")
    assert adapt.widened == ("layer1", "layer2.conv")
    assert Adaptation.of(["3"]) == Adaptation.of([3]) == Adaptation(replaced=("layer3",))
    names = ["layer3.fc.weight", "layer30.fc.weight", "layer10.fc.bias", "layer10.fcs.bias"]
    assert [adapt.replaces(name) for name in names] == [True, False, True, False]
    names = ["layer2.conv.weight", "layer2.norm.weight", "layer1.conv.bias", "layer1"]
    assert [adapt.widens(name) for name in names] == [True, False, True, True]


def test_the_part_of_an_adaptation_that_applies_to_a_trial() -> None:
    """A declaration above the copied layers is left out: it would change only the id."""
    adapt = Adaptation.of([3], ["layer2.conv", "layer12"])
    assert [adapt.within(n) for n in (1, 2, 3, 12)] == [
        Adaptation(),
        Adaptation(widened=("layer2.conv",)),
        Adaptation(replaced=("layer3",), widened=("layer2.conv",)),
        adapt,
    ]


def test_a_training_without_copied_layers_has_no_adaptation() -> None:
    with pytest.raises(ConfigError, match=r"^a random copies no layers that could differ$"):
        dataclasses.replace(training("random", 2), adapt=Adaptation.of([1]))


@pytest.mark.parametrize(
    ("replaced", "widened", "field", "name"),
    [
        (["layer1", "layer1.conv"], [], "replaced", "layer1.conv"),
        ([1, "layer1"], [], "replaced", "layer1"),
        (["layer1"], ["layer1.conv"], "widened", "layer1.conv"),
        (["layer1.conv"], ["layer1"], "replaced", "layer1.conv"),
    ],
)
def test_nothing_is_declared_twice(
    replaced: list[Any], widened: list[Any], field: str, name: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is declared twice$") as error:
        Adaptation.of(replaced, widened)
    assert error.value.field == field


@pytest.mark.parametrize(("frozen", "macs"), [(0, 10 + 10 + 5), (1, 10 + 5 + 2), (2, 10 + 2)])
def test_arithmetic_of_a_training_image(frozen: int, macs: int) -> None:
    """Every layer takes a forward pass, a learning layer a second, and a third if not first."""
    assert training_macs([5, 3, 2], frozen) == macs


def test_frozen_trainings_of_caffenet_cost_what_arithmetic_says() -> None:
    macs = (105_415_200, 223_948_800, 149_520_384, 112_140_288, 74_760_192)
    macs = (*macs, 37_748_736, 16_777_216, 4_096_000)
    shares = [training_macs(macs, n) / training_macs(macs, 0) for n in range(1, 8)]
    assert [round(share, 2) for share in shares] == [0.84, 0.66, 0.53, 0.44, 0.39, 0.36, 0.35]
    assert 2 * training_macs(macs, 0) * 256 * 450_000 == pytest.approx(4.76e17, rel=1e-3)
