"""Lanes: the numbers of a training alone, whatever the other lanes are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from tests.trainings import BATCH_NORM, GROUP_NORM, RESIDUAL, SMALL, training
from trainers.checkpoint import unpack
from trainers.config import NetworkRef, Training
from trainers.lanes.pack import Member, Stopwatch, run
from trainers.loop import lane, train
from trainers.recipe import Stage, Stop
from trainers.results import Evaluation, Failure, Result, Row, Runtime, Snapshot

DROPOUT = NetworkRef(
    name="conv8", options=(("conv", (4, 8)), ("dropout", 0.5), ("fc", (16, 16)), ("pool", (1, 2)))
)
LARGE_BATCH = 10**6  # "all" images

Pair = tuple[Training, bytes | None]


GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    ],
)


def alone(*ones: Pair, device: str = "cpu") -> list[list[Row]]:
    """The rows of each training by itself."""
    return [list(train(one, parent=p, runtime=Runtime(device=device))) for one, p in ones]


def packed(*ones: Pair, device: str = "cpu", **options: Any) -> list[list[Any]]:
    """The rows of each training in one pack; `options` are those of `lane`, by its number."""
    rows: list[list[Any]] = [[] for _ in ones]
    members = []
    for number, (one, parent) in enumerate(ones):
        watch = Stopwatch()
        runtime = Runtime(device=device, in_lanes=True, clock=watch, checkpoint_seconds=1e9)
        given = {"runtime": runtime} | options.get(f"lane{number}", {})
        members.append(Member(lane(one, parent=parent, **given), watch))
    for number, row in run(members):
        rows[number].append(row)
    return rows


def results(rows: Sequence[Sequence[Any]]) -> list[Result]:
    last = [one[-1] for one in rows]
    assert all(isinstance(row, Result) for row in last)
    return last


def grid(**recipe: Any) -> list[Pair]:
    """Trainings of all treatments, with their bases' checkpoints."""
    bases = [training(target=half, **recipe) for half in "BA"]
    weights = {
        base.target: result.checkpoint
        for base, result in zip(
            bases, results(alone(*((base, None) for base in bases))), strict=True
        )
    }
    others = [
        training("selffer", 1, **recipe),
        training("transfer", 2, fine_tuned=True, **recipe),
        training("transfer", 3, **recipe),
        training("random", 1, **recipe),
        training(seed=1, **recipe | {"rate": 0.01, "weight_decay": 0.0}),
    ]
    copies = [(one, weights[one.source] if one.source else None) for one in others]
    return [(bases[0], None), *copies]


def values(result: Result) -> list[float]:
    """The weights and losses of a result."""
    state, _ = unpack(result.checkpoint)
    weights = torch.cat([state[name].double().flatten() for name in sorted(state)]).tolist()
    losses = [x for point in result.curve for x in (point.train_loss, point.val_loss)]
    assert result.test is not None
    return [*weights, *losses, result.test.loss, result.training.loss]


RECIPES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "caffe_sgd": {"optimiser": "caffe_sgd"},
    "adam": {"optimiser": "adam", "rate": 0.001},
    "adamw": {"optimiser": "adamw", "rate": 0.001},
    "squared_error": {"loss": "squared_error", "label_smoothing": 0.1},
    "augmented": {"crop": 10, "mirror": True},
    "dropout": {"network": DROPOUT},
    "batch_norm": {"network": BATCH_NORM},
    "own_normalisation": {"network": BATCH_NORM, "frozen_statistics": False},
    "residual": {"network": RESIDUAL},
    "learning_affine": {"network": RESIDUAL, "frozen_affine": False},
    "group_norm": {"network": GROUP_NORM},
    "stages": {"stages": (Stage(fraction=0.5, learn="fresh"), Stage(fraction=0.5, learn="all"))},
    "early": {"stop": Stop(patience=1)},
}


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("name", RECIPES)
def test_a_lane_gives_the_numbers_of_the_training_alone(name: str, device: str) -> None:
    recipe = {"precision": "float64", **RECIPES[name]}
    ones = grid(**recipe)
    by_itself = results(alone(*ones, device=device))
    in_lanes = results(packed(*ones, device=device))
    for one, other in zip(by_itself, in_lanes, strict=True):
        assert values(other) == pytest.approx(values(one), rel=1e-9, abs=1e-12)
        assert (other.steps, other.kept_step) == (one.steps, one.kept_step)
        assert other.frozen_hash_end == one.frozen_hash_end == other.frozen_hash_start
        assert other.test is not None
        assert one.test is not None
        assert other.test.per_class == one.test.per_class


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize(
    "name",
    ["sgd", "dropout", "augmented", "batch_norm", "residual", "learning_affine", "group_norm"],
)
def test_the_bits_of_a_lane_do_not_depend_on_the_others(name: str, device: str) -> None:
    ones = grid(**RECIPES[name])

    def together(*some: Pair) -> list[Result]:
        return results(packed(*some, device=device))

    expected = together(*ones)
    backwards = together(*ones[::-1])[::-1]
    pairs = together(*ones[:2]) + together(*ones[2:4]) + together(*ones[4:])
    odd = together(*ones[:3]) + together(*ones[3:])
    single = [together(one)[0] for one in ones]
    for others in (backwards, pairs, odd, single):
        for one, other in zip(expected, others, strict=True):
            assert other.checkpoint_sha256 == one.checkpoint_sha256
            assert other.validation == one.validation
            assert other.training == one.training


