"""Datasets and networks of the user: first weights, and random numbers that they draw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.plan.plan import Plan
from tests.sweep_files import BUILD, FLOWERS, GARDEN, MODULES, forget_own_code

pytestmark = pytest.mark.usefixtures("new_process")


# Of the version that gave every network the first weights of He; `init: he` still means these.
GOLDEN = {"A wild": "59704c53c4d1ef37", "A1B+ wild": "56db3c1dc5fce18e"}


@pytest.mark.usefixtures("garden")
def test_own_networks_keep_their_weights_unless_the_sweep_names_others(
    plan_of: Callable[..., Plan],
) -> None:
    def inits(*changes: str) -> set[str]:
        return {trial.training.recipe.init for trial in plan_of(GARDEN, *changes).members}

    assert inits() == {"network"}
    assert inits("fine_tune.recipe.steps=4") == {"network"}
    assert inits("recipe.init=torch", "fine_tune.recipe.steps=4") == {"torch"}
    assert inits("target_network={name: 'garden.nets:build', width: 4}") == {"network"}
    grids = "grids={one: {}, two: {recipe: {steps: 5}}, three: {recipe: {init: torch}}}"
    assert inits(grids) == {"network", "torch"}
    assert inits("network=conv8") == {"he"}
    assert inits("network={conv: [2], pool: [], fc: []}") == {"he"}
    he = {trial.name: trial.id for trial in plan_of(GARDEN, "recipe.init=he").members}
    assert {name: he[name] for name in GOLDEN} == GOLDEN


@pytest.mark.parametrize(
    ("build", "changes", "line"),
    [
        (BUILD, [], "network): as the function returns them, drawn anew for every seed and task"),
        (BUILD, ["recipe.init=he"], "he): layerwise sets them, and replaces those that the"),
        (
            BUILD.replace("    return", "    import torch\n    torch.manual_seed(1)\n    return"),
            [],
            "network): as the function returns them, the same for every seed and task",
        ),
    ],
)
def test_check_says_where_first_weights_come_from(
    build: str,
    changes: list[str],
    line: str,
    garden: Path,
    folder: Path,
    layerwise: Callable[..., Any],
) -> None:
    (garden / "nets.py").write_text(build)
    (folder / "garden.yaml").write_text(GARDEN)
    sets = [part for change in changes for part in ("--set", change)]
    code, out, err = layerwise("check", "garden.yaml", *sets)
    assert (code, err) == (0, "")
    assert f"first weights of garden.nets:build (init: {line}" in out


UNSEEDED = FLOWERS.replace("np.random.RandomState(0)", "np.random")


def test_a_dataset_that_draws_from_global_generators_is_the_same_in_every_process(
    garden: Path, plan_of: Callable[..., Plan]
) -> None:
    (garden / "data.py").write_text(UNSEEDED)
    first = set(plan_of(GARDEN).trials)
    np.random.rand()  # noqa: NPY002
    forget_own_code(*MODULES)
    assert set(plan_of(GARDEN).trials) == first


@pytest.mark.parametrize(
    ("file", "text", "place", "reason"),
    [
        (
            "data.py",
            UNSEEDED.replace("np.random\n", "np.random.default_rng()\n").replace(
                "randint", "integers"
            ),
            "2: dataset",
            "dataset garden.data:flowers: two calls with equal seeds give different data; draw",
        ),
        (
            "nets.py",
            BUILD.replace("    return", "    width += next(calls)\n    return")
            .replace("from torch", "import itertools\n\nfrom torch")
            .replace("\n\n\n", "\n\ncalls = itertools.count()\n\n\n", 1),
            "3: network",
            "two calls with equal seeds give different weights or shapes: draw from the global",
        ),
        (
            "nets.py",
            BUILD.replace("    return", "    width += random.randrange(1000)\n    return").replace(
                "from torch", "import random\nfrom torch"
            ),
            "3: network",
            "the seed changes the shapes of weights: give each layer one size",
        ),
    ],
)
def test_check_calls_functions_twice(
    file: str,
    text: str,
    place: str,
    reason: str,
    garden: Path,
    folder: Path,
    layerwise: Callable[..., Any],
) -> None:
    (garden / file).write_text(text)
    (folder / "garden.yaml").write_text(GARDEN)
    code, _, err = layerwise("check", "garden.yaml")
    assert code == 2
    assert err.startswith(f"garden.yaml:{place}: ")
    assert reason in err
