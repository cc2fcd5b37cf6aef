"""One training: golden losses, keyed starts, failure, columns, and exact resuming."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.execution import worker
from orchestrator.execution.assignment import Assignment
from orchestrator.states import Ending
from orchestrator.store.schemas import result_columns
from orchestrator.store.store import Store
from orchestrator.sweep.schema import Resources
from tests.trainings import (
    BATCH_NORM,
    DIGITS,
    SIZES,
    TASKS,
    photo_training,
    points,
    result,
    rows,
    training,
)
from trainers import checkpoint, streams
from trainers.canonical import canonical, freeze_options
from trainers.checkpoint import CheckpointError
from trainers.config import NetworkRef, Training
from trainers.datasets import DataError
from trainers.evaluation import Score, evaluate
from trainers.learner import Learner
from trainers.loop import train
from trainers.recipe import Schedule
from trainers.results import Failure, Result, Runtime, Snapshot
from trainers.task_data import CHUNK, task_data
from trainers.transfer import starting_network

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.json"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base() -> Result:
    """The base whose layers the transfers from A copy."""
    return result(training(target="A"))


def parent_of(one: Training) -> bytes | None:
    """Return the checkpoint of the base that `one` copies."""
    if not one.treatment.has_parent:
        return None
    base = Training(
        target=one.source or one.target,
        network=one.network,
        treatment=training().treatment,
        recipe=one.recipe,
        seed=one.seed,
    )
    assert base.id == one.parent
    return result(base).checkpoint


# Golden losses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("float64", 1e-9)])
def test_golden_losses(precision: str, tolerance: float) -> None:
    """The loss of each step of one base equals that of the golden file.

    The tolerance is relative. Another machine's rounding grows over 20 steps: to 1e-3 at most in
    float32, to nothing in float64. To renew the file after a change on purpose, write the losses of
    the failed assertion into it.
    """
    curve = result(training(evaluate_every=1, precision=precision)).curve
    losses = [point.train_loss for point in curve]
    golden = json.loads(GOLDEN.read_text())[precision]
    assert losses == pytest.approx(golden, rel=tolerance), json.dumps(losses)


@pytest.mark.parametrize(
    "one",
    [
        training("transfer", 2),
        training("selffer", 3, optimiser="adam", rate=0.01, dropout=0.4),
        training("transfer", 1, fine_tuned=True, network=BATCH_NORM, precision="bfloat16"),
        training("random", 3, init="torch", optimiser="adamw", rate=0.01),
    ],
)
def test_two_runs_are_bit_identical(one: Training) -> None:
    parent = parent_of(one)
    first, second = result(one, parent), result(one, parent)
    assert points(first.curve) == points(second.curve)
    assert first.checkpoint == second.checkpoint
    assert (first.test, first.validation) == (second.test, second.validation)
    assert first.training == second.training


def test_the_papers_network_learns_as_the_paper_trained_it() -> None:
    """The network takes three steps on large digits, with more outputs than classes."""
    options = freeze_options(SIZES | {"canvas": 63, "noise": 0.0})
    large = dataclasses.replace(TASKS["B"], dataset=dataclasses.replace(DIGITS, options=options))
    paper = training(
        network=NetworkRef(name="caffenet", options=(("outputs", 9),)),
        optimiser="caffe_sgd",
        init="network",
        rate=0.0001,
        schedule=Schedule(),
        steps=3,
        evaluate_every=1,
    )
    last = result(dataclasses.replace(paper, target=large))
    losses = [point.val_loss for point in last.curve]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < math.log(9)
    assert [total for _, total in last.test.per_class] == [10] * 5
    assert last.test.top5 is None


def test_outputs_that_are_never_a_label_are_never_right() -> None:
    """Output 8 has the highest of nine scores: it is in the loss, and among the five best."""
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 9))
    torch.nn.init.zeros_(network[1].weight)
    network[1].bias.data = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.0, 0.0, 0.0, 6.0])
    labels = torch.tensor([0, 1, 2, 3, 4, 5])
    score = evaluate(network, [torch.zeros(6, 1, 1, 1)], labels, 6)
    assert (score.correct, score.total, score.per_class) == (0, 6, ((0, 1),) * 6)
    assert score.top5 == 4 / 6
    total = math.log(sum(map(math.exp, (5, 4, 3, 2, 1, 0, 0, 0, 6))))
    assert score.loss == pytest.approx(total - 15 / 6, rel=1e-6)


@pytest.mark.parametrize(("precision", "allowed"), [("float32", False), ("tf32", True)])
def test_float32_is_exact_unless_the_recipe_says_otherwise(precision: str, allowed: bool) -> None:
    """Every training sets this anew: its process may have run another training before."""
    for before in (True, False):
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = before
        result(training(steps=1, precision=precision))
        assert torch.backends.cudnn.allow_tf32 is allowed
        assert torch.backends.cuda.matmul.allow_tf32 is allowed


# Keyed starts -----------------------------------------------------------------------------------


def start(one: Training, parent: bytes | None = None) -> dict[str, bytes]:
    """Return the weights before the first step, by layer; all biases are 0."""
    network = starting_network(one, (1, 12, 12), torch.float32, parent)
    return {
        name: layer[0].weight.detach().numpy().tobytes() for name, layer in network.named_children()
    }


def test_fresh_layers_are_equal_in_every_treatment_and_for_every_n(base: Result) -> None:
    """Layer k of B starts equal in AnB, AnB+, BnB, BnB+ and random, for all n < k."""
    fresh: dict[int, set[bytes]] = {}
    b = result(training())
    for kind, n, fine_tuned in itertools.product(
        ("selffer", "transfer", "random"), range(1, 5), (False, True)
    ):
        parent = {"selffer": b.checkpoint, "transfer": base.checkpoint}.get(kind)
        layers = start(training(kind, n, fine_tuned=fine_tuned), parent)
        for k in range(n + 1, 6):
            fresh.setdefault(k, set()).add(layers[f"layer{k}"])
    assert {k: len(layers) for k, layers in fresh.items()} == {2: 1, 3: 1, 4: 1, 5: 1}
    bases = {layer for target in "AB" for layer in start(training(target=target)).values()}
    assert not bases & {layer for layers in fresh.values() for layer in layers}


def test_random_filters_are_nested_over_n() -> None:
    layers = {n: start(training("random", n)) for n in range(1, 5)}
    for n, m in itertools.combinations(range(1, 5), 2):
        for k in range(1, n + 1):
            assert layers[n][f"layer{k}"] == layers[m][f"layer{k}"]
    fresh = start(training("random", 1))
    assert all(layers[4][f"layer{k}"] != fresh[f"layer{k}"] for k in range(2, 5))
    assert layers[4]["layer5"] == fresh["layer5"]


def test_no_two_bases_share_weights_and_seeds_change_all() -> None:
    starts = [
        start(training(kind, n, target=target, seed=seed))
        for kind, n in (("base", 0), ("random", 4))
        for target in "AB"
        for seed in (0, 1)
    ]
    for first, second in itertools.combinations(starts, 2):
        assert not set(first.values()) & set(second.values())


def test_a_base_and_its_longer_control_start_equal() -> None:
    assert start(training("base_long", steps=40)) == start(training())


def test_number_formats_start_from_the_same_weights() -> None:
    double = starting_network(training(), (1, 12, 12), torch.float64, None).float().state_dict()
    single = starting_network(training(), (1, 12, 12), torch.float32, None).state_dict()
    assert all(torch.equal(double[name], single[name]) for name in single)


def test_dropout_masks_depend_on_seed_target_and_step_only() -> None:
    """The treatments of one target drop the same units at the same step."""

    def masks(one: Training) -> list[list[bool]]:
        parent = result(training(target="A", seed=one.seed)).checkpoint
        it = Learner(one, task_data(one, CPU), parent, 0)
        seen: list[list[bool]] = []
        it.network[3].dropout.register_forward_hook(
            lambda _module, _inputs, output: seen.append((output == 0).flatten().tolist())
        )
        it.network[3].relu.register_forward_hook(lambda *_: torch.ones(16, 8))
        for step in (0, 1, 0):
            it.step(step, 1e-9)
        return seen

    first = masks(training("random", 1, dropout=0.5))
    assert first[0] == first[2] != first[1]
    assert masks(training("transfer", 2, fine_tuned=True, dropout=0.5, rate=0.3)) == first
    assert masks(training("random", 1, dropout=0.5, seed=1)) != first
    assert masks(training("random", 1, dropout=0.5, target="A")) != first


# Evaluations ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "every", "evaluated"),
    [
        (20, 6, [6, 12, 18, 20]),
        (12, 6, [6, 12]),
        (5, 6, [5]),
        (3, 1, [1, 2, 3]),
        (20, None, [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]),
        (19, None, [2, 4, 6, 8, 10, 12, 14, 16, 18, 19]),
        (1, None, [1]),
    ],
)
def test_when_it_is_evaluated(steps: int, every: int | None, evaluated: list[int]) -> None:
    *curve, last = rows(training(steps=steps, evaluate_every=every))
    assert isinstance(last, Result)
    assert [point.step for point in curve] == evaluated
    assert [point.images for point in curve] == [16 * step for step in evaluated]
    assert (last.steps, last.images, last.curve) == (steps, 16 * steps, tuple(curve))


def test_a_points_loss_is_the_mean_since_the_point_before() -> None:
    every_step = [p.train_loss for p in result(training(evaluate_every=1)).curve]
    sixes = [p.train_loss for p in result(training(evaluate_every=6)).curve]
    assert sixes == [
        sum(every_step[start : start + 6]) / len(every_step[start : start + 6])
        for start in (0, 6, 12, 18)
    ]


class FakeScores:
    """Losses and scores made by hand, in place of a network's."""

    def __init__(self, losses: list[float], validation: list[int], test: list[int]):
        self.losses, self.subsets = losses, []
        self.correct = {"validation": iter(validation), "test": iter(test), "train": iter([99])}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Learner, "step", lambda _, step, _rate: torch.tensor(self.losses[step]))
        monkeypatch.setattr(Learner, "score", lambda _, subset: self.score(subset))

    def score(self, subset: str) -> Score:
        self.subsets.append(subset)
        correct = next(self.correct[subset])
        return Score(
            correct=correct, total=100, loss=correct / 8, top5=None, per_class=((correct, 100),)
        )


