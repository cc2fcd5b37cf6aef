"""Detector on the outputs of a network's first layers, as a recipe names it. Standard library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from trainers.canonical import MOST, STRICT, require

DetectorKind = Literal["fcos", "retinanet", "faster_rcnn"]
"""Detector of torchvision, on the outputs of one layer.

- `fcos`: a box from every place, without anchors (Tian et al. 2019).
- `retinanet`: boxes from anchors, with the focal loss (Lin et al. 2017).
- `faster_rcnn`: proposals from anchors, classified one by one (Ren et al. 2015).
"""


@dataclass(frozen=True, kw_only=True)
class Detector:
    """Detector for a task of objects in boxes, in place of a network's upper layers.

    A 1×1 convolution, the neck, brings the outputs of the backbone to `width` channels.
    """

    __pydantic_config__: ClassVar = STRICT
    kind: DetectorKind = "fcos"
    """Detector of torchvision; `fcos` by default."""
    backbone: int | None = None
    """Number of first layers that the detector sees through. Default: all layers whose outputs keep
    the places of an image."""
    width: int = 256
    """Channels of the neck; 256 by default."""
    anchors: tuple[float, ...] = (0.125, 0.25, 0.5)
    """Sides of square anchors, as parts of the image's longer side; `fcos` has none."""
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Heights of anchors over their widths; `fcos` has none."""
    least_score: float = 0.05
    """Score below which a box is no detection; 0.05 by default."""
    overlap: float = 0.5
    """Overlap (intersection over union) above which the box of the lower score is dropped; 0.5 by
    default."""

    def __post_init__(self) -> None:
        layers = self.backbone
        require(layers is None or 1 <= layers <= MOST, "backbone", "expected layers, x ≥ 1")
        require(4 <= self.width <= MOST, "width", "expected channels, x ≥ 4")
        require(self.width % 4 == 0, "width", "expected a multiple of 4: channels are normed in 4s")
        for field in ("anchors", "ratios"):
            values = getattr(self, field)
            positive = all(math.isfinite(x) and 0 < x <= MOST for x in values)
            require(bool(values) and positive, field, "expected numbers, each x > 0")
            object.__setattr__(self, field, tuple(map(float, values)))
        require(0 <= self.least_score < 1, "least_score", "expected a score, 0 ≤ x < 1")
        require(0 < self.overlap <= 1, "overlap", "expected an overlap, 0 < x ≤ 1")
        if self.kind == "fcos":  # equal detectors have equal ids
            object.__setattr__(self, "anchors", ANCHORS)
            object.__setattr__(self, "ratios", RATIOS)

    @property
    def label(self) -> str:
        """Short text that tells it from others: `fcos (width 64)`."""
        differing = [
            f"{name} {_shown(value)}"
            for name, default in DEFAULTS.items()
            if (value := getattr(self, name)) != default
        ]
        return f"{self.kind} ({', '.join(differing)})" if differing else self.kind


def _shown(value: object) -> str:
    return " ".join(f"{x:g}" for x in value) if isinstance(value, tuple) else f"{value}"


ANCHORS, RATIOS = Detector.anchors, Detector.ratios
DEFAULTS = {
    name: getattr(Detector, name) for name in Detector.__dataclass_fields__ if name != "kind"
}
