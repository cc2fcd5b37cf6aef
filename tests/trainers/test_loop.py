"""One training: golden losses, evaluations, the columns of its result, and failure."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from tests.trainers.runs import FakeScores, parent_of
from tests.trainings import BATCH_NORM, DIGITS, SIZES, TASKS, points, result, rows, training
from trainers import checkpoint
from trainers.canonical import freeze_options
from trainers.config import NetworkRef, Training
from trainers.evaluation import Score, evaluate
from trainers.learner import Learner
from trainers.recipe import Schedule
from trainers.results import Failure, Result
from trainers.task_data import CHUNK, task_data
from trainers.transfer import starting_network

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.json"
CPU = torch.device("cpu")


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


# Failure ----------------------------------------------------------------------------------------


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