def test_columns_from_a_curve_made_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve evaluations: the best is the fourth, reached again at the ninth."""
    validation = [10, 30, 20, 70, 60, 50, 40, 65, 70, 64, 63, 61]
    fake = FakeScores([0.5] * 24, validation, test=[11, 31, 71, 55])
    fake.install(monkeypatch)
    last = result(training(steps=24, evaluate_every=2))
    assert (last.val_best, last.val_best_step, last.test_best) == (0.7, 8, 0.71)
    assert (last.validation.top1, last.test.top1) == (0.61, 0.55)
    best = [70, 70, 65, 64, 63, 61, 60, 50, 40, 30]
    assert last.val_mean10 == pytest.approx(sum(best) / 1000, rel=1e-15)
    assert last.train_loss == 0.5
    assert fake.subsets.count("test") == 4  # where the validation improved, and at the end
    assert [p.val_loss for p in last.curve] == [correct / 8 for correct in validation]


@pytest.mark.parametrize(
    ("losses", "at_chance"),
    [
        ([0.981, 0.985, 1.5, 1.2], True),
        ([0.981, 0.981, 0.970, 0.980], False),  # one window of two that learned something
        ([0.970, 0.995, 1.5, 1.2], True),  # a step is not a window
        ([2.0, 2.0, 1.5, 0.4], False),
    ],
)
def test_at_chance(losses: list[float], at_chance: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule compares mean losses between evaluations with fractions of ln(classes)."""
    fake = FakeScores([loss * math.log(5) for loss in losses], [9, 9], [9, 9])
    fake.install(monkeypatch)
    assert result(training(steps=4, evaluate_every=2)).at_chance is at_chance


