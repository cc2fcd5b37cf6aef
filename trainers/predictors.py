"""Predictors of transferability: scores of a source's features on a task, without any training.

Higher is better for each, for one task; scores of different tasks do not compare. Inputs are arrays
or CPU tensors of the same N images; all is computed as float64. Each raises `DataError` for fewer
than two images or classes, and for values that are not finite. `PREDICTORS` names them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch

from trainers.datasets import DataError

Array = np.ndarray | torch.Tensor
SMALL = 1e-5  # added to the denominators of LogME, as the authors' code does
TOLERANCE = 1e-3  # relative change of alpha/beta at which LogME ends
MOST_STEPS = 11  # of LogME
DISTANCES = 2**24  # distances between images that are computed at once


def logme(features: Array, labels: Array) -> float:
    """Return the log of the maximum evidence of features (N, F) per image, averaged over classes.

    The evidence is that of linear regression on the 0/1 label of a class, with no intercept, with
    the best precisions alpha of weights and beta of noise (You et al. 2021), found by the
    fixed-point iteration of You et al. 2022. `SMALL`, `TOLERANCE` and `MOST_STEPS` are those
    of the authors' code, so that features without information have a score, that of no weights.
    `SMALL` makes the score fall with the scale of features beyond some 10 per number.

    The authors' faster code counts F/2 log alpha for only min(N, F) singular values, which is too
    high where F > N. Here each singular value has its own log alpha, as the evidence has.
    """
    x, y = _checked(features, labels)
    left, singular, _ = np.linalg.svd(x, full_matrices=False)
    positive = singular > singular[0] * max(x.shape) * np.finfo(float).eps
    left, variances = left[:, positive], singular[positive] ** 2
    return float(np.mean([_evidence(left, variances, y == label) for label in np.unique(y)]))


def _evidence(left: np.ndarray, variances: np.ndarray, is_class: np.ndarray) -> float:
    target, n = is_class.astype(float), len(is_class)
    projected = (left.T @ target) ** 2
    outside = target.sum() - projected.sum()
    alpha = beta = 1.0
    for _ in range(MOST_STEPS):
        ratio = alpha / beta
        lost = ratio / (variances + ratio)
        fitted = (variances / (variances + ratio)).sum()  # the number of effective weights
        weights = (projected * variances / (variances + ratio) ** 2).sum()  # ‖m‖²
        residual = (projected * lost**2).sum() + outside  # ‖F m − y‖²
        alpha = fitted / (weights + SMALL)
        beta = (n - len(lost) + lost.sum()) / (residual + SMALL)
        if abs(alpha / beta - ratio) <= TOLERANCE * ratio:
            break
    evidence = n * np.log(beta / (2 * np.pi)) - np.log1p(variances / (alpha / beta)).sum()
    return float(evidence - beta * residual - alpha * weights) / (2 * n)


def h_score(features: Array, labels: Array) -> float:
    """Return tr(cov(f)⁻¹ cov(E[f | y])) of features f (N, F), 0..C − 1 (Bao et al. 2019).

    It is the sum of squared canonical correlations of features and classes. With as many features
    as images any features reach C − 1: use `regularised_h_score`. The inverse is over directions
    that vary: 0 for constant features. Public code inverts with a cutoff of 1e-15, where rounding
    errors count as variation.
    """
    _, between = _variation(*_checked(features, labels))
    return float(between.sum())


def regularised_h_score(features: Array, labels: Array) -> float:
    """Return the H-score with the covariance shrunk by s: tr(cov_s(f)⁻¹ (1 − s) cov(E[f | y])).

    cov_s = (1 − s) cov + s tr(cov)/F I, with the s of Ledoit and Wolf 2004 (Ibrahim et al.
    2022). As in public code, cov_s divides by N and cov(E[f | y]) by N − 1. 0 for constant
    features.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    x, y = _checked(features, labels)
    singular, between = _variation(x, y)
    shrinkage, n = float(ledoit_wolf_shrinkage(_centred(x), assume_centered=True)), len(x)
    shrunk = (1 - shrinkage) * singular**2 / n
    shrunk += shrinkage * (singular**2).sum() / n / x.shape[1]
    return float((between * (1 - shrinkage) * singular**2 / (n - 1) / shrunk).sum())


