"""Layers that fit another network, and differences that must be declared."""

from __future__ import annotations

import pytest

from tests.trainings import SMALL
from trainers.adaptation import check_adaptation, misfits
from trainers.canonical import ConfigError, freeze_options
from trainers.config import Adaptation, NetworkRef
from trainers.networks import tensor_shapes

SHAPE = (1, 12, 12)


def conv8(**options: list[int]) -> NetworkRef:
    return NetworkRef(name="conv8", options=freeze_options(dict(SMALL.options) | options))


BASE = tensor_shapes(SMALL, 5, SHAPE)
WIDER = tensor_shapes(conv8(conv=[6, 8]), 5, SHAPE)  # layer 1, and so what layer 2 sees
COLOURED = tensor_shapes(SMALL, 5, (3, 12, 12))


def test_shapes_of_a_small_network() -> None:
    assert BASE["layer1.conv.weight"] == (4, 1, 3, 3)
    assert WIDER["layer1.conv.weight"] == (6, 1, 3, 3)
    assert WIDER["layer2.conv.weight"] == (8, 6, 3, 3)


def test_equal_layers_fit_and_only_the_first_n_are_looked_at() -> None:
    assert misfits(BASE, BASE, 5, Adaptation()) == []
    deeper = tensor_shapes(conv8(fc=[9]), 7, SHAPE)
    assert misfits(BASE, deeper, 2, Adaptation()) == []
    assert len(misfits(BASE, deeper, 3, Adaptation())) == 2


def test_undeclared_misfits_are_all_listed() -> None:
    with pytest.raises(ConfigError) as error:
        check_adaptation(Adaptation.of([], ["layer1.conv.bias"]), BASE, WIDER, 2)
    assert error.value.field == ""
    assert str(error.value) == (
        "layers 1..2 differ in what is not declared as replaced or widened: "
        "layer1.conv.weight: base has (4, 1, 3, 3), target wants (6, 1, 3, 3); "
        "layer2.conv.weight: base has (8, 4, 3, 3), target wants (8, 6, 3, 3)"
    )


def test_declared_layers_may_differ() -> None:
    for widened in (["layer1", "layer2"], ["layer1.conv", "layer2.conv.weight"]):
        check_adaptation(Adaptation.of([], widened), BASE, WIDER, 4)
        check_adaptation(Adaptation.of(widened), BASE, WIDER, 4)
    check_adaptation(Adaptation.of([1]), BASE, COLOURED, 4)
    check_adaptation(Adaptation.of([], ["layer1.conv.weight"]), BASE, COLOURED, 4)


def test_a_replaced_layer_may_have_other_tensors() -> None:
    other = {name: shape for name, shape in BASE.items() if not name.startswith("layer2.")}
    other["layer2.norm.weight"] = (8,)
    check_adaptation(Adaptation.of([2]), BASE, other, 4)
    with pytest.raises(ConfigError) as error:
        check_adaptation(Adaptation(), BASE, other, 4)
    assert str(error.value).endswith(
        "layer2.norm.weight: base has nothing, target wants (8,); "
        "layer2.conv.weight: in the base only; layer2.conv.bias: in the base only"
    )


def test_declarations_above_the_layers_that_are_copied_do_not_matter() -> None:
    check_adaptation(Adaptation.of([4], ["layer2"]), BASE, BASE, 1)


@pytest.mark.parametrize(
    ("adapt", "field", "message"),
    [
        (
            Adaptation.of(["layer2.cnv"]),
            "replaced",
            "layer2.cnv: no such layer or module with weights",
        ),
        (
            Adaptation.of([], ["layer1.con"]),
            "widened",
            "layer1.con: no such layer or module with weights",
        ),
        (
            Adaptation.of([], ["layer1", "layer2", "layer3.fc"]),
            "widened",
            "layer3.fc: declared as widened, but has the base's shape",
        ),
    ],
)
def test_declarations_of_what_is_not_there(adapt: Adaptation, field: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_adaptation(adapt, BASE, WIDER, 4)
    assert (error.value.field, str(error.value)) == (field, message)


def test_narrower_is_not_wider() -> None:
    adapt = Adaptation.of([], ["layer1", "layer2.conv"])
    with pytest.raises(ConfigError) as error:
        check_adaptation(adapt, WIDER, BASE, 2)
    assert error.value.field == "widened"
    assert str(error.value).startswith(
        "layer1.conv.weight: base has (6, 1, 3, 3), target wants (4, 1, 3, 3), "
        "which is not at least as large in every dimension; layer1.conv.bias: "
    )
    new = {**BASE, "layer1.conv.scale": (4,)}
    problems = misfits(BASE, new, 1, Adaptation.of([], ["layer1.conv.scale"]))
    assert problems == [
        (
            "widened",
            "layer1.conv.scale: base has nothing, target wants (4,), "
            "which is not at least as large in every dimension",
        )
    ]
