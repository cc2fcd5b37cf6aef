"""Sentences: their numbers, and the controls that they always state."""

from __future__ import annotations

import pytest

from orchestrator.report.sentences import sentences_of
from orchestrator.report.wording import points
from tests.synthetic import Label, Synthetic, digits


def sentences(sweep: Synthetic) -> list[str]:
    stats = sweep.statistics()
    included = [row for row in stats.effects.to_pylist() if row["at_chance"] == "included"]
    return sentences_of(included, stats.levels.to_pylist(), stats.speeds.to_pylist())


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.012, "+1.2"), (-0.13, "−13.0"), (0.0, "+0.0"), (-0.0004, "+0.0"), (0.0006, "+0.1")],
)
def test_points(fraction: float, text: str) -> None:
    assert points(fraction) == text


def test_sentences_of_the_whole_design() -> None:
    assert sentences(digits(noise=0.0)) == [
        "Trained from scratch, the bases reach 87.5 % test top-1 (8 networks, 4 splits).",
        "With the first n layers copied from the other half and frozen (AnB), top-1 changes by "
        "+1.6 points [+1.6, +1.6] at n = 1 and by −39.6 [−39.6, −39.6] at n = 7. The simultaneous "
        "interval lies below zero at n = 3, 4, 5, 6 and 7.",
        "At n = 7, broken co-adaptation (base − BnB) accounts for +0.5 points [+0.5, +0.5] of the "
        "loss, and specificity to the other half's classes (BnB − AnB) for +39.1 [+39.1, +39.1]; "
        "untrained random filters change top-1 by −52.1.",
        "Fine-tuned, transfer (AnB+) ends +2.9 to +4.2 points against the base, its control from "
        "the same half (BnB+) +3.3 to +5.1, and a base trained for as many steps in all "
        "(base_long) +3.5 [+3.5, +3.5]. The transfer gain (AnB+ − BnB+) is −1.1 to +0.5 points; "
        "its simultaneous interval excludes zero at n = 1, 2, 3, 4, 5, 6 and 7.",
        "Less longer training (base_long), transfer (AnB+) gains −0.6 to +0.7 points; its "
        "simultaneous interval excludes zero at n = 1, 2, 3, 4, 5, 6 and 7. Its control (BnB+) "
        "gains −0.2 to +1.6; its simultaneous interval excludes zero at n = 1, 2, 3, 4, 5, 6 and "
        "7.",
        "Half of the networks have reached the base's final validation top-1 by step 500 (base), "
        "400 (base_long), 200 (BnB+), 200 (AnB+). 40 of 56 frozen transfers (AnB) never reached "
        "it.",
    ]


def test_one_split_claims_no_interval() -> None:
    text = " ".join(sentences(digits(splits=("s0",))))
    assert "(2 networks, 1 split)" in text
    assert "[" not in text
    assert "simultaneous" not in text


def test_transfer_gain_is_never_stated_without_longer_training() -> None:
    sweep = digits()
    sweep.members = [row for row in sweep.members if row["treatment"] != "base_long"]
    text = " ".join(sentences(sweep))
    assert "transfer gain" not in text
    assert "Its control for longer training (base_long) has not been run." in text


def test_no_results_give_no_sentence() -> None:
    sweep = Synthetic()
    sweep.add(Label(split="s0", target="A", treatment="base"), None)
    assert sentences(sweep) == []
    sweep.add(Label(split="s0", target="B", treatment="base"), 0.5)
    assert sentences(sweep) == [
        "Trained from scratch, the bases reach 50.0 % test top-1 (1 network, 1 split)."
    ]