def _variation(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return singular values (K,) of centred features, and shares (K,) of variance between classes.

    Each share is that of one direction. Directions without variance are left out.
    """
    left, singular, _ = np.linalg.svd(_centred(x), full_matrices=False)
    varies = singular > singular[0] * max(x.shape) * np.finfo(float).eps
    left = left[:, varies]
    between = [(y == label).sum() * left[y == label].mean(0) ** 2 for label in np.unique(y)]
    return singular[varies], np.sum(between, axis=0)


def leep(probabilities: Array, labels: Array) -> float:
    """Return the log expected empirical prediction of a source's probabilities (N, Z), at most 0.

    Mean over images of log Σ_z P(y | z) θ(x)_z, where P(y, z) is the mean of θ(x)_z over the images
    of class y (Nguyen et al. 2020, equation 2). A source class of no probability counts nothing.
    Raises `DataError` for rows that are no probabilities.
    """
    theta, y = _checked(probabilities, labels)
    if theta.min() < 0 or not np.allclose(theta.sum(1), 1, atol=1e-4):
        raise DataError("LEEP needs probabilities of the source's classes, with sum 1 per image")
    classes, y = np.unique(y, return_inverse=True)
    joint = np.eye(len(classes))[y].T @ theta
    total = joint.sum(0)
    conditional = np.divide(joint, total, out=np.zeros_like(joint), where=total > 0)
    return float(np.log((conditional[y] * theta).sum(1)).mean())


def nce(source_labels: Array, labels: Array) -> float:
    """Return −H(Y | Z) of labels Y given the source's labels Z (N,), at most 0 (Tran et al. 2019).

    Z is the source's most probable class for each image. In nats.
    """
    from scipy.stats import entropy

    z, y = _checked(np.asarray(source_labels)[:, None], labels)
    _, of_sources = np.unique(z, return_counts=True)
    _, of_pairs = np.unique(np.stack([z[:, 0], y]), axis=1, return_counts=True)
    return float(entropy(of_sources) - entropy(of_pairs))  # H(Z) − H(Z, Y)


def parc(features: Array, labels: Array) -> float:
    """Return Spearman's correlation of two distances over all pairs of images, −1..1.

    1 − Pearson's correlation of standardised features (N, F), and the same of one-hot labels
    (Bolya et al. 2021; their code reports 100 times it). An image whose standardised features are
    all equal correlates with no other. 0 where all pairs are equally far. Memory grows with N².

    All pairs of one class are equally far, and so are all pairs of two. In public code rounding
    errors break these ties for most numbers of classes, which moves the value by some 0.01.
    """
    from scipy.stats import spearmanr

    x, y = _checked(features, labels)
    x = _centred(x)
    deviations = np.sqrt((x**2).mean(0))
    x = x / np.where(deviations > 0, deviations, 1.0)
    varies = x.max(1, keepdims=True) > x.min(1, keepdims=True)
    x = np.where(varies, x - x.mean(1, keepdims=True), 0.0)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    x = x / np.where(norms > 0, norms, 1.0)
    pairs = np.triu_indices(len(x), 1)
    distances, differs = -np.round(x @ x.T, 12)[pairs], (y[:, None] != y)[pairs]
    if distances.min() == distances.max() or differs.all():
        return 0.0
    return float(spearmanr(distances, differs).statistic)


def knn_accuracy(features: Array, labels: Array, k: int = 1) -> float:
    """Return the share of images whose k nearest other images vote for their class, 0..1.

    Euclidean distances of features (N, F); one neighbour, as the baseline of Bolya et al. 2021. Of
    classes with equally many votes the first one wins. All other images vote if they are fewer.
    """
    x, y = _checked(features, labels)
    classes, y = np.unique(y, return_inverse=True)
    vectors, k = torch.from_numpy(_centred(x)), min(k, len(x) - 1)
    correct, rows = 0, max(1, DISTANCES // len(x))
    for first in range(0, len(x), rows):
        distances = torch.cdist(vectors[first : first + rows], vectors)
        distances.diagonal(first).fill_(torch.inf)
        nearest = y[distances.topk(k, largest=False).indices.numpy()]
        votes = (nearest[:, :, None] == np.arange(len(classes))).sum(1)
        correct += int((votes.argmax(1) == y[first : first + rows]).sum())
    return correct / len(x)


class Predictor(NamedTuple):
    """A score of a source on a task."""

    score: Callable[[Array, Array], float]
    """Takes the source's outputs and the labels of the task."""
    of: Literal["features", "probabilities", "classes"]
    """The source's outputs: of a layer (N, F), for its own classes (N, Z), or the class of the
    highest probability (N,)."""


PREDICTORS = {
    "logme": Predictor(logme, "features"),
    "h_score": Predictor(h_score, "features"),
    "regularised_h_score": Predictor(regularised_h_score, "features"),
    "parc": Predictor(parc, "features"),
    "knn_accuracy": Predictor(knn_accuracy, "features"),
    "leep": Predictor(leep, "probabilities"),
    "nce": Predictor(nce, "classes"),
}


def _checked(outputs: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(outputs, dtype=np.float64), np.asarray(labels)
    if x.ndim != 2 or x.shape[1] == 0 or y.shape != (len(x),):
        raise DataError(f"outputs {x.shape} do not fit labels {y.shape}: expected (N, F) and (N,)")
    if len(x) < 2:
        raise DataError(f"a predictor needs two images, there are {len(x)}")
    if not np.isfinite(x).all():
        raise DataError("outputs that are not finite predict nothing: the network diverged")
    if len(np.unique(y)) < 2:
        raise DataError(f"a predictor needs images of two classes, all {len(y)} are of one")
    return x, y


def _centred(x: np.ndarray) -> np.ndarray:
    """Return features less their means. The mean of equal numbers may differ in the last bit."""
    return np.asarray(np.where(x.max(0) > x.min(0), x - x.mean(0), 0.0))
