"""A torchvision detector as the last layer of a network, above the first layers of another one."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from trainers.config import NetworkInfo, NetworkRef
from trainers.datasets.sets import Objects
from trainers.detection.average_precision import Detections
from trainers.detection.scores import MOST_DETECTIONS
from trainers.detector import Detector
from trainers.multiply_adds import multiply_adds
from trainers.networks import Network, NetworkError, Shape, build, tensors_of
from trainers.probes import PROBLEMS
from trainers.torchvision_families import ClassToken, Mean

# Modules that give up the places of an image. Without them, a layer may keep its places.
PLACELESS = (nn.Flatten, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, Mean, ClassToken)
PROPOSALS, SAMPLED = 300, 128  # per image: Faster R-CNN's on one map; torchvision's are for five
LEAST_SIDE = 2  # of a map on which objects have places


class DetectorHead(nn.Module):
    """Neck and head of a detector; its outputs are the features that losses and boxes come from."""

    always_filled = True
    """First weights are torchvision's own, whatever the recipe says of other layers."""

    def __init__(
        self, detector: Detector, outputs: tuple[int, int, int], classes: int, shape: Shape
    ):
        super().__init__()
        self.arguments = detector, outputs, classes, shape
        self.size = shape[1:]
        self.neck = nn.Conv2d(outputs[0], detector.width, 1)
        self.kind = DETECTORS[detector.kind]
        stride = max(
            2, *(side // below for side, below in zip(shape[1:], outputs[1:], strict=True))
        )
        self.model = self.kind.build(
            detector, _Given(detector.width), classes, stride, max(shape[1:])
        )
        self.model.transform = _AsTheyAre()

    def fill_parameters(self) -> None:
        """Set the first weights of torchvision's constructors, from the current random state."""
        self.load_state_dict(DetectorHead(*self.arguments).state_dict())

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the features (B, width, H, W) of the backbone's outputs."""
        return torch.relu(self.neck(outputs))

    def loss(self, features: torch.Tensor, objects: Sequence[Objects]) -> torch.Tensor:
        """Return the sum of the detector's mean losses; difficult objects are left out."""
        first = self.kind.first_label
        targets = [
            {
                "boxes": torch.from_numpy(x.boxes[~x.difficult]).to(features),
                "labels": torch.from_numpy(x.labels[~x.difficult]).to(features.device) + first,
            }
            for x in objects
        ]
        self.model.train()
        return torch.stack([*self._run(features, targets).values()]).sum()

    @torch.no_grad()
    def detections(self, features: torch.Tensor) -> list[Detections]:
        """Return the boxes that are found in each image, and leave the head in evaluation mode."""
        self.model.eval()
        return [
            Detections(
                boxes=image["boxes"].float().cpu().numpy(),
                scores=image["scores"].float().cpu().numpy(),
                labels=image["labels"].cpu().numpy() - self.kind.first_label,
            )
            for image in self._run(features)
        ]

    def _run(self, features: torch.Tensor, targets: Any = None) -> Any:
        self.model.backbone.features = features
        images = features.new_empty(1).expand(len(features), 1, *self.size)
        try:
            return self.model(images, targets)
        finally:
            self.model.backbone.features = None


class _Given(nn.Module):
    """Backbone of a torchvision detector whose features are known."""

    features: torch.Tensor | None = None

    def __init__(self, channels: int):
        super().__init__()
        self.out_channels = channels

    def forward(self, _: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        assert self.features is not None
        return OrderedDict([("0", self.features)])


class _AsTheyAre(nn.Module):
    """Transform of a torchvision detector for images that have their final size and scale."""

    def forward(self, images: torch.Tensor, targets: Any = None) -> tuple[Any, Any]:
        from torchvision.models.detection.image_list import ImageList

        return ImageList(images, [tuple(images.shape[2:])] * len(images)), targets

    def postprocess(self, detections: Any, *_: Any) -> Any:
        return detections


def _fcos(detector: Detector, given: nn.Module, classes: int, stride: int, _: int) -> nn.Module:
    from torchvision.models.detection import fcos

    width = detector.width
    norm = partial(nn.GroupNorm, math.gcd(32, width // 4))
    head = fcos.FCOSHead(width, 1, classes, num_convs=0)
    head.classification_head = fcos.FCOSClassificationHead(width, 1, classes, norm_layer=norm)
    head.regression_head = fcos.FCOSRegressionHead(width, 1, norm_layer=norm)
    model: nn.Module = fcos.FCOS(
        given,
        classes,
        anchor_generator=fcos.AnchorGenerator(((stride,),), ((1.0,),)),
        head=head,
        score_thresh=detector.least_score,
        nms_thresh=detector.overlap,
        detections_per_img=MOST_DETECTIONS,
    )
    return model


def _anchors(detector: Detector, side: int) -> Any:
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    return AnchorGenerator((tuple(x * side for x in detector.anchors),), (detector.ratios,))


def _retinanet(detector: Detector, given: nn.Module, classes: int, _: int, side: int) -> nn.Module:
    from torchvision.models.detection import RetinaNet

    model: nn.Module = RetinaNet(
        given,
        classes,
        anchor_generator=_anchors(detector, side),
        score_thresh=detector.least_score,
        nms_thresh=detector.overlap,
        detections_per_img=MOST_DETECTIONS,
    )
    return model


def _faster_rcnn(
    detector: Detector, given: nn.Module, classes: int, _: int, side: int
) -> nn.Module:
    from torchvision.models.detection.faster_rcnn import (
        FasterRCNN,
        FastRCNNPredictor,
        TwoMLPHead,
    )
    from torchvision.ops import MultiScaleRoIAlign

    pooled, hidden = 7, 4 * detector.width  # 7×7 as in Fast R-CNN, 1024 for 256 channels
    model: nn.Module = FasterRCNN(
        given,
        rpn_anchor_generator=_anchors(detector, side),
        rpn_post_nms_top_n_test=PROPOSALS,
        box_batch_size_per_image=SAMPLED,
        box_roi_pool=MultiScaleRoIAlign(["0"], pooled, 2),
        box_head=TwoMLPHead(detector.width * pooled**2, hidden),
        box_predictor=FastRCNNPredictor(hidden, classes + 1),
        box_score_thresh=detector.least_score,
        box_nms_thresh=detector.overlap,
        box_detections_per_img=MOST_DETECTIONS,
    )
    return model


class _Kind(NamedTuple):
    """A detector of torchvision."""

    build: Callable[[Detector, nn.Module, int, int, int], Any]
    """Takes the backbone, the number of classes, the stride and the longer side of the image."""
    first_label: int
    """Label of the first class; label 0 may be the background."""


DETECTORS = {
    "fcos": _Kind(_fcos, 0),
    "retinanet": _Kind(_retinanet, 0),
    "faster_rcnn": _Kind(_faster_rcnn, 1),
}


def with_detector(network: Network, detector: Detector, classes: int, shape: Shape) -> Network:
    """Return the first layers of a network, and a detector for images (C, H, W) as last layer.

    Raises `NetworkError` if the layers do not keep the places of an image.
    """
    layers, outputs = _backbone(network, shape)
    wanted = detector.backbone or len(layers)
    if not layers:
        raise NetworkError(
            f"no layer gives maps of images {shape[1]}×{shape[2]}, at least "
            f"{LEAST_SIDE}×{LEAST_SIDE}, and a detector needs the places of objects"
        )
    if wanted > len(layers):
        raise NetworkError(
            f"recipe.detector.backbone is {wanted}, but only layers 1..{len(layers)} keep the "
            "places of an image"
        )
    head = DetectorHead(detector, outputs[wanted - 1], classes, shape)
    return Network.of([*layers[:wanted], head])


@torch.no_grad()
def _backbone(network: Network, shape: Shape) -> tuple[list[nn.Module], list[Any]]:
    """Return the first layers whose outputs are maps, and the shapes (C, H, W) of these."""
    layers: list[nn.Module] = []
    shapes = []
    images = torch.zeros(1, *shape)
    training = network.training
    for layer in network[:-1].eval():
        is_last = _keep_places(layer)
        try:
            images = layer(images.clone())
        except PROBLEMS as error:
            if layers:  # a layer of vectors
                break
            reason = str(error).partition("\n")[0]
            raise NetworkError(
                f"layer 1 takes no images {shape[1]}×{shape[2]}: {reason}"
            ) from error
        if images.ndim != 4 or min(images.shape[2:]) < LEAST_SIDE:
            break
        layers.append(layer)
        shapes.append(tuple(images.shape[1:]))
        if is_last:
            break
    network.train(training)
    return layers, shapes


def _keep_places(layer: nn.Module) -> bool:
    """Replace what gives up places in a layer by nothing; return whether there was any."""
    names = [
        name
        for name, module in layer.named_children()
        if isinstance(layer, nn.Sequential) and isinstance(module, PLACELESS)
    ]
    for name in names:
        setattr(layer, name, nn.Identity())
    return bool(names)


def describe_detector(
    ref: NetworkRef, detector: Detector, classes: int, shape: Shape
) -> NetworkInfo:
    """Return facts about a network with a detector as last layer, for images (C, H, W).

    The multiply-adds are those of the backbone and of the neck: the work of a head depends on the
    objects. Raises as `networks.build` and `with_detector` do.
    """
    try:
        network = with_detector(build(ref, classes, shape), detector, classes, shape)
    except PROBLEMS as error:
        raise NetworkError(f"network {ref.name} cannot be built: {error}") from error
    except NetworkError as error:
        raise NetworkError(f"network {ref.name}: {error}") from error
    images, shapes = torch.zeros(1, *shape), []
    with torch.no_grad():
        for layer in network.eval():
            images = layer(images.clone())
            shapes.append(tuple(images.shape[1:]))
    return NetworkInfo(
        macs=multiply_adds(network, shape),
        parameters=tuple(sum(p.numel() for p in layer.parameters()) for layer in network),
        shapes=tuple(shapes),
        state_bytes=sum(t.numel() * t.element_size() for t in tensors_of(network).values()),
    )