def test_a_network_that_does_not_learn_is_at_chance_and_kept() -> None:
    still = result(training(rate=1e-12))
    assert still.at_chance
    assert not result(training(steps=300, evaluate_every=50)).at_chance


def test_scores() -> None:
    """Top-1, top-5, mean loss and counts per class of six classes, with scores made by hand."""
    scores = torch.tensor(
        [
            [9.0, 1, 2, 3, 4, 5],  # of class 0: correct
            [0.0, 9, 1, 2, 3, 4],  # of class 0: wrong, and not among the five best
            [1.0, 9, 2, 3, 4, 5],  # of class 2: wrong, among the five best
            [0.0, 0, 0, 0, 0, 9],  # of class 5: correct
        ]
    )
    labels = torch.tensor([0, 0, 2, 5])
    score = evaluate(torch.nn.Identity(), [scores], labels, 6)
    assert (score.correct, score.total, score.top1, score.top5) == (2, 4, 0.5, 0.75)
    assert score.per_class == ((1, 2), (0, 0), (0, 1), (0, 0), (0, 0), (1, 1))
    losses = [
        math.log(sum(map(math.exp, row))) - row[label]
        for row, label in zip(scores.tolist(), labels.tolist(), strict=True)
    ]
    assert score.loss == pytest.approx(sum(losses) / 4, rel=1e-12)
    assert evaluate(torch.nn.Identity(), [scores[:3, :5]], labels[:3], 5).top5 is None


