"""Frozen layers of which parts learn: normalisation, and modules that a recipe names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.trainers.runs import first_layers, learner, state
from tests.trainings import BATCH_NORM, training
from trainers import networks
from trainers.config import NetworkRef

STATISTICS = {"running_mean", "running_var", "num_batches_tracked"}


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_normalisation_is_frozen_as_the_recipe_says(statistics: bool, affine: bool) -> None:
    """In layer 1 of BATCH_NORM, module `0` is a convolution and module `1` normalises."""
    one = training(
        *("transfer", 1), network=BATCH_NORM, frozen_statistics=statistics, frozen_affine=affine
    )
    it = learner(one)
    norm = {"weight", "bias"} if not affine else set()
    norm |= STATISTICS if not statistics else set()
    learns = {f"layer1.1.{name}" for name in norm}
    everything = first_layers(it.network, 1)
    assert it.frozen == everything - learns
    before, proof = state(it.network, 3), it.frozen_hash()
    for step in range(3):
        it.step(step, 0.1)
    it.score("validation")
    it.step(3, 0.1)
    after = it.network.state_dict()
    assert {name for name in everything if not torch.equal(before[name], after[name])} == learns
    assert it.frozen_hash() == proof != ""
    if not statistics:
        assert int(after["layer1.1.num_batches_tracked"]) == 4
    given = {id(p) for group in it.optimiser.param_groups for p in group["params"]}
    parameters = dict(it.network.named_parameters())
    assert {name for name in parameters if id(parameters[name]) not in given} == {
        name for name in parameters if name in it.frozen
    }
    # Features are kept only if an image always gives the same ones.
    assert (it.cached_layers, it.wholly_frozen) == ((1, 1) if statistics and affine else (0, 0))


def test_layers_below_one_that_learns_in_part_are_passed_once() -> None:
    """Normalisation by groups has no statistics: with frozen weights it is frozen as a whole."""

    def grouped(**_: Any) -> list[nn.Module]:
        return [
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()),
            nn.Sequential(nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten()),
            nn.Linear(256, 5),
        ]

    networks.NETWORKS["grouped"] = grouped
    try:
        ref = NetworkRef(name="grouped")
        learners = {
            (statistics, affine): learner(
                training(
                    *("random", 2),
                    network=ref,
                    frozen_statistics=statistics,
                    frozen_affine=affine,
                )
            )
            for statistics in (True, False)
            for affine in (True, False)
        }
    finally:
        del networks.NETWORKS["grouped"]
    assert {key: it.cached_layers for key, it in learners.items()} == {
        (True, True): 2,
        (False, True): 2,
        (True, False): 1,
        (False, False): 1,
    }
    assert learners[True, False].frozen >= {"layer2.0.weight", "layer2.0.bias", "layer1.0.weight"}
    assert "layer2.1.weight" not in learners[True, False].frozen
