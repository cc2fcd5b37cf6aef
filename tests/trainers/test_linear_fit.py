"""Linear classifiers by minibatches, beside scikit-learn's optimum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from trainers.linear_fit import fit_by_minibatches

STRENGTHS = (0.001, 0.01, 0.1)


def problem(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features (600, 20), standardised, of classes that overlap, and labels."""
    random = np.random.RandomState(0)
    labels = np.arange(600) % classes
    features = random.standard_normal((600, 20)) + random.standard_normal((classes, 20))[labels]
    features = (features - features.mean(0)) / features.std(0)
    return torch.from_numpy(features), torch.from_numpy(labels)


def objective(
    kind: str, weight: np.ndarray, bias: np.ndarray, strength: float, classes: int
) -> float:
    """Return scikit-learn's objective over C times the number of images."""
    features, labels = (x.numpy() for x in problem(classes))
    scores = features @ weight.T + bias
    if kind == "logistic":
        scores = scores if classes > 2 else np.hstack([np.zeros_like(scores), scores])
        log = np.log(np.exp(scores).sum(1)) - scores[np.arange(len(labels)), labels]
        return float(log.mean() + (weight**2).sum() / 2 / strength / len(labels))
    signs = 2 * np.eye(classes)[labels] - 1 if classes > 2 else 2.0 * labels[:, None] - 1
    hinges = (np.maximum(1 - signs * scores, 0) ** 2).sum(1)
    penalty = (weight**2).sum() + (bias**2).sum()  # LIBLINEAR penalises the bias too
    return float(hinges.mean() + penalty / 2 / strength / len(labels))


@pytest.mark.parametrize("kind", ["logistic", "svm"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_objective_is_within_one_percent_of_the_optimum(kind: str, classes: int) -> None:
    features, labels = problem(classes)
    generator = torch.Generator().manual_seed(0)
    layers = fit_by_minibatches(kind, features.float(), labels, lambda x: x, STRENGTHS, generator)
    for strength, layer in zip(STRENGTHS, layers, strict=True):
        optimum = (
            LogisticRegression(C=strength, max_iter=5000)
            if kind == "logistic"
            else LinearSVC(C=strength, max_iter=50_000, random_state=0)
        ).fit(features.numpy(), labels.numpy())
        least = objective(kind, optimum.coef_, optimum.intercept_, strength, classes)
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        reached = objective(kind, weight, bias, strength, classes)
        assert least * (1 - 1e-4) <= reached <= least * 1.01


def test_equal_generators_give_equal_classifiers() -> None:
    features, labels = problem(3)
    one, other = (
        fit_by_minibatches(
            "svm", features, labels, lambda x: x, [0.1], torch.Generator().manual_seed(3)
        )[0]
        for _ in range(2)
    )
    assert torch.equal(one.weight, other.weight)