def test_scores_of_more_images_than_one_pass_takes() -> None:
    torch.manual_seed(0)
    scores, labels = torch.randn(2 * CHUNK + 5, 6), torch.randint(6, (2 * CHUNK + 5,))
    score = evaluate(torch.nn.Identity(), scores.split(CHUNK), labels, 6)
    assert score.correct == int((scores.argmax(1) == labels).sum())
    assert score.total == len(labels)
    loss = torch.nn.functional.cross_entropy(scores.double(), labels)
    assert score.loss == pytest.approx(float(loss), rel=1e-12)


def test_an_untested_training_reads_no_test_image(monkeypatch: pytest.MonkeyPatch) -> None:
    one = dataclasses.replace(training(), tested=False)
    assert one.id != training().id
    score = Learner.score

    def refusing(self: Learner, subset: str) -> Score:
        assert subset != "test"
        return score(self, subset)

    monkeypatch.setattr(Learner, "score", refusing)
    untested = result(one)
    monkeypatch.undo()
    tested = result(training())
    assert untested.test is None
    assert (untested.validation, points(untested.curve)) == (
        tested.validation,
        points(tested.curve),
    )


def test_the_result_is_the_final_networks() -> None:
    """The checkpoint, loaded into a new network, gives the scores of the row."""
    one = training()
    last = result(one)
    tensors, meta = checkpoint.unpack(last.checkpoint)
    assert meta == {"trial": one.id, "steps": 20}
    assert last.checkpoint_sha256 == checkpoint.checksum(last.checkpoint)
    network = starting_network(one, (1, 12, 12), torch.float32, None)
    network.load_state_dict(tensors)
    network.to(memory_format=torch.channels_last)
    data = task_data(one, CPU)
    assert evaluate(network, data.test.chunks(), data.test.labels, 5) == last.test
    validation = evaluate(network, data.validation.chunks(), data.validation.labels, 5)
    assert validation == last.validation
    assert [total for _, total in last.test.per_class] == [10] * 5
    learner = Learner(one, data, None, 0)
    learner.network.load_state_dict(tensors)
    assert learner.score("train") == last.training
    assert last.training.total == 50  # of 80: as many as the test images
    few = dataclasses.replace(one, target=dataclasses.replace(one.target, images_per_class=3))
    assert result(few).training.total == 15  # all


