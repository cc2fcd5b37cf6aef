"""The measurements of a plan: what is compared with what, and ids that are the content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from orchestrator.errors import SweepError
from orchestrator.plan.measurement import measurements_of
from orchestrator.plan.plan import Plan
from tests.small import SMALL

PlanOf = Callable[..., Plan]


def compared(plan: Plan) -> list[tuple[str, str, str]]:
    """Return measure, network and what it is compared with, by name."""
    names = {trial.id: trial.name for trial in plan.members}
    return [
        (one.measure, *(names[id] for id in one.networks))  # type: ignore[misc]
        for one in measurements_of(plan).values()
    ]


def test_a_sweep_measures_nothing_by_default(plan_of: PlanOf) -> None:
    assert measurements_of(plan_of(SMALL)) == {}


def test_measuring_changes_no_id(plan_of: PlanOf) -> None:
    plain, measured = plan_of(SMALL), plan_of(SMALL, "measure=[weights, similarity]")
    assert list(plain.trials) == list(measured.trials)


def test_weights_are_compared_with_their_source(plan_of: PlanOf) -> None:
    assert compared(plan_of(SMALL, "measure=[weights]")) == [
        ("weights", "A1A s0", "A s0"),
        ("weights", "B1A s0", "B s0"),
        ("weights", "B1B s0", "B s0"),
        ("weights", "A1B s0", "A s0"),
    ]


def test_interpolation_begins_at_the_base_of_the_target(plan_of: PlanOf) -> None:
    assert compared(plan_of(SMALL, "measure=[interpolation]")) == [
        ("interpolation", "A1A s0", "A s0"),
        ("interpolation", "B1A s0", "A s0"),
        ("interpolation", "B1B s0", "B s0"),
        ("interpolation", "A1B s0", "B s0"),
    ]


def test_two_bases_are_compared_once_per_target(plan_of: PlanOf) -> None:
    pairs = compared(plan_of(SMALL, "measure=[similarity]", "layers=[1, 2]"))
    assert Counter(pairs)["similarity", "A s0", "B s0"] == 1
    assert Counter(pairs)["similarity", "B s0", "A s0"] == 1
    assert ("similarity", "B2A s0", "A s0") in pairs
    assert ("similarity", "B2A s0", "B s0") in pairs
    assert len(pairs) == 2 + 4 + 2 * 4  # bases; selffers with one base; transfers with two


def test_predictors_are_once_per_source_and_target(plan_of: PlanOf) -> None:
    plan = plan_of(SMALL, "measure=[predictors]", "layers=[1, 2]")
    assert compared(plan) == [("predictors", "B s0"), ("predictors", "A s0")]
    assert {one.layers for one in measurements_of(plan).values()} == {(1, 2)}


def test_an_id_is_of_the_networks_and_not_of_the_sweep(plan_of: PlanOf) -> None:
    every = "measure=[weights, interpolation, similarity, predictors]"
    one = measurements_of(plan_of(SMALL, every))
    assert measurements_of(plan_of(SMALL, every, "name=another")).keys() == one.keys()
    assert not measurements_of(plan_of(SMALL, every, "seeds=[1]")).keys() & one.keys()


def test_classifiers_on_features_are_not_measured(plan_of: PlanOf) -> None:
    plan = plan_of(SMALL, "measure=[weights]", "recipe.classifier.kind=logistic")
    assert measurements_of(plan) == {}


def test_stitched_networks_are_not_measured(plan_of: PlanOf) -> None:
    plan = plan_of(SMALL, "measure=[weights]", "treatments=[base, stitched, stitched_self]")
    assert len(plan.members) > 2
    assert measurements_of(plan) == {}


def test_one_direction_is_compared_with_both_bases(plan_of: PlanOf) -> None:
    plan = plan_of(SMALL, "measure=[similarity]", "treatments=[base, transfer]", "targets=[B]")
    assert compared(plan) == [
        ("similarity", "A1B s0", "B s0"),
        ("similarity", "A1B s0", "A s0"),
        ("similarity", "B s0", "A s0"),
    ]


def test_the_weights_of_what_is_measured_are_kept(plan_of: PlanOf) -> None:
    kept = {t.name: t.keep_checkpoint for t in plan_of(SMALL, "measure=[weights]").members}
    assert set(kept.values()) == {True}
    random = plan_of(SMALL, "measure=[weights]", "treatments=[base, random, transfer]").members
    assert not any(t.keep_checkpoint for t in random if t.treatment_name == "random")


def test_a_measure_that_does_not_exist(plan_of: PlanOf) -> None:
    with pytest.raises(SweepError) as error:
        plan_of(SMALL + "measure: [wieghts]\n")
    assert str(error.value).partition("sweep.yaml")[2] == (
        ":8: measure[0]: expected one of weights, interpolation, similarity, predictors, "
        "found \"wieghts\"; did you mean 'weights'?"
    )


def test_ids_never_change(plan_of: PlanOf) -> None:
    every = "measure=[weights, interpolation, similarity, predictors]"
    first = {
        one.measure: id for id, one in reversed(measurements_of(plan_of(SMALL, every)).items())
    }
    assert first == {
        "weights": "de99fdcb8a41f836",
        "interpolation": "eacd181a1bfff233",
        "similarity": "b7fa9a5f0346a32d",
        "predictors": "f4f22bfbdefffccf",
    }
