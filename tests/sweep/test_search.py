"""The models of a search: keys and values that they refuse."""

from __future__ import annotations

import pytest

from tests.searches import SEARCHED
from tests.sweep_files import mistakes

pytestmark = pytest.mark.usefixtures("folder")

WRONG: list[tuple[str, str]] = [
    ("trails=3", "unknown key 'trails'; did you mean 'trials'?"),
    ("trials=0", "expected x ≥ 1, found 0"),
    ("sampler=grid", 'expected one of tpe, random, qmc, found "grid"'),
    ("pruner=asha", 'expected one of median, hyperband, none, found "asha"'),
    ("objective=top1", 'expected one of val_top1, found "top1"'),
    ("splits=[-1]", "expected x ≥ 0, found -1"),
    ("space.rat=1", "unknown key 'rat'; did you mean 'rate'?"),
    ("space.rate=fast", 'expected a range such as [0.01, 1], or a number, found "fast"'),
    ("space.rate=[1, 0.1]", "expected a range such as [0.01, 1], or a number, found [1, 0.1]"),
    ("space.rate=0", "expected 1e-12 ≤ x ≤ 1e+06, found [0.0, 0.0]"),
    ("space.layer_decay=[0.5, 2]", "expected 0.001 ≤ x ≤ 1, found [0.5, 2.0]"),
    ("space.restarts=[0, 1.5]", "expected whole numbers, found [0.0, 1.5]"),
    (
        "space.weight_decay=[0, 1]",
        "expected a range above 0, which is drawn on a log scale",
    ),
    ("space.family=[]", "expected at least one family, none of them twice"),
    ("space.family=[cosin]", "expected one of constant, step, multi_step, cosine, linear, "),
]


@pytest.mark.parametrize(("change", "reason"), WRONG)
def test_a_mistake_names_its_key(change: str, reason: str) -> None:
    key = f"fine_tune.search.{change.partition('=')[0]}"
    [line] = mistakes(SEARCHED, f"fine_tune.search.{change}")
    assert key in line
    assert reason in line