def test_layers_that_learn_later_learn_from_the_first_step_of_their_stage() -> None:
    """No other lane lets them learn before."""
    stages = RECIPES["stages"] | {"precision": "float64"}
    one = training("transfer", 3, fine_tuned=True, **stages)
    [base] = results(alone((training(target="A", **stages), None)))
    pair: list[Pair] = [(one, base.checkpoint)] * 2
    expected = values(results(alone(pair[0]))[0])
    for result in results(packed(*pair)):
        assert values(result) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("network", [SMALL, RESIDUAL])
def test_a_lane_whose_loss_is_not_finite_fails_alone(network: NetworkRef) -> None:
    good = training(network=network)
    bad = training(rate=1e30, seed=1, network=network)
    failed, ended = packed((bad, None), (good, None))
    assert isinstance(failed[-1], Failure)
    assert (
        results([ended])[0].checkpoint_sha256 == results(packed((good, None)))[0].checkpoint_sha256
    )


def test_an_exception_of_one_lane_ends_this_lane() -> None:
    copy = training("transfer", 1)
    failed, ended = packed((copy, b"no checkpoint"), (training(), None))
    assert [type(row).__name__ for row in failed] == ["CheckpointError"]
    assert isinstance(ended[-1], Result)


@pytest.mark.parametrize("network", [SMALL, RESIDUAL])
def test_a_pack_resumes_from_snapshots_bit_for_bit(network: NetworkRef) -> None:
    ones = grid(network=network)[:3]
    expected = results(packed(*ones))
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 25

    runtime = Runtime(in_lanes=True)
    stopping = {f"lane{i}": {"stop": stop, "runtime": runtime} for i in range(len(ones))}
    snapshots = [rows[-1] for rows in packed(*ones, **stopping)]
    assert all(isinstance(snapshot, Snapshot) for snapshot in snapshots)
    assert {snapshot.step for snapshot in snapshots} == {9, 10}
    resuming = {
        f"lane{i}": {"resume": snapshot.data, "runtime": runtime}
        for i, snapshot in enumerate(snapshots)
    }
    for one, other in zip(expected, results(packed(*ones, **resuming)), strict=True):
        assert other.checkpoint_sha256 == one.checkpoint_sha256
        assert (other.exact, other.resumes) == (True, 1)


def test_lanes_with_other_batches_are_computed_apart() -> None:
    """A task with few images has smaller batches."""
    few = dataclasses.replace(training().target, images_per_class=2)
    small = dataclasses.replace(training(seed=1), target=few)
    ones: list[Pair] = [(training(), None), (small, None)]
    for one, other in zip(results(alone(*ones)), results(packed(*ones)), strict=True):
        assert values(other) == pytest.approx(values(one), rel=1e-3, abs=1e-5)


def test_the_seconds_of_the_lanes_add_up() -> None:
    ones = [(training(seed=seed), None) for seed in range(4)]
    watch = Stopwatch()
    with watch:
        ended = results(packed(*ones))
    spent = [sum(dataclasses.astuple(result.seconds)) for result in ended]
    assert 0 < sum(spent) <= watch()
    points = [row for rows in packed(*ones) for row in rows if isinstance(row, Evaluation)]
    assert all(math.isfinite(point.seconds) and point.seconds > 0 for point in points)
