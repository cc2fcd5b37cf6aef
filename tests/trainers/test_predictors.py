"""Predictors of transferability: public implementations, cases by hand, and definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, spearmanr
from sklearn.linear_model import BayesianRidge
from sklearn.metrics import mutual_info_score
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from tests import formulas
from trainers import predictors
from trainers.datasets import DataError
from trainers.predictors import (
    PREDICTORS,
    h_score,
    knn_accuracy,
    leep,
    logme,
    nce,
    parc,
    regularised_h_score,
)

ENTRIES = formulas.recorded(*PREDICTORS)
KEYS = {"features": "features", "probabilities": "probabilities", "classes": "source_labels"}
ON_FEATURES = [name for name, one in PREDICTORS.items() if one.of == "features"]
SEEDS = st.integers(0, 10**6)
PAIRS = np.array([0, 0, 1, 1])


def drawn(seed: int, images: int = 20, wide: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Features of three classes with means of their own, and the labels."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(images) % 3)
    means = random.normal(size=(3, wide))
    return means[labels] + random.normal(size=(images, wide)), labels


def rotation(seed: int, wide: int = 4) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(wide, wide)))[0]


@pytest.mark.parametrize("entry", ENTRIES, ids=formulas.label)
def test_it_is_what_public_implementations_return(entry: dict[str, Any]) -> None:
    predictor = PREDICTORS[entry["formula"]]
    outputs = formulas.given(entry["input"], KEYS[predictor.of])
    value = predictor.score(outputs, formulas.given(entry["input"], "labels"))
    agrees = value == pytest.approx(entry["value"], abs=1e-6)
    assert agrees == ("differs" not in entry)


def test_two_implementations_agree_for_every_predictor() -> None:
    agree = [entry["formula"] for entry in ENTRIES if "differs" not in entry]
    assert all(agree.count(name) >= 2 for name in PREDICTORS)


def test_what_the_authors_logme_has_too_much_is_alpha_for_singular_values_that_are_none() -> None:
    (entry,) = (
        e
        for e in formulas.recorded("logme")
        if (e["input"], e["implementation"]) == ("wide", "thuml/LogME")
    )
    features = formulas.given("wide", "features")
    images, wide = features.shape
    surplus = (wide - images) / (2 * images) * entry["mean_log_alpha"]
    expected = pytest.approx(entry["value"] - surplus, abs=1e-9)
    assert logme(features, formulas.given("wide", "labels")) == expected


@pytest.mark.parametrize(("name", "tolerance"), [("tall", 1e-4), ("wide", 1e-3)])
def test_logme_is_the_largest_evidence(name: str, tolerance: float) -> None:
    features, labels = (formulas.given(name, key) for key in ("features", "labels"))
    images, evidences = len(features), []
    for label in np.unique(labels):
        target = (labels == label).astype(float)

        def negative(logs: np.ndarray, target: np.ndarray = target) -> float:
            alpha, beta = np.exp(logs)
            covariance = np.eye(images) / beta + features @ features.T / alpha
            return -float(multivariate_normal(cov=covariance).logpdf(target))

        evidences.append(-minimize(negative, [0, 0], method="Nelder-Mead").fun / images)
    assert logme(features, labels) == pytest.approx(np.mean(evidences), abs=tolerance)


def test_logme_is_the_score_of_bayesian_ridge_regression() -> None:
    features, labels = drawn(3, images=90)
    priors = dict.fromkeys(("alpha_1", "alpha_2", "lambda_1", "lambda_2"), 0.0)
    ridge = BayesianRidge(fit_intercept=False, compute_score=True, tol=1e-12, **priors)
    scores = [ridge.fit(features, labels == c).scores_[-1] / len(labels) for c in range(3)]
    assert logme(features, labels) == pytest.approx(np.mean(scores), abs=1e-6)


def test_logme_of_no_features_is_that_of_noise_alone() -> None:
    beta = 4 / (2 + predictors.SMALL)  # for either class: of four images, two are 1
    expected = np.log(beta / (2 * np.pi)) / 2 - beta * 2 / 8
    assert logme(np.zeros((4, 3)), PAIRS) == pytest.approx(expected, abs=1e-15)


def test_h_scores_by_hand() -> None:
    features = np.array([[0.0], [2.0], [4.0], [6.0]])  # of the squares 20, 16 lie between classes
    assert h_score(features, PAIRS) == pytest.approx(16 / 20, abs=1e-15)
    # one feature is not shrunk; its covariance is 20/4, that of the means 16/3
    assert regularised_h_score(features, PAIRS) == pytest.approx((16 / 3) / (20 / 4), abs=1e-15)


def test_the_shrunk_h_score_by_its_definition() -> None:
    from sklearn.covariance import LedoitWolf

    features, labels = drawn(0, images=12, wide=30)
    fit = LedoitWolf().fit(features)
    means = np.stack([features[labels == label].mean(0) for label in labels])
    between = (1 - fit.shrinkage_) * np.cov(means, rowvar=False)
    expected = np.trace(np.linalg.solve(fit.covariance_, between))
    assert 0 < fit.shrinkage_ < 1
    assert regularised_h_score(features, labels) == pytest.approx(expected, abs=1e-10)


def test_leep_by_hand() -> None:
    theta = np.array([[1, 0], [1, 0], [0.5, 0.5], [0.5, 0.5]])
    # P(0 | z) = 2/3, 0 and P(1 | z) = 1/3, 1, so that each image's own class has 2/3
    assert leep(theta, PAIRS) == pytest.approx(np.log(2 / 3), abs=1e-15)


def test_a_source_class_of_no_probability_counts_nothing() -> None:
    theta = np.array([[1, 0], [1, 0], [0.5, 0.5], [0.5, 0.5]])
    wider = np.hstack([theta, np.zeros((4, 2))])
    assert leep(wider, PAIRS) == leep(theta, PAIRS)


def test_nce_by_hand() -> None:
    assert nce(PAIRS, np.array([0, 0, 0, 1])) == pytest.approx(-np.log(2) / 2, abs=1e-15)
    assert nce(np.zeros(4), PAIRS) == pytest.approx(-np.log(2), abs=1e-15)
    assert nce(PAIRS + 7, PAIRS) == 0


def test_parc_by_hand() -> None:
    features = np.array([[0, 1], [0, 1], [1, 0], [1, 0]])  # pairs are 0 or 2 apart
    assert parc(features, PAIRS) == pytest.approx(1, abs=1e-12)
    assert parc(features, np.array([0, 1, 0, 1])) == pytest.approx(-0.5, abs=1e-12)


def test_all_pairs_of_one_class_are_equally_far_for_parc() -> None:
    features, labels = drawn(1, images=30)
    standard = (features - features.mean(0)) / features.std(0)
    pairs = np.triu_indices(30, 1)
    far = (1 - np.corrcoef(standard))[pairs], (labels[:, None] != labels)[pairs]
    assert parc(features, labels) == pytest.approx(spearmanr(*far).statistic, abs=1e-12)


def test_neighbours_by_hand() -> None:
    features, labels = np.array([[0], [1], [10], [11], [1.5]]), np.array([0, 0, 1, 1, 1])
    assert knn_accuracy(features, labels) == 3 / 5
    assert knn_accuracy(features, labels, k=3) == 2 / 5
    # all others vote: two votes against two are for the first class
    assert knn_accuracy(features, labels, k=100) == 0


@pytest.mark.parametrize("k", [1, 3, 4])
@pytest.mark.parametrize("distances", [2**24, 50])
def test_neighbours_are_scikit_learns(
    k: int, distances: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictors, "DISTANCES", distances)
    features, labels = drawn(2, images=30)
    expected = cross_val_score(KNeighborsClassifier(k), features, labels, cv=LeaveOneOut()).mean()
    assert knn_accuracy(features, labels, k) == pytest.approx(expected, abs=1e-15)


@settings(max_examples=20)
@given(seed=SEEDS, scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_what_leaves_the_scores_of_features_as_they_are(
    seed: int, scale: float, shift: float
) -> None:
    features, labels = drawn(seed)
    turned = features @ rotation(seed)
    skewed = features @ (rotation(seed) * np.arange(1, 5)) + shift
    for same, changed, names in [
        (features, turned, {"logme", "h_score", "regularised_h_score", "knn_accuracy"}),
        (features, skewed, {"h_score"}),
        (features, scale * turned + shift, {"regularised_h_score", "knn_accuracy"}),
        (features, features * np.arange(1, 5) + shift, {"parc", "h_score"}),
    ]:
        for name in names:
            score = PREDICTORS[name].score
            assert score(changed, labels) == pytest.approx(score(same, labels), abs=1e-7), name


@settings(max_examples=20)
@given(seed=SEEDS)
def test_no_score_depends_on_the_order_of_images_the_names_of_classes_or_the_container(
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    features, labels = drawn(seed)
    theta = random.dirichlet(np.ones(5), size=20)
    given = {"features": features, "probabilities": theta, "classes": theta.argmax(1)}
    order, names = random.permutation(20), np.array([7, 3, 5])
    for name, (score, kind) in PREDICTORS.items():
        expected = pytest.approx(score(given[kind], labels), abs=1e-10)
        assert score(given[kind][order], labels[order]) == expected, name
        assert score(given[kind], names[labels]) == expected, name
        assert score(torch.from_numpy(given[kind]), torch.from_numpy(labels)) == expected, name


@settings(max_examples=20)
@given(seed=SEEDS)
def test_bounds_and_relations(seed: int) -> None:
    features, labels = drawn(seed, wide=40)
    theta = np.random.default_rng(seed).dirichlet(np.ones(5), size=20)
    z = theta.argmax(1)
    assert h_score(features, labels) == pytest.approx(2, abs=1e-9)  # more features than images
    assert 0 < regularised_h_score(features, labels) < 2 * 20 / 19
    assert -1 <= parc(features, labels) <= 1
    assert 0 <= knn_accuracy(features, labels) <= 1
    assert np.isfinite(logme(features, labels))
    counts = np.bincount(labels) / 20
    entropy = -(counts * np.log(counts)).sum()
    # −H(Y | Z) = I(Y; Z) − H(Y); Nguyen et al. 2020, property 1
    assert nce(z, labels) == pytest.approx(mutual_info_score(labels, z) - entropy, abs=1e-12)
    assert nce(z, labels) + np.log(theta.max(1)).mean() <= leep(theta, labels) <= 0
    # of probabilities that are 0 or 1, LEEP is NCE
    assert leep(np.eye(5)[z], labels) == pytest.approx(nce(z, labels), abs=1e-12)


@pytest.mark.parametrize("name", ["h_score", "regularised_h_score", "parc"])
def test_constant_features_score_zero(name: str) -> None:
    assert PREDICTORS[name].score(np.full((6, 3), 0.1), np.arange(6) % 2) == 0


def test_a_constant_feature_more_changes_nothing_but_an_intercept() -> None:
    features, labels = drawn(5)
    wider = np.hstack([features, np.full((20, 1), 0.1)])
    for name in ("h_score", "knn_accuracy"):
        score = PREDICTORS[name].score
        assert score(wider, labels) == pytest.approx(score(features, labels), abs=1e-12)
    assert logme(wider, labels) > logme(features, labels)


@pytest.mark.parametrize("name", ON_FEATURES)
@pytest.mark.parametrize(
    ("features", "labels"),
    [
        (np.array([[0.0], [1.0]]), np.array([0, 1])),
        (np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [4.0, 2.0, 3.0]]), np.array([0, 1, 2])),
        (np.full((4, 2), 5.0), PAIRS),
        (np.zeros((4, 2)), PAIRS),
        (1e8 * np.eye(4), PAIRS),
        (1e-8 * np.eye(4), PAIRS),
    ],
)
def test_no_score_of_scarce_features_is_undefined(
    name: str, features: np.ndarray, labels: np.ndarray
) -> None:
    assert np.isfinite(PREDICTORS[name].score(features, labels))


@pytest.mark.parametrize("name", PREDICTORS)
@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (4, np.zeros(4), "images of two classes, all 4 are of one"),
        (1, np.zeros(1), "needs two images, there are 1"),
        (4, np.zeros(3), r"do not fit labels \(3,\)"),
    ],
)
def test_too_little_to_predict_from(
    name: str, images: int, labels: np.ndarray, message: str
) -> None:
    score, kind = PREDICTORS[name]
    outputs = np.ones(images) if kind == "classes" else np.ones((images, 1))
    with pytest.raises(DataError, match=message):
        score(outputs, labels)


@pytest.mark.parametrize("name", ON_FEATURES)
def test_a_network_that_diverged_predicts_nothing(name: str) -> None:
    with pytest.raises(DataError, match="not finite predict nothing: the network diverged"):
        PREDICTORS[name].score(np.full((4, 2), np.inf), PAIRS)


@pytest.mark.parametrize("theta", [np.ones((4, 2)), np.array([[1.5, -0.5]] * 4)])
def test_leep_needs_probabilities(theta: np.ndarray) -> None:
    with pytest.raises(DataError, match="with sum 1 per image"):
        leep(theta, PAIRS)
