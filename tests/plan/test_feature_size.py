"""Size of features before they are computed: the numbers that the worker finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import LayerwiseError
from orchestrator.execution.check import try_treatments
from orchestrator.plan.feature_size import feature_bytes
from orchestrator.plan.plan import Plan
from orchestrator.plan.resolve import resolve
from orchestrator.sweep.load import load_sweep
from trainers import feature_classifier

PlanOf = Callable[..., Plan]

SWEEP = """\
name: sized
dataset: {name: digits, canvas: 12, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 3], pool: [1], fc: [4]}
splits: {random: [0]}
treatments: [base, transfer, pixels]
layers: [1, 2, 3]
images_per_class: [5]
recipe: {steps: 3, batch: 6, classifier: {kind: svm, pool: none}}
"""
IMAGES = 5 * (5 + 2 + 3)


@pytest.mark.parametrize(
    ("pool", "values"),
    [
        ("none", {0: 144, 1: 2 * 36, 2: 3 * 36, 3: 4}),
        ("average", {0: 144, 1: 2, 2: 3 * 36, 3: 4}),
    ],
)
def test_numbers_per_image_by_hand(pool: str, values: dict[int, int], plan_of: PlanOf) -> None:
    """Layer 2 is the last convolution: its output is flat, so that nothing is left to pool."""
    plan = plan_of(SWEEP, f"recipe.classifier.pool={pool}")
    fitted = [trial for trial in plan.members if trial.training.recipe.classifier]
    found = {trial.training.treatment.n: feature_bytes(plan, trial) for trial in fitted}
    assert found == {n: 4 * IMAGES * size for n, size in values.items()}
    assert {feature_bytes(plan, trial) for trial in plan.members if trial not in fitted} == {0}


def test_the_pixels_are_those_of_the_crop(plan_of: PlanOf) -> None:
    plan = plan_of(SWEEP, "recipe.crop=8")
    pixels = next(trial for trial in plan.members if trial.treatment_name == "pixels")
    assert feature_bytes(plan, pixels) == 4 * IMAGES * 64


def test_check_refuses_what_the_disk_cannot_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sized.yaml"
    path.write_text(SWEEP)
    monkeypatch.setattr(feature_classifier, "MOST_BYTES", 1000)
    free = type("Free", (), {"free": 20_000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    with pytest.raises(LayerwiseError, match=r"^A pixels s0 k5: its features are 0\.0 GB, and /"):
        try_treatments(resolve(*load_sweep(str(path))))
