"""Linear CKA, against public implementations, by hand, and by what it must not depend on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import formulas
from trainers.datasets import DataError
from trainers.similarity import cka, debiased_cka

Similarity = Callable[[torch.Tensor, torch.Tensor], float]
FORMULAS: dict[str, Similarity] = {"cka": cka, "debiased_cka": debiased_cka}
ENTRIES = formulas.recorded(*FORMULAS)


@pytest.mark.parametrize("entry", ENTRIES, ids=formulas.label)
def test_it_is_what_public_implementations_return(entry: dict[str, Any]) -> None:
    x, y = (torch.from_numpy(formulas.given(entry["input"], key)) for key in ("features", "others"))
    assert FORMULAS[entry["formula"]](x, y) == pytest.approx(entry["value"], abs=1e-9)


def test_two_or_more_implementations_are_recorded_for_each_input() -> None:
    keys = [(entry["formula"], entry["input"]) for entry in ENTRIES]
    assert {key: keys.count(key) for key in keys} == {
        ("cka", "tall"): 2,
        ("cka", "wide"): 2,
        ("debiased_cka", "tall"): 3,
        ("debiased_cka", "wide"): 3,
    }


def test_by_hand() -> None:
    x = torch.tensor([[1.0], [-1.0], [0.0], [0.0]])
    y = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    # ‖Xᵀ Y‖² = 4, ‖Xᵀ X‖ = 2, ‖Yᵀ Y‖ = √8
    assert cka(x, y) == pytest.approx(4 / (2 * 8**0.5), abs=1e-15)
    # all Σ K L without diagonals: K has −1 at (1, 2), L also at (3, 4); Song et al.:
    # tr K L + 1ᵀ K 1 1ᵀ L 1 / 6 − 1ᵀ K L 1 = 2 + 8/6 − 2, 2 + 4/6 − 2, 4 + 16/6 − 4
    assert debiased_cka(x, y) == pytest.approx((8 / 6) / ((4 / 6) * (16 / 6)) ** 0.5, abs=1e-14)


@pytest.mark.parametrize("similarity", FORMULAS.values())
@pytest.mark.parametrize(("images", "wide"), [(40, 3), (12, 30)])
@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
def test_it_depends_on_no_rotation_scale_shift_or_order(
    similarity: Similarity, images: int, wide: int, seed: int, scale: float, shift: float
) -> None:
    random = np.random.default_rng(seed)
    x, y = (torch.from_numpy(random.normal(size=(images, f))) for f in (wide, 4))
    turn = torch.linalg.qr(torch.from_numpy(random.normal(size=(wide, wide)))).Q
    order = torch.from_numpy(random.permutation(images))
    same = similarity(x, y)
    assert similarity(scale * x @ turn + shift, y) == pytest.approx(same, abs=1e-8)
    assert similarity(x[order], y[order]) == pytest.approx(same, abs=1e-8)
    assert similarity(y, x) == pytest.approx(same, abs=1e-12)
    assert similarity(x, x @ turn) == pytest.approx(1, abs=1e-8)
    assert similarity(x, -2 * x) == pytest.approx(1, abs=1e-8)
    assert similarity(x.float(), y.float()) == pytest.approx(same, abs=1e-5)


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_its_bounds(seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = (torch.from_numpy(random.normal(size=(8, f))) for f in (2, 20))
    assert 0 <= cka(x, y) <= 1
    assert -1 <= debiased_cka(x, y) <= 1


def test_unrelated_features_of_few_images_are_similar_unless_the_estimate_is_unbiased() -> None:
    random = np.random.default_rng(0)
    pairs = [torch.from_numpy(random.normal(size=(2, 20, 200))) for _ in range(50)]
    assert np.mean([cka(*pair) for pair in pairs]) == pytest.approx(0.91, abs=0.01)
    assert np.mean([debiased_cka(*pair) for pair in pairs]) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("similarity", FORMULAS.values())
def test_constant_features_share_no_variation(similarity: Similarity) -> None:
    x, constant = torch.randn(9, 3, generator=torch.manual_seed(0)), torch.full((9, 5), 0.1)
    assert similarity(x, constant) == similarity(constant, x) == similarity(constant, constant) == 0


def test_features_that_differ_for_one_image_only_say_nothing_without_the_diagonal() -> None:
    x, one = torch.randn(9, 3, generator=torch.manual_seed(0)), torch.eye(9)[:, :1]
    assert debiased_cka(one, one) == debiased_cka(x, one) == 0
    assert cka(one, one) == 1


@pytest.mark.parametrize(
    ("similarity", "x", "y", "message"),
    [
        (cka, torch.ones(3, 2), torch.ones(4, 2), r"\(3, 2\) and \(4, 2\) cannot be compared"),
        (
            cka,
            torch.ones(3, 2, 2),
            torch.ones(3, 2),
            r"cannot be compared: expected \(images, features\)",
        ),
        (cka, torch.ones(1, 2), torch.ones(1, 2), "features of 1 images .* expected 2"),
        (debiased_cka, torch.ones(3, 2), torch.ones(3, 2), "features of 3 images .* expected 4"),
        (cka, torch.ones(3, 2), torch.full((3, 2), torch.nan), "the network diverged"),
    ],
)
def test_bad_features(
    similarity: Similarity, x: torch.Tensor, y: torch.Tensor, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        similarity(x, y)
