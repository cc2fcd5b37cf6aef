"""The models of a search: keys and values that they refuse."""

from __future__ import annotations

import pytest

from tests.searches import SEARCHED
from tests.sweep_files import assert_mistake, mistakes

pytestmark = pytest.mark.usefixtures("folder")

RANGE = "expected a range such as [0.01, 1], or a number, found "

# Settings of the search, the key that a message names, part of the reason.
CASES: list[tuple[str, str, str]] = [
    ("trails: 3", "trails", "unknown key 'trails'; did you mean 'trials'?"),
    ("trials: 0", "trials", "expected x ≥ 1, found 0"),
    ("sampler: grid", "sampler", 'expected one of tpe, random, qmc, found "grid"'),
    ("pruner: asha", "pruner", 'expected one of median, hyperband, none, found "asha"'),
    ("objective: top1", "objective", 'expected one of val_top1, found "top1"'),
    ("splits: [-1]", "splits[0]", "expected x ≥ 0, found -1"),
    ("space: {rat: 1}", "space.rat", "unknown key 'rat'; did you mean 'rate'?"),
    ("space: {rate: fast}", "space.rate", f'{RANGE}"fast"'),
    ("space: {rate: [1, 0.1]}", "space.rate", f"{RANGE}[1, 0.1]"),
    ("space: {rate: 0}", "space.rate", "expected 1e-12 ≤ x ≤ 1e+06, found [0.0, 0.0]"),
    (
        "space: {layer_decay: [0.5, 2]}",
        "space.layer_decay",
        "expected 0.001 ≤ x ≤ 1, found [0.5, 2.0]",
    ),
    ("space: {restarts: [0, 1.5]}", "space.restarts", "expected whole numbers, found [0.0, 1.5]"),
    (
        "space: {weight_decay: [0, 1]}",
        "space.weight_decay",
        "expected a range above 0, which is drawn on a log scale",
    ),
    ("space: {family: []}", "space.family", "expected at least one family, none of them twice"),
    (
        "space: {family: [cosin]}",
        "space.family[0]",
        "expected one of constant, step, multi_step, cosine, linear, ",
    ),
]


@pytest.mark.parametrize(("setting", "key", "reason"), CASES)
def test_a_mistake_names_line_and_key(setting: str, key: str, reason: str) -> None:
    *lines, last = SEARCHED.splitlines()
    number, text = len(lines) + 1, "\n".join([*lines, f"  search: {{{setting}}}\n"])
    assert "search:" in last
    assert_mistake(mistakes(text), f"bad.yaml:{number}: fine_tune.search.{key}", reason)
