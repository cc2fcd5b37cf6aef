"""Sentences: their numbers, and the controls that they always state."""

from __future__ import annotations

import pytest

from orchestrator.report.sentences import sentences_of
from orchestrator.report.wording import points
from tests.synthetic import Label, Synthetic, digits


def sentences(sweep: Synthetic) -> list[str]:
    stats = sweep.statistics()
    of_gap = stats.by("train_gap")
    included, gaps = (
        [row for row in x.effects.to_pylist() if row["at_chance"] == "included"]
        for x in (stats, of_gap)
    )
    levels, speeds = stats.levels.to_pylist(), stats.speeds.to_pylist()
    return sentences_of(included, levels, speeds, gaps, of_gap.levels.to_pylist())


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


def test_sentences_name_the_metric() -> None:
    stats = digits(noise=0.0).statistics()
    effects = [row for row in stats.effects.to_pylist() if row["at_chance"] == "included"]
    levels = [row | {"metric": "balanced_accuracy"} for row in stats.levels.to_pylist()]
    texts = sentences_of(effects, levels, [])
    assert "87.5 % balanced test accuracy" in texts[0]
    assert "frozen (AnB), balanced test accuracy changes by" in texts[1]
    assert "untrained random filters change balanced test accuracy by −52.1." in texts[2]


def with_training(sweep: Synthetic) -> Synthetic:
    """Bases over-fit by 10 points, frozen transfers too, and fine-tuned ones by 4 to 8."""
    trials = []
    for member, trial in zip(sweep.members, sweep.trials, strict=True):
        gap = 0.1
        if member["treatment"] == "transfer" and not member["frozen"]:
            gap = 0.02 + 0.02 * member["n"] + 0.002 * int(member["split"][1])
        trials.append({**trial, "train_top1": trial["top1"] + gap})
    sweep.trials = trials  # type: ignore[assignment]
    return sweep


def test_overfitting_is_told_with_its_interval() -> None:
    """The gaps of four splits are 0, 0.2, 0.4 and 0.6 points apart: the interval is ±0.41."""
    sweep = with_training(digits(noise=0.0, layers=(1, 3)))
    (text,) = (text for text in sentences(sweep) if text.startswith("Over-fitting"))
    assert text == (
        "Over-fitting, training less test top-1, is 10.0 points in the bases. With all layers "
        "fine-tuned (AnB+), it changes by −5.7 [−6.1, −5.3] at n = 1 and by −1.7 [−2.1, −1.3] at "
        "n = 3; the simultaneous interval lies below zero at n = 1 and 3 and above zero at no n. "
        "With the first n layers frozen (AnB), it changes by +0.0 [+0.0, +0.0] at n = 1 and by "
        "+0.0 [+0.0, +0.0] at n = 3; the simultaneous interval lies below zero at no n and above "
        "zero at no n. With longer training (base_long), it changes by +0.0 [+0.0, +0.0]."
    )


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


# Stitched networks ------------------------------------------------------------------------------


def stitched(points: dict[tuple[str, int], float], splits: int = 4) -> str:
    """Return the sentences on networks with these differences to the own base, without noise."""
    sweep = Synthetic()
    for split in (f"s{seed}" for seed in range(splits)):
        for target in "AB":
            sweep.add(Label(split=split, target=target, treatment="base"), 0.9)
            for (treatment, n), point in points.items():
                label = Label(split=split, target=target, treatment=treatment, n=n, frozen=True)
                sweep.add(label, 0.9 + point / 100)
    return "\n".join(sentences(sweep))


def test_stitched_sentences_say_what_is_lost() -> None:
    text = stitched(
        {
            ("selffer", 1): 0.0,
            ("transfer", 1): -4.0,
            ("selffer", 2): 0.0,
            ("transfer", 2): 0.0,
            ("stitched_self", 2): 0.0,
            ("stitched", 2): -9.0,
            ("selffer", 3): -8.0,
            ("transfer", 3): -20.0,
            ("stitched_self", 1): 0.0,
            ("stitched", 1): 0.0,
            ("stitched_self", 3): -2.0,
            ("stitched", 3): -20.0,
        }
    )
    assert (
        "Stitched to itself by a linear map that learns (Bn|B), a base ends −2.0 to +0.0 points "
        "against itself; the simultaneous interval lies below zero at n = 3. There coordinates are "
        "lost and no information is, since the identity would restore the base.\n"
    ) in text
    assert (
        "Behind the same frozen layers, the base's own upper layers and a map (Bn|B) end +0.0 to "
        "+6.0 points against new upper layers (BnB); the simultaneous interval lies above zero at "
        "n = 3. So the broken co-adaptation at n = 3 is no lost information: layer n still has "
        "what the old upper layers need, and new ones do not learn to use it.\n"
    ) in text
    assert text.endswith(
        "With the first n layers from the other half in their place (An|B), stitched networks lose "
        "+0.0 to +18.0 points more than stitched to themselves; the simultaneous interval lies "
        "above zero at n = 2 and 3. At n = 2, new upper layers (AnB) are clearly better behind the "
        "same layers: some of what is missing is there, in coordinates from which no map was "
        "found. At n = 3, AnB is clearly below BnB too, and not clearly above An|B: neither old "
        "nor new upper layers find what is missing. That information is lost to both. At n = 1, "
        "AnB is clearly below BnB and An|B is not clearly below Bn|B: lost information "
        "does not show there."
    )


def test_without_loss_nothing_is_said_to_be_lost() -> None:
    text = stitched({("stitched_self", 2): 0.0, ("stitched", 2): 0.0})
    assert "the simultaneous interval lies below zero at no n." in text
    assert "There coordinates" not in text
    assert "information" not in text
    one = stitched({("stitched_self", 2): -5.0, ("stitched", 2): -9.0}, splits=1)
    assert "interval" not in one
    assert "a base ends −5.0 points against itself." in one
