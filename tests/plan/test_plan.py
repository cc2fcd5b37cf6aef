"""The plan of a sweep: trials, ids, parents and cost, and the search for a trial by name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import LayerwiseError
from orchestrator.plan.cost import cost, rate_key
from orchestrator.plan.filter import find
from orchestrator.plan.plan import Plan, make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.sweep.load import load_sweep
from trainers.config import NetworkInfo, training_macs

IDS = Path(__file__).parents[1] / "golden" / "ids.json"
PlanOf = Callable[..., Plan]

SMALL = """\
name: small
dataset: digits
splits: {random: [0]}
treatments: [base, base_long, selffer, transfer, transfer+, random]
layers: [1, 3]
recipe: {rate: 0.03, steps: 10}
"""
# Multiply-adds of conv8 on an image of 12×12, by hand: weights × positions of each layer.
MACS = (
    9 * 1 * 8 * 144,
    9 * 8 * 16 * 36,
    9 * 16 * 16 * 36,
    9 * 16 * 16 * 9,
    9 * 16 * 16 * 9,
    144 * 32,
    32 * 32,
    32 * 5,
)


def first(planned: Plan) -> NetworkInfo:
    """The layers of the only network of a plan."""
    return next(iter(planned.networks.values()))


@pytest.fixture(scope="module")
def digits() -> Plan:
    return make_plan(resolve(*load_sweep("digits")))


def test_the_papers_design(digits: Plan) -> None:
    assert len(digits.members) == len(digits.trials) == 296
    assert Counter(trial.treatment_name for trial in digits.members) == {
        "base": 8,
        "base_long": 8,
        "selffer": 56,
        "selffer+": 56,
        "transfer": 56,
        "transfer+": 56,
        "random": 56,
    }
    assert Counter(trial.split for trial in digits.members) == dict.fromkeys(
        ("s0", "s1", "s2", "s3"), 74
    )
    assert Counter(trial.target for trial in digits.members) == {"A": 148, "B": 148}


def test_parents_are_the_bases_of_the_copied_layers(digits: Plan) -> None:
    bases = {(t.split, t.target): t.id for t in digits.members if t.treatment_name == "base"}
    for trial in digits.members:
        parent = None
        if trial.training.treatment.has_parent:
            other = {"A": "B", "B": "A"}[trial.target]
            is_transfer = trial.training.treatment.kind == "transfer"
            parent = bases[trial.split, other if is_transfer else trial.target]
        assert trial.parent == parent, trial.name
        assert (trial.source is not None) == (parent is not None), trial.name


def test_parents_come_first_and_names_are_unique(digits: Plan) -> None:
    seen: set[str] = set()
    for trial in digits.members:
        assert trial.parent is None or trial.parent in seen
        seen.add(trial.id)
    assert len({trial.name for trial in digits.members}) == 296


def test_order_of_one_pair(plan_of: PlanOf) -> None:
    assert [trial.name for trial in plan_of(SMALL).members] == [
        *("A s0", "B s0"),
        *(
            "A-long s0",
            "A1A s0",
            "A3A s0",
            "B1A s0",
            "B3A s0",
            "B1A+ s0",
            "B3A+ s0",
            "R1A s0",
            "R3A s0",
        ),
        *(
            "B-long s0",
            "B1B s0",
            "B3B s0",
            "A1B s0",
            "A3B s0",
            "A1B+ s0",
            "A3B+ s0",
            "R1B s0",
            "R3B s0",
        ),
    ]


def test_seeds_repeat_the_grid(plan_of: PlanOf) -> None:
    planned = plan_of(SMALL, "seeds=[4, 5]")
    assert len(planned.trials) == 40
    assert planned.members[0].name == "A s0 seed4"
    assert planned.members[20].name == "A s0 seed5"


def test_golden_ids(digits: Plan) -> None:
    """The file may only grow: an id that changes orphans every result that is stored under it."""
    golden = json.loads(IDS.read_text())
    ids = {trial.name: trial.id for trial in digits.members}
    changes = ["treatments=[base, transfer, pixels]", "recipe.classifier={kind: logistic}"]
    fitted = make_plan(resolve(*load_sweep("digits", changes)))
    ids |= {f"logistic {trial.name}": trial.id for trial in fitted.members}
    assert {name: ids[name] for name in golden} == golden
    assert len(golden) >= 15


def test_an_id_does_not_depend_on_names_or_resources(plan_of: PlanOf) -> None:
    """Names, resources and checkpoints change the run of a trial, not its training."""
    first = plan_of(SMALL)
    a, b = (list(trial.training.target.classes) for trial in first.members[:2])
    same = plan_of(
        SMALL,
        "name=other",
        "splits.random=[]",
        f"splits.named={{mine: {{A: {a}, B: {b}}}}}",
        "resources={default: {cpu: 2}}",
        "keep=all",
        "checkpoint_seconds=5",
        "recipe.momentum=0.9",
        "network=conv8",
    )
    assert list(same.trials) == list(first.trials)
    assert {trial.split for trial in same.members} == {"mine"}


def test_an_id_depends_on_data_network_and_recipe(plan_of: PlanOf) -> None:
    first = set(plan_of(SMALL).trials)
    for change in (
        "recipe.rate=0.04",
        "recipe.steps=11",
        "recipe.init=torch",
        "recipe.init=network",
        "recipe.normalise=whole",
        "seeds=[1]",
        "splits.random=[1]",
        "dataset.noise=0.2",
        "network.fc=[32, 16]",
    ):
        assert not first & set(plan_of(SMALL, change).trials), change


def test_the_network_is_described_for_the_larger_half(plan_of: PlanOf) -> None:
    planned = plan_of(SMALL, "splits={named: {k: {A: [0, 1, 2], B: [3, 4, 5, 6, 7, 8, 9]}}}")
    assert first(planned).shapes[-1] == (7,)


def test_the_start_of_random_filters_changes_random_trials_only(plan_of: PlanOf) -> None:
    first, other = plan_of(SMALL), plan_of(SMALL, "recipe.init_random=torch")
    changed = [a.name for a, b in zip(first.members, other.members, strict=True) if a.id != b.id]
    assert changed == ["R1A s0", "R3A s0", "R1B s0", "R3B s0"]
    assert list(plan_of(SMALL, "recipe.init_random=he").trials) == list(first.trials)


@pytest.mark.parametrize("field", ["frozen_statistics", "frozen_affine"])
def test_frozen_normalisation_changes_frozen_trials_only(plan_of: PlanOf, field: str) -> None:
    first, other = plan_of(SMALL), plan_of(SMALL, f"recipe.{field}=false")
    changed = [
        a.training for a, b in zip(first.members, other.members, strict=True) if a.id != b.id
    ]
    assert changed == [t.training for t in first.members if t.training.treatment.frozen]
    assert list(plan_of(SMALL, f"recipe.{field}=true").trials) == list(first.trials)


def test_a_fine_tuning_recipe_changes_fine_tuned_trials_only(plan_of: PlanOf) -> None:
    first, other = plan_of(SMALL), plan_of(SMALL, "fine_tune.recipe.rate=0.001")
    changed = [a.name for a, b in zip(first.members, other.members, strict=True) if a.id != b.id]
    assert changed == ["B1A+ s0", "B3A+ s0", "A1B+ s0", "A3B+ s0"]


def test_equal_trainings_are_one_trial(plan_of: PlanOf) -> None:
    """A renamed split has other labels and the same trials. A store holds each trial once."""
    drawn = plan_of(SMALL)
    halves = "{A: [0, 1, 3, 7, 8], B: [2, 4, 5, 6, 9]}"
    named = plan_of(SMALL, "splits.random=[]", f"splits.named={{x: {halves}}}", "name=other")
    assert list(named.trials) == list(drawn.trials)
    assert {trial.split for trial in named.members} == {"x"}


def test_a_setting_that_changes_nothing_changes_no_id(plan_of: PlanOf) -> None:
    assert set(plan_of(SMALL, "recipe.schedule.gamma=0.5").trials) == set(plan_of(SMALL).trials)
    every = ("recipe.schedule.family=step", "recipe.schedule.every=3")
    first, other = plan_of(SMALL, *every), plan_of(SMALL, *every, "recipe.schedule.gamma=0.5")
    assert not set(first.trials) & set(other.trials)


@pytest.mark.parametrize(("epochs", "steps"), [("2", 50), ("0.5", 12), ("0.001", 1), ("1.5", 38)])
def test_epochs_become_steps(epochs: str, steps: int, plan_of: PlanOf) -> None:
    """Five classes of 160 images, in full batches of 32, give 25 steps per epoch."""
    planned = plan_of(SMALL, "recipe.steps=", f"recipe.epochs={epochs}")
    assert planned.members[0].training.recipe.steps == steps
    assert planned.members[0].training.recipe.epochs is None
    assert list(planned.trials) == list(plan_of(SMALL, f"recipe.steps={steps}").trials)


@pytest.mark.parametrize(
    ("least", "steps"), [(40, {"A k32": 40, "A": 50}), (60, {"A k32": 60, "A": 60})]
)
def test_epochs_of_few_images_are_the_least_steps(
    least: int, steps: dict[str, int], plan_of: PlanOf
) -> None:
    """Five classes of 32 images have 5 steps per epoch, and of all 160 images 25."""
    changes = ("images_per_class=[32, all]", "treatments=[base]", "targets=[A]")
    length = ("recipe.steps=", "recipe.epochs=2", f"recipe.least_steps={least}")
    members = plan_of(SMALL, *changes, *length).members
    recipes = {t.name.replace(" s0", ""): t.training.recipe for t in members}
    assert {name: recipe.steps for name, recipe in recipes.items()} == steps
    assert {recipe.least_steps for recipe in recipes.values()} == {None}


def test_the_least_steps_change_no_steps(plan_of: PlanOf) -> None:
    assert list(plan_of(SMALL, "recipe.least_steps=50").trials) == list(plan_of(SMALL).trials)


def test_base_long_takes_the_steps_of_both(plan_of: PlanOf) -> None:
    def steps(*changes: str) -> dict[str, int | None]:
        members = plan_of(SMALL, *changes).members
        return {t.name: t.training.recipe.steps for t in members if t.target == "A"}

    assert steps()["A-long s0"] == 20
    tuned = steps("fine_tune.recipe.steps=7")
    assert tuned["A s0"] == tuned["B1A s0"] == 10
    assert tuned["A-long s0"] == 17
    assert tuned["B1A+ s0"] == 7


def test_the_last_layer_is_never_copied(plan_of: PlanOf) -> None:
    planned = plan_of(SMALL, "layers=all", "network.fc=[]")
    assert sorted({trial.training.treatment.n for trial in planned.members}) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("keep", "count"), [("bases", 2), ("all", 20), ("none", 2)])
def test_checkpoints_that_are_written(keep: str, count: int, plan_of: PlanOf) -> None:
    """With `none`, bases write checkpoints too; the end of the run removes them."""
    planned = plan_of(SMALL, f"keep={keep}")
    assert sum(trial.keep_checkpoint for trial in planned.members) == count
    state = 4 * sum(
        [9 * 8 + 8, 9 * 8 * 16 + 16, 3 * (9 * 16 * 16 + 16), 144 * 32 + 32, 32 * 32 + 32, 165]
    )
    assert first(planned).state_bytes == state
    expected = 0 if keep == "none" else count * state
    assert cost(planned, planned.trials, {}).checkpoint_bytes == expected


def test_floating_point_operations_by_hand(digits: Plan) -> None:
    """A multiply-add counts two. Learning layers take three passes, frozen layers one.

    The lowest layer that learns needs no gradient of its input: two passes.
    """
    assert first(digits).macs == MACS
    by_name = {trial.name: trial for trial in digits.members}
    images = 32 * 500
    all_layers = 2 * (3 * sum(MACS) - MACS[0]) * images
    assert digits.flops(by_name["A s0"]) == all_layers
    assert digits.flops(by_name["A-long s0"]) == 2 * all_layers
    assert digits.flops(by_name["A3B+ s0"]) == all_layers
    frozen = 2 * (sum(MACS[:3]) + 3 * sum(MACS[3:]) - MACS[3]) * images
    for name in ("A3B s0", "A3A s0", "R3A s0"):
        assert digits.flops(by_name[name]) == frozen


def test_cost_without_rates(digits: Plan) -> None:
    nothing = cost(digits, [], {})
    assert (nothing.flops, nothing.seconds, nothing.checkpoint_bytes) == (0, None, 0)
    bases = [trial.id for trial in digits.members if trial.treatment_name == "base"]
    expected = cost(digits, bases, {})
    assert expected.flops == 8 * 2 * (3 * sum(MACS) - MACS[0]) * 32 * 500
    assert expected.seconds is None


def test_cost_with_rates(plan_of: PlanOf) -> None:
    """320 images at 40 per second take 8 seconds. Other rates are scaled by FLOPs."""
    planned = plan_of(SMALL)
    base, long, frozen = (find(planned, name) for name in ("A s0", "A-long s0", "B3A s0"))
    rates = {rate_key(base): 40.0}
    assert rate_key(frozen) == ("transfer", 3, True, None, None)
    fitted = find(plan_of(SMALL, "recipe.classifier={kind: knn}"), "B3A s0")
    assert rate_key(fitted) == ("transfer", 3, True, "knn", None)
    assert cost(planned, [base.id], rates).seconds == 8
    assert cost(planned, [long.id], rates).seconds == pytest.approx(16, rel=1e-12)
    share = training_macs(MACS, 3) / training_macs(MACS, 0)
    assert cost(planned, [frozen.id], rates).seconds == pytest.approx(8 * share, rel=1e-12)
    assert cost(planned, [base.id, frozen.id], rates | {rate_key(frozen): 64.0}).seconds == 13


def test_ten_thousand_trials() -> None:
    sweep, source = load_sweep("digits", [f"seeds={list(range(35))}"])
    planned = make_plan(resolve(sweep, source))
    assert len(planned.trials) == len(planned.members) == 10_360
    assert len({trial.name for trial in planned.members}) == 10_360


def test_with_parents(plan_of: PlanOf) -> None:
    planned = plan_of(SMALL)
    names = planned.with_parents([find(planned, "B3A s0").id, find(planned, "R1B s0").id])
    assert {planned.trials[id].name for id in names} == {"B s0", "B3A s0", "R1B s0"}


def test_find(plan_of: PlanOf) -> None:
    planned = plan_of(SMALL)
    trial = planned.members[5]
    assert (
        find(planned, trial.name) is find(planned, trial.id) is find(planned, trial.id[:6]) is trial
    )
    with pytest.raises(LayerwiseError, match=r"^'' matches 20 ids; give more digits$"):
        find(planned, "")
    with pytest.raises(LayerwiseError) as missing:
        find(planned, "A9B s0")
    assert str(missing.value) == (
        "no trial 'A9B s0' in sweep small; expected an id or a name: "
        "'A s0', 'A3A s0', 'B3A+ s0', 'B1B s0', 'A1B+ s0'"
    )
    with pytest.raises(LayerwiseError, match=r"a name: 'A3B s0', 'A3B[+] s0'$"):  # what it begins
        find(planned, "A3B")


def test_a_network_is_described_as_it_sees_cropped_images(plan_of: PlanOf) -> None:
    full, cropped = plan_of(SMALL), plan_of(SMALL, "recipe.crop=8")
    assert first(full).macs[0] == 12 * 12 * 9 * first(full).shapes[0][0]
    assert first(cropped).macs[0] == 8 * 8 * 9 * first(cropped).shapes[0][0]
    assert not set(full.trials) & set(cropped.trials)


def test_rates_of_copied_layers_change_only_those_that_learn_at_them(plan_of: PlanOf) -> None:
    own, other = (plan_of(SMALL, change) for change in ("seeds=[0]", "recipe.copied_rate=0.1"))
    pairs = zip(own.members, other.members, strict=True)
    assert {one.name for one, two in pairs if one.id != two.id} == {
        *("B1A+ s0", "B3A+ s0", "A1B+ s0", "A3B+ s0"),
    }
