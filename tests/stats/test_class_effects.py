"""What frozen transfer costs each class."""

from __future__ import annotations

import pytest
from scipy import stats

from orchestrator.stats.class_effects import CLASS_EFFECTS
from orchestrator.store.schemas import to_table
from tests.synthetic import Label, Synthetic, blank

CORRECT = {  # split, treatment: correct test images of classes 3 and 7, of ten
    ("s0", "base"): (10, 8),
    ("s0", "transfer"): (6, 8),
    ("s1", "base"): (10, 6),
    ("s1", "transfer"): (8, 7),
}


def test_each_class_is_compared_with_the_base_of_its_cell() -> None:
    sweep, rows = Synthetic(), []
    for (split, treatment), correct in CORRECT.items():
        frozen = treatment == "transfer"
        label = Label(split=split, target="A", treatment=treatment, n=2 * frozen, frozen=frozen)
        id = sweep.add(label, 0.5)
        for index, count in zip((3, 7), correct, strict=True):
            counts = {"class_index": index, "correct": count, "total": 10}
            rows.append(blank("classes") | {"id": id, "subset": "test"} | counts)
            rows.append(blank("classes") | {"id": id, "subset": "validation"} | counts)
    sweep.add(Label(split="s2", target="A", treatment="transfer", n=2, frozen=True), 0.5)
    table = sweep.statistics(to_table("classes", rows)).class_effects
    assert table.schema.names == CLASS_EFFECTS.names
    first, second = table.to_pylist()
    interval = stats.ttest_1samp([-0.4, -0.2], 0).confidence_interval()
    assert (first["class_index"], first["n"], first["n_splits"]) == (3, 2, 2)
    assert first["difference"] == pytest.approx(-0.3)
    assert (first["low"], first["high"]) == pytest.approx(tuple(interval))
    assert (first["base"], first["transfer"]) == pytest.approx((1.0, 0.7))
    assert (second["class_index"], second["n_networks"]) == (7, 2)
    assert second["difference"] == pytest.approx(0.05)


def test_one_split_has_no_interval_and_nothing_has_no_rows() -> None:
    sweep = Synthetic()
    base = sweep.add(Label(split="s0", target="A", treatment="base"), 0.5)
    copied = Label(split="s0", target="A", treatment="transfer", n=1, frozen=True)
    ids = (base, sweep.add(copied, 0.5))
    counts = {"subset": "test", "class_index": 0, "correct": 1, "total": 2}
    rows = [blank("classes") | {"id": id} | counts for id in ids]
    (row,) = sweep.statistics(to_table("classes", rows)).class_effects.to_pylist()
    assert [row[name] for name in ("difference", "se", "low", "high")] == [0, None, None, None]
    assert sweep.statistics().class_effects.num_rows == 0
