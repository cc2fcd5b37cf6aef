"""Classifier on the outputs of frozen layers or on pixels, as a recipe names it.

Standard library only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from trainers.canonical import MOST, STRICT, require

ClassifierKind = Literal["logistic", "svm", "knn"]
"""Classifier that is fitted to features.

- `logistic`: multinomial logistic regression with an L2 penalty (scikit-learn, L-BFGS).
- `svm`: linear support vector machines, one class against the rest (scikit-learn, LIBLINEAR).
- `knn`: the most frequent class of the k nearest training images, by Euclidean distance.
"""

Pool = Literal["average", "maximum", "none"]
"""Rule that makes a vector of a layer's output.

- `average`: the mean of each channel over all places.
- `maximum`: the largest value of each channel.
- `none`: all values.
"""

CHOICES: dict[str, tuple[float, ...]] = {
    "logistic": (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0),
    "svm": (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    "knn": (1, 3, 5, 10, 20, 50),
}


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """Classifier on the outputs of layers 1..n, in place of the layers above them, or on pixels.

    Every value is first reduced to mean 0 and deviation 1 over the training images.
    """

    __pydantic_config__: ClassVar = STRICT
    kind: ClassifierKind
    """Classifier that is fitted."""
    pool: Pool = "average"
    """Rule that makes a vector of a layer's output; `average` by default. Pixels are not pooled."""
    choices: tuple[float, ...] = ()
    """Values to choose from by validation top-1, the first of the best: the inverse strength C of
    the penalty, or the number k of neighbours. Default: powers of ten from 10⁻⁴ to 100 for
    `logistic`, from 10⁻⁵ to 1 for `svm`; 1, 3, 5, 10, 20 and 50 for `knn`."""

    def __post_init__(self) -> None:
        neighbours = self.kind == "knn"
        for value in self.choices:
            require(
                math.isfinite(value) and 0 < value <= MOST and (value % 1 == 0 or not neighbours),
                "choices",
                "expected numbers of neighbours, x ≥ 1"
                if neighbours
                else "expected inverse strengths of a penalty, x > 0",
            )
        object.__setattr__(self, "choices", tuple(map(float, self.choices)))
        twice = len(set(self.choices)) < len(self.choices)
        require(not twice, "choices", "a value is given twice")

    @property
    def values(self) -> tuple[float, ...]:
        """The values to choose from."""
        return self.choices or CHOICES[self.kind]

    @property
    def label(self) -> str:
        """Short string that tells it from others: `logistic (average)`."""
        return f"{self.kind} ({', '.join([self.pool, *(f'{x:g}' for x in self.choices)])})"