# Failure and proof ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step", [0, 3, 4, 7, 19])
def test_a_loss_that_is_no_number_ends_the_trial_at_that_step(
    value: float, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = [1.0] * step + [value] * (20 - step)
    FakeScores(losses, list(range(20)), list(range(20))).install(monkeypatch)
    *curve, last = rows(training(steps=20, evaluate_every=4))
    assert isinstance(last, Failure)
    assert (last.step, last.error_type) == (step, "LossNotFinite")
    assert last.message == f"loss is {value} at step {step}"
    assert last.curve == tuple(curve)
    assert [point.step for point in curve] == list(range(4, step + 1, 4))


@pytest.mark.parametrize("subset", ["validation", "test"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_of_any_set_that_is_no_number_ends_the_trial(
    subset: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeScores([1.0] * 4, [10, 20], [10, 20])

    def score(_: Learner, name: str) -> Score:
        made = fake.score(name)
        is_wrong = name == subset and made.correct == 20
        return dataclasses.replace(made, loss=value) if is_wrong else made

    fake.install(monkeypatch)
    monkeypatch.setattr(Learner, "score", score)
    *curve, last = rows(training(steps=4, evaluate_every=2))
    assert isinstance(last, Failure)
    assert (last.step, last.message) == (4, f"{subset} loss is {value} at step 4")
    assert len(curve) == 1


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_a_diverging_training_fails_at_its_exact_step(optimiser: str) -> None:
    """The step depends on no evaluation, and may be the one after the last update."""
    one = training(rate=1e15, optimiser=optimiser, schedule=training().recipe.schedule)
    it = Learner(one, task_data(one, CPU), None, 0)
    first = next(step for step in range(20) if not torch.isfinite(it.step(step, 1e15)))
    assert first > 0
    for steps, every in ((20, 1), (20, 7), (20, 20), (first + 1, None), (first, None)):
        constant = dataclasses.replace(one.recipe, schedule=type(one.recipe.schedule)())
        recipe = dataclasses.replace(constant, steps=steps, evaluate_every=every)
        last = rows(dataclasses.replace(one, recipe=recipe))[-1]
        assert isinstance(last, Failure), (steps, every)
        assert last.step == first, (steps, every)


@pytest.mark.parametrize(
    "one", [training("transfer", 2), training("selffer", 1, network=BATCH_NORM)]
)
def test_a_frozen_part_is_proven_frozen(one: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = parent_of(one)
    last = result(one, parent)
    assert last.frozen_hash_start == last.frozen_hash_end != ""

    take_step = Learner.step

    def tampering(self: Learner, step: int, rate: float) -> torch.Tensor:
        if step == 7:
            next(iter(self.network[0].parameters())).view(-1)[0].add_(1e-3)
        return take_step(self, step, rate)

    monkeypatch.setattr(Learner, "step", tampering)
    tampered = result(one, parent)
    assert tampered.frozen_hash_start == last.frozen_hash_start != tampered.frozen_hash_end


@pytest.mark.parametrize("optimiser", ["sgd", "caffe_sgd", "adam", "adamw"])
def test_while_fresh_layers_learn_first_nothing_touches_the_copied_ones(
    optimiser: Any, base: Result
) -> None:
    """Neither decay nor momentum changes them. Afterwards they learn like new layers."""
    one = training(
        "transfer", 2, fine_tuned=True, fresh_first=0.5, optimiser=optimiser, weight_decay=0.1
    )
    learner = Learner(one, task_data(one, CPU), base.checkpoint, 0)
    before = {name: tensor.clone() for name, tensor in learner.network.state_dict().items()}
    for step in range(10):
        learner.step(step, 0.05)
        learner.score("validation")
    copied = [name for name in before if name.startswith(("layer1.", "layer2."))]
    assert len(copied) == 4
    after = learner.network.state_dict()
    assert [name for name in before if torch.equal(before[name], after[name])] == copied
    assert len(learner.optimiser.state) == len(before) - 4
    learner.step(10, 0.05)
    weights = [name for name in copied if name.endswith("weight")]  # a dead unit's bias stays
    assert not any(torch.equal(before[name], after[name]) for name in weights)
    assert len(learner.optimiser.state) == len(before)


def test_normalisation_of_copied_layers_waits_for_the_fresh_ones() -> None:
    one = training("transfer", 2, fine_tuned=True, network=BATCH_NORM, fresh_first=0.5)
    parent = parent_of(one)
    learner = Learner(one, task_data(one, CPU), parent, 0)
    seen = learner.network.state_dict()["layer1.1.num_batches_tracked"]
    start = int(seen)
    for step in range(12):
        learner.step(step, 0.05)
        learner.score("validation")
        assert int(seen) == start + max(0, step - 9)


def test_a_rate_of_nothing_for_copied_layers_is_almost_freezing(base: Result) -> None:
    tuned, frozen = (
        result(training("transfer", 2, fine_tuned=fine, copied_rate=1e-12), base.checkpoint)
        for fine in (True, False)
    )
    for mine, its in zip(tuned.curve, frozen.curve, strict=True):
        assert mine.train_loss == pytest.approx(its.train_loss, rel=1e-4)


def test_resuming_proves_from_the_first_start_on(base: Result) -> None:
    """A snapshot carries the first hash, so that a change of a frozen layer before it is seen."""
    one = training("transfer", 2)
    all_rows = rows(one, base.checkpoint, checkpoint_seconds=0.0)
    tensors, meta = checkpoint.unpack(next(r for r in all_rows if isinstance(r, Snapshot)).data)
    tensors["network/layer1.conv.weight"][0, 0, 0, 0] += 1e-3
    *_, last = train(one, parent=base.checkpoint, resume=checkpoint.pack(tensors, meta))
    assert isinstance(last, Result)
    assert last.frozen_hash_start == meta["frozen_hash_start"] != last.frozen_hash_end


def test_a_training_without_frozen_layers_has_no_proof() -> None:
    last = result(training())
    assert last.frozen_hash_start == last.frozen_hash_end == ""


# Resuming ---------------------------------------------------------------------------------------


def test_a_snapshot_of_another_training_is_refused() -> None:
    snapshots = (r for r in rows(training(), checkpoint_seconds=0.0) if isinstance(r, Snapshot))
    data = next(snapshots).data
    other = training(seed=1)
    with pytest.raises(CheckpointError, match=f"^the snapshot is not of trial {other.id}$"):
        next(train(other, resume=data))


def test_a_snapshot_after_every_step_but_the_last() -> None:
    steps = [r.step for r in rows(training(), checkpoint_seconds=0.0) if isinstance(r, Snapshot)]
    assert steps == list(range(1, 20))
    assert not any(isinstance(r, Snapshot) for r in rows(training()))


@pytest.mark.parametrize("steps", [1, 7, 19])
def test_a_training_that_is_asked_to_stop_ends_with_a_snapshot_that_goes_on(steps: int) -> None:
    asked = itertools.count(1)
    *_, last = train(training(), stop=lambda: next(asked) >= steps)
    assert isinstance(last, Snapshot)
    assert last.step == steps
    *_, end = train(training(), resume=last.data)
    assert_equal(end, result(training()), resumes=1)


def test_a_training_in_its_last_step_is_not_stopped() -> None:
    *_, last = train(training(), stop=itertools.chain([False] * 19, [True]).__next__)
    assert isinstance(last, Result)


PHASES = {"copied_rate": 0.5, "layer_decay": 0.5, "fresh_first": 0.4}
PHASED = ({"network": BATCH_NORM}, {"optimiser": "adamw", "rate": 0.01})
DROPS = Schedule(family="step", every=9)
RESUMED = [
    training(steps=23),
    training("transfer", 2, steps=23),
    training("selffer", 4, steps=23, dropout=0.4, optimiser="adam", rate=0.01),
    training("transfer", 1, steps=23, fine_tuned=True, network=BATCH_NORM, momentum=0.5),
    training("random", 1, steps=23, network=BATCH_NORM, precision="bfloat16"),
    training(steps=23, dropout=0.2, optimiser="adamw", rate=0.01, precision="float64"),
    training("selffer", 1, steps=23, optimiser="caffe_sgd", schedule=DROPS),
    training("transfer", 1, steps=23, crop=10, mirror=True, pixels="mean_image", dropout=0.2),
    *(training("transfer", 2, steps=23, fine_tuned=True, **PHASES, **own) for own in PHASED),
]


@pytest.mark.parametrize("one", RESUMED)
def test_resuming_from_any_step_is_bit_identical(one: Training) -> None:
    """One process resumes from every snapshot, and from snapshots of a resumed training."""
    parent = parent_of(one)
    all_rows = rows(one, parent, checkpoint_seconds=0.0)
    expected = all_rows[-1]
    assert isinstance(expected, Result)
    snapshots = [row for row in all_rows if isinstance(row, Snapshot)]
    for snapshot in snapshots[::3]:
        last = list(train(one, parent=parent, resume=snapshot.data))[-1]
        assert_equal(last, expected, resumes=1)
    row: Any = None
    resumes = -1
    while not isinstance(row, Result):  # each attempt ends after four steps
        resume = row.data if row else None
        again = train(one, parent=parent, resume=resume, runtime=Runtime(checkpoint_seconds=0.0))
        steps = (r for r in again if isinstance(r, Snapshot | Result))
        *_, row = itertools.islice(steps, 4)
        resumes += 1
    assert resumes == 5
    assert_equal(row, expected, resumes=5)


def assert_equal(last: Any, expected: Result, *, resumes: int) -> None:
    """Assert equal results; only the facts about the run may differ."""
    assert isinstance(last, Result)
    assert points(last.curve) == points(expected.curve)
    assert (last.resumes, last.exact) == (resumes, True)
    about_the_run = {"curve", "resumes", "seconds", "peak_memory_bytes"}
    for field in dataclasses.fields(Result):
        if field.name not in about_the_run:
            assert getattr(last, field.name) == getattr(expected, field.name), field.name


def test_resuming_under_other_settings_is_flagged_for_good() -> None:
    def first(row_type: type, **options: Any) -> Any:
        runtime = Runtime(checkpoint_seconds=0.0, threads=options.pop("threads", 1))
        all_rows = train(training(), runtime=runtime, **options)
        return next(row for row in all_rows if isinstance(row, row_type))

    start = first(Snapshot).data
    assert first(Result, resume=start).exact
    other = first(Snapshot, resume=start, threads=2).data
    assert not first(Result, resume=other, threads=2).exact
    assert not first(Result, resume=other).exact


def test_seconds_are_of_all_attempts() -> None:
    snapshot = next(r for r in rows(training(), checkpoint_seconds=0.0) if isinstance(r, Snapshot))
    tensors, meta = checkpoint.unpack(snapshot.data)
    meta["seconds"] = {"data": 10.0, "train": 100.0, "evaluate": 1000.0}
    resumed = train(training(), resume=checkpoint.pack(tensors, meta))
    *_, last = resumed
    assert isinstance(last, Result)
    assert 10 < last.seconds.data < 20
    assert 100 < last.seconds.train < 200
    assert 1000 < last.seconds.evaluate < 1100
    assert last.curve[0].seconds > 100


# Streamed images --------------------------------------------------------------------------------

STREAMED = Runtime(whole_bytes=0, readers=3, checkpoint_seconds=0.0)
PHOTOS = {"steps": 14, "evaluate_every": 5, "crop": 9, "mirror": True, "pixels": "mean_image"}


@pytest.fixture
def photo_data(photo_data: None) -> Iterator[None]:  # noqa: ARG001
    """Make `photos` a known dataset, and check that no thread that reads it outlives a training."""
    yield
    assert not reading()


def reading() -> list[str]:
    """Return the names of the threads that read images."""
    return [t.name for t in threading.enumerate() if t.name.startswith(streams.READERS)]


@pytest.mark.usefixtures("photo_data")
def test_a_streamed_training_is_the_same_bit_for_bit() -> None:
    """It equals a training whose images are in memory, also when it is resumed from any step."""
    one = photo_training(dropout=0.3, **PHOTOS)
    expected = result(one, whole_bytes=10**9)
    streamed = list(train(one, runtime=STREAMED))
    assert_equal(streamed[-1], expected, resumes=0)
    assert expected.seconds.wait == 0 < streamed[-1].seconds.wait  # type: ignore[union-attr]
    for snapshot in [row for row in streamed if isinstance(row, Snapshot)][::3]:
        last = list(train(one, resume=snapshot.data, runtime=STREAMED))[-1]
        assert_equal(last, expected, resumes=1)


@pytest.mark.usefixtures("photo_data")
@pytest.mark.parametrize("varied", [True, False])
def test_frozen_layers_see_images_that_vary_at_every_step(varied: bool) -> None:
    """Features are kept only if they are the same in every step, of streamed images too."""
    recipe = PHOTOS if varied else {"steps": 14, "evaluate_every": 5}
    parent = result(photo_training(**recipe), whole_bytes=10**9).checkpoint
    one = photo_training("selffer", 2, **recipe)
    for whole_bytes in (0, 10**9):
        data = task_data(one, CPU, whole_bytes=whole_bytes)
        with contextlib.closing(Learner(one, data, parent, 10**9)) as learner:
            assert learner.cached_layers == (0 if varied else 2)
    whole, streamed = (result(one, parent, whole_bytes=size) for size in (10**9, 0))
    assert_equal(streamed, whole, resumes=0)


@pytest.mark.usefixtures("photo_data")
@pytest.mark.parametrize("rows_taken", [0, 1, 3])
def test_reading_ends_with_the_training(rows_taken: int) -> None:
    """The threads end, also if the caller closes the training after some rows."""
    training_rows = train(photo_training(**PHOTOS), runtime=STREAMED)
    taken = list(itertools.islice(training_rows, rows_taken))
    assert len(taken) == rows_taken
    assert bool(reading()) == bool(rows_taken)
    training_rows.close()
    assert not reading()


@pytest.mark.usefixtures("photo_data")
@pytest.mark.parametrize("raised", [KeyboardInterrupt, OSError])
def test_reading_ends_when_the_one_who_watches_fails(
    raised: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainers.task_data.CPU_BYTES", 0)
    given = assignment(photo_training(**PHOTOS), Store(tmp_path), None)

    def watch(*_: Any) -> None:
        assert reading()
        raise raised

    with pytest.raises(raised):
        worker.run(given, watch=watch)
    assert not reading()


@pytest.mark.usefixtures("photo_data")
def test_an_image_that_cannot_be_read_ends_the_training_with_its_name() -> None:
    """The training ends at the step that needs the image."""
    broken = photo_training(photos={"broken": 1}, **PHOTOS | {"pixels": "standard"})
    with pytest.raises(DataError, match=r"^image 1 cannot be read$"):
        list(train(broken, runtime=STREAMED))
    assert not reading()


# Killed processes -------------------------------------------------------------------------------

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "orchestrator.execution.worker",
        "trainers.loop",
        "sklearn.datasets",
        "torch._dynamo",
    ]  # slow imports
)

KILLED = [
    training("transfer", 2, steps=201),
    training(
        *("selffer", 4), steps=201, dropout=0.4, optimiser="adam", rate=0.01, crop=10, mirror=True
    ),
    training("transfer", 1, steps=201, fine_tuned=True, network=BATCH_NORM),
]


def assignment(one: Training, store: Store, parent: bytes | None) -> Assignment:
    labels = {"id": one.id, "name": "A2B s0", "sweep": "test", "split": "s0", "split_hash": "0"}
    labels |= {"source": "A", "target": "B", "treatment": one.treatment.kind, "seed": one.seed}
    labels |= {"n": one.treatment.n, "frozen": one.treatment.frozen, "parent": one.parent}
    labels["upper"] = one.upper
    checkpoints = {}
    if one.parent and parent:
        checkpoints[one.parent] = store.put_checkpoint(one.parent, parent)
    return Assignment(
        training=canonical(one),
        labels=labels,
        argument="digits",
        request=Resources().model_dump(),
        retries=0,
        checkpoints=checkpoints,
        keep_checkpoint=True,
        checkpoint_seconds=1e-9,
        store=store.root,
        git_commit=None,
    )


def test_a_stopped_trial_keeps_its_snapshot_and_has_no_row(tmp_path: Path) -> None:
    store, one = Store(tmp_path), training()
    given = dataclasses.replace(assignment(one, store, None), checkpoint_seconds=1000.0)
    report = worker.run(given, stop=lambda: True)
    assert (report.ending, report.checkpoint) == (Ending.STOPPED, None)
    assert store.outcomes() == {}
    assert len(store.names("progress", one.id)) == 1
    assert worker.run(given).ending is Ending.COMPLETE
    row = store.row(one.id)
    assert row is not None
    assert (row["resumes"], row["exact"], store.names("progress")) == (1, True, [])


def test_a_snapshot_that_cannot_be_restored_is_dropped(tmp_path: Path) -> None:
    """The snapshot is complete and belongs to another trial."""
    store, one = Store(tmp_path), training()
    given = assignment(one, store, None)
    store.put_progress(one.id, "a0b1c2d3", 3, checkpoint.pack({}, {"trial": "another"}))
    report = worker.run(given)
    assert report.ending is Ending.WORKER_DIED
    restart = "the training starts again from step 0"
    assert report.message == f"the snapshot is not of trial {one.id}; {restart}"
    assert store.names("progress") == []
    assert worker.run(given).ending is Ending.COMPLETE


def run_and_die(given: Assignment, step: int, seconds: float) -> None:
    """Train, and kill this process some time after the snapshot of `step`.

    A row reaches `watch` before the store. At the second snapshot the store holds the first.
    """

    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
    seen = itertools.count(1)

    def watch(_: str, row: Any) -> None:
        late = isinstance(row, Snapshot) and next(seen) > 1 and row.step >= step
        if late and not timer.is_alive():
            timer.start()

    worker.run(given, watch=watch)


def exit_code(run: Callable[..., Any], *arguments: Any) -> int | None:
    process = CONTEXT.Process(target=run, args=arguments)
    process.start()
    process.join()
    return process.exitcode


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store]:
    whole, killed = Store(tmp_path / "whole"), Store(tmp_path / "killed")
    whole.make()
    killed.make()
    return whole, killed


@pytest.mark.parametrize("one", KILLED)
def test_a_killed_process_resumes_bit_identically(
    one: Training, stores: tuple[Store, Store]
) -> None:
    """After SIGKILL at random moments, row, curve, classes and checkpoint are the same."""
    plain, killed = stores
    parent = parent_of(one)
    moments = random.Random(one.id)
    steps = itertools.accumulate(moments.sample(range(2, 21), 3))  # after a first snapshot
    for step in steps:
        seconds = moments.uniform(0, 0.02)
        assert exit_code(run_and_die, assignment(one, killed, parent), step, seconds) == -9
    assert exit_code(worker.run, assignment(one, killed, parent)) == 0
    worker.run(assignment(one, plain, parent))

    for table in ("trials", "curves", "classes"):
        columns = result_columns(table)
        expected, actual = plain.table(table).select(columns), killed.table(table).select(columns)
        assert actual.to_pylist() == expected.to_pylist(), table
        assert expected.num_rows > 0
    for store, resumes in ((plain, 0), (killed, 3)):
        row = store.row(one.id)
        assert row is not None
        assert (row["outcome"], row["resumes"], row["exact"]) == ("complete", resumes, True)
        assert store.names("progress") == []
    names = plain.names("checkpoints", one.id)
    assert names == killed.names("checkpoints", one.id)
    paths = [store.path("checkpoints", one.id, names[0]) for store in stores]
    assert plain.get(paths[0]) == killed.get(paths[1])


def test_a_failed_trial_keeps_the_curve_from_before_it_was_resumed(
    stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, store = training(steps=12, evaluate_every=4), stores[0]
    given = assignment(one, store, None)
    losses = [1.0] * 10 + [math.nan] * 2
    FakeScores(losses, [1, 2, 3] * 9, [1, 2, 3] * 9).install(monkeypatch)

    class Killed(BaseException):
        pass

    def watch(_: str, row: Any) -> None:
        if isinstance(row, Snapshot) and row.step == 7:
            raise Killed

    with pytest.raises(Killed):
        worker.run(given, watch=watch)
    report = worker.run(given)
    assert report.message.startswith(f"trial {one.id} (A2B s0) failed: loss is nan at step 10; ")
    row = store.row(one.id)
    assert row is not None
    assert (row["outcome"], row["error_type"], row["error_step"]) == ("failed", "LossNotFinite", 10)
    assert store.table("curves").sort_by("step")["step"].to_pylist() == [4, 8]
