"""Advice on layers to keep, against numbers worked out by hand and against simulations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

from orchestrator.report.advised import cells, sentences
from orchestrator.stats.advice import Advice, Comparison, units_needed
from tests.synthetic import Label, Synthetic

SPENT = {"seconds_train": 10.0, "seconds_wait": 2.0, "peak_memory_bytes": 5 * 10**6, "images": 320}


def sweep(
    base: Sequence[float],
    frozen: dict[int, Sequence[float]],
    tuned: dict[int, Sequence[float]] | None = None,
    **facts: Any,
) -> Synthetic:
    """Values by draw: of the base, and of the transfers for each n."""
    rows = Synthetic()
    for treatment, is_frozen, by_n in (
        ("base", False, {0: base}),
        ("transfer", True, frozen),
        ("transfer", False, tuned or {}),
    ):
        for n, values in by_n.items():
            for draw, value in enumerate(values):
                label = Label(
                    split=f"d{draw}",
                    target="B",
                    treatment=treatment,
                    n=n,
                    frozen=is_frozen,
                    division="wide to small",
                )
                rows.add(label, value, **(SPENT | facts))
    return rows


def advice(rows: Synthetic, margin: float = 0.01) -> Advice:
    (answer,) = rows.statistics().advice(margin)
    return answer


def verdicts(answer: Advice) -> list[tuple[int, str]]:
    return [(loss.n, loss.verdict) for loss in answer.losses]


TUNED = (0.90, 0.92, 0.91, 0.93)


def less(values: Sequence[float], *losses: float) -> list[float]:
    return [value - loss for value, loss in zip(values, losses, strict=True)]


def test_the_largest_n_whose_loss_is_under_the_margin() -> None:
    # Losses at n = 1: 0.002, 0.004, 0.006, 0.004: mean 0.004, sd 0.00163, se 0.000816.
    # Upper bound: 0.004 + 2.3534 · 0.000816 = 0.00592 < 0.01. At n = 2 the mean is 0.055.
    rows = sweep(
        less(TUNED, 0.1, 0.1, 0.12, 0.1),
        {
            1: less(TUNED, 0.002, 0.004, 0.006, 0.004),
            2: less(TUNED, 0.05, 0.05, 0.05, 0.07),
            3: less(TUNED, 0.0, 0.0, 0.001, 0.0),
        },
        {1: less(TUNED, 0.001, 0.001, 0.001, 0.002), 2: TUNED},
    )
    answer = advice(rows)
    assert verdicts(answer) == [(1, "keeps"), (2, "loses")]  # and n = 3 is never tested
    first = answer.losses[0]
    assert first.mean == pytest.approx(0.004)
    assert first.upper == pytest.approx(0.004 + student.ppf(0.95, 3) * 0.0016329931619 / 2)
    assert (first.units, first.needed, answer.unit) == (4, None, "draw")
    assert answer.frozen is not None
    assert (answer.frozen.n, answer.best.arm, answer.best.n) == (1, "AnB+", 2)
    assert answer.frozen.value == pytest.approx(np.mean(TUNED) - 0.004)
    assert (answer.frozen.seconds, answer.frozen.memory_bytes) == (12.0, 5e6)
    assert answer.tuned is not None
    assert (answer.tuned.n, answer.equals) == (2, ())  # n = 1 is worse by 0.001 to 0.002
    assert answer.gain is not None
    assert answer.gain.mean == pytest.approx(0.105)
    text = " ".join(sentences(answer))
    assert "Of the frozen transfers, n = 3 has the highest accuracy, 91.5 %" in text
    assert "Layers 1 to 1 of wide can be kept frozen" in text
    assert "(fine-tuned, n = 2) they lose 0.4 [+0.2, +0.6] points" in text
    assert "At n = 2 the loss is 5.5 [+4.3, +6.7] points, more than the margin of 1.0" in text
    assert "Fine-tuned, n = 2 is best with 91.5 %. That is +10.5 points" in text
    assert cells(answer)[0] == ["from scratch", "81.0", "12.0", "5", "320"]


def test_cannot_tell_and_how_many_more_draws_would() -> None:
    # Losses −0.02, 0.02, −0.02, 0.02: mean 0, sd 0.0231; the gap to the margin is 0.01.
    rows = sweep(TUNED, {1: less(TUNED, -0.02, 0.02, -0.02, 0.02)}, {1: TUNED})
    answer = advice(rows)
    loss = answer.ends
    assert (loss.verdict, answer.frozen) == ("open", None)
    needed = units_needed(0.01, 0.0230940107676)
    assert loss.needed == needed == 35
    text = sentences(answer)[0]
    assert text.startswith("Cannot tell whether any layer of wide can be kept frozen within 1.0")
    assert "4 draws cannot tell whether that is within the margin; 31 more draws would" in text


def test_one_draw_cannot_tell() -> None:
    answer = advice(sweep([0.8], {1: [0.9]}, {1: [0.91]}))
    assert (answer.ends.verdict, answer.ends.lower) == ("open", None)
    first, second = sentences(answer)
    assert "one draw cannot tell; use four or more" in first
    assert "one draw gives no interval" in second


def test_frozen_layers_that_are_the_best_option_lose_nothing() -> None:
    answer = advice(sweep(less(TUNED, 0.1, 0.1, 0.1, 0.2), {1: TUNED}))
    assert verdicts(answer) == [(1, "keeps")]
    assert answer.losses[0] == Comparison(1, 0.0, 0.0, 0.0, 4, verdict="keeps")
    assert sentences(answer)[0].endswith("That is the largest n of the sweep.")
    assert len(sentences(answer)) == 1  # nothing was fine-tuned


def test_the_number_of_units_is_that_of_the_t_distribution() -> None:
    # t(0.95, 7) + t(0.8, 7) = 1.8946 + 0.8960 = 2.7906 ≤ √8 = 2.8284; for 7: 2.8489 > √7.
    assert units_needed(1.0, 1.0) == 8
    assert units_needed(0.0, 1.0) is None
    assert units_needed(1.0, 0.0) == 2


@pytest.mark.parametrize(("truth", "low", "high"), [(0.01, 0.02, 0.08), (0.0, 0.7, 0.95)])
def test_a_loss_at_the_margin_is_kept_in_one_case_of_twenty(
    truth: float, low: float, high: float
) -> None:
    """A loss equal to the margin is wrongly kept in 5 %; no loss is found with its power."""
    random = np.random.default_rng(0)
    deviation, freezing, tries = 0.01, 0, 300
    draws = units_needed(0.01, deviation)
    assert draws == 8
    for _ in range(tries):
        losses = random.normal(truth, deviation, draws)
        rows = sweep([0.5] * draws, {1: less([0.9] * draws, *losses)}, {1: [0.9] * draws})
        answer = advice(rows)
        if answer.best.arm == "AnB+":
            freezing += answer.losses[0].verdict == "keeps"
        else:  # frozen came out best, and then it loses nothing
            freezing += 1
    assert low <= freezing / tries <= high


def test_halves_are_advised_too() -> None:
    rows = Synthetic()
    for split, value in (("s0", 0.8), ("s1", 0.82), ("s2", 0.81)):
        for target in "AB":
            rows.add(Label(split=split, target=target, treatment="base"), value)
            rows.add(
                Label(split=split, target=target, treatment="transfer", n=1, frozen=True), value
            )
    answer = advice(rows)
    assert (answer.unit, verdicts(answer)) == ("split", [(1, "keeps")])
    assert answer.frozen is not None
    assert answer.frozen.seconds is not None
    assert "of the other half can be kept frozen" in sentences(answer)[0]
