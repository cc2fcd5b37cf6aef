"""Similarity of the features of two layers: centred kernel alignment (CKA) with a linear kernel.

1 where one layer's features are the other's, turned, mirrored, moved or scaled; 0 where no feature
of one varies with a feature of the other. Features are compared on the same images in the same
order. All is computed as float64.
"""

from __future__ import annotations

import torch

from trainers.datasets import DataError

ROUNDING = 1e-12  # an estimate below this share of the biased one is a zero with rounding errors


def cka(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the linear CKA of features (N, F1) and (N, F2) of the same N images, 0..1.

    ‖Xᵀ Y‖² / (‖Xᵀ X‖ ‖Yᵀ Y‖) of centred features, with Frobenius norms (Kornblith et al. 2019,
    section 3). It grows with F/N for unrelated features: with few images use `debiased_cka`.

    Features that are the same for all images share no variation with others: 0, where the formula
    is 0/0. Raises `DataError` for fewer than two images and for values that are not finite.
    """
    x, y = _centred(x, y, at_least=2)
    return _ratio(_product(x, y), _product(x, x), _product(y, y))


def debiased_cka(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the linear CKA of features (N, F1) and (N, F2), with unbiased estimates of HSIC.

    About 0 for unrelated features, and at times below 0, whatever F/N (Nguyen et al. 2021,
    equations 2 and 3, with one batch of all images; Song et al. 2012). The ratio of
    unbiased estimates still has a bias, of order 1/N.

    0 where a layer's estimate with itself is 0: its features are the same for all images, or for
    all but one. Raises `DataError` for fewer than four images and for values that are not finite.
    """
    x, y = _centred(x, y, at_least=4)
    return _ratio(_unbiased(x, y), _unbiased(x, x), _unbiased(y, y))


def _centred(x: torch.Tensor, y: torch.Tensor, at_least: int) -> tuple[torch.Tensor, torch.Tensor]:
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise DataError(
            f"features of shapes {tuple(x.shape)} and {tuple(y.shape)} cannot be compared: "
            "expected (images, features) of the same images"
        )
    if len(x) < at_least:
        raise DataError(f"features of {len(x)} images cannot be compared: expected {at_least}")
    pair = []
    for one in (x.double().cpu(), y.double().cpu()):
        if not bool(torch.isfinite(one).all()):
            raise DataError("features that are not finite cannot be compared: the network diverged")
        varies = one.amax(0) > one.amin(0)  # the mean of equal numbers may differ in the last bit
        pair.append(torch.where(varies, one - one.mean(0), 0.0))
    return pair[0], pair[1]


def _product(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return ‖Xᵀ Y‖² = ⟨X Xᵀ, Y Yᵀ⟩, by whichever has the smaller matrices."""
    if len(x) > max(x.shape[1], y.shape[1]):
        return float((x.T @ y).square().sum())
    return float(((x @ x.T) * (y @ y.T)).sum())


def _unbiased(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return n (n − 3) times the unbiased HSIC of centred features.

    The rows of centred Gram matrices have sum 0. So Song's terms with the diagonals set to zero
    need the matrices' product and their diagonals only.
    """
    n, product = len(x), _product(x, y)
    of_x, of_y = x.square().sum(1), y.square().sum(1)
    estimate = product - n / (n - 2) * float(of_x @ of_y)
    estimate += float(of_x.sum() * of_y.sum()) / ((n - 1) * (n - 2))
    return 0.0 if abs(estimate) <= ROUNDING * product else estimate


def _ratio(xy: float, xx: float, yy: float) -> float:
    if xx <= 0 or yy <= 0:
        return 0.0
    ratio: float = xy / (xx**0.5 * yy**0.5)
    return ratio
