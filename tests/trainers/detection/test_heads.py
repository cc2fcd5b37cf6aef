"""Detectors above the first layers of a network: backbones, first weights, losses and boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainers.canonical import ConfigError, freeze_options
from trainers.config import NetworkRef
from trainers.datasets.sets import Objects
from trainers.detection.heads import (
    DETECTORS,
    DetectorHead,
    describe_detector,
    with_detector,
)
from trainers.detector import Detector
from trainers.first_weights import initialise
from trainers.networks import Network, NetworkError, build
from trainers.recipe import Recipe

CONV = NetworkRef(
    name="conv8", options=freeze_options({"conv": (4, 6, 8), "pool": (1, 2), "fc": (5,)})
)
SHAPE = (3, 32, 32)


def objects(*boxes: tuple[float, ...]) -> Objects:
    edges = np.array(boxes, np.float32).reshape(-1, 4)
    return Objects(edges, np.arange(len(boxes)) % 2, np.zeros(len(boxes), bool))


def test_the_backbone_has_all_layers_of_maps_and_a_head_above_it() -> None:
    """Layer 3 flattens its maps for the layers above: below a detector it does not."""
    info = describe_detector(CONV, Detector(width=8), 2, SHAPE)
    assert info.shapes == ((4, 16, 16), (6, 8, 8), (8, 8, 8), (8, 8, 8))
    assert info.macs[:3] == (32 * 32 * 4 * 27, 16 * 16 * 6 * 36, 8 * 8 * 8 * 54)
    assert info.macs[3] == 8 * 8 * 8 * 8  # of the neck
    assert info.parameters[:3] == (112, 222, 440)
    fewer = describe_detector(CONV, Detector(width=8, backbone=2), 2, SHAPE)
    assert (fewer.depth, fewer.macs[:2]) == (3, info.macs[:2])


@pytest.mark.parametrize(
    ("name", "layers", "outputs"),
    [
        ("caffenet", 5, (256, 5, 5)),
        ("torchvision:resnet18", 5, (512, 6, 6)),
        ("torchvision:vgg11", 8, (512, 6, 6)),
        ("torchvision:mobilenet_v2", 19, (1280, 6, 6)),
    ],
)
def test_backbones_of_published_networks(name: str, layers: int, outputs: tuple[int, ...]) -> None:
    info = describe_detector(NetworkRef(name=name), Detector(width=8), 20, (3, 192, 192))
    assert (info.depth - 1, info.shapes[layers - 1]) == (layers, outputs)


@pytest.mark.parametrize(
    ("ref", "detector", "message"),
    [
        (
            CONV,
            Detector(backbone=4),
            "network conv8: recipe.detector.backbone is 4, but only layers 1..3 keep the places of "
            "an image",
        ),
        (
            NetworkRef(name="torchvision:vit_b_32"),
            Detector(),
            "network torchvision:vit_b_32: no layer gives maps of images 32×32, at least 2×2, and "
            "a detector needs the places of objects",
        ),
    ],
)
def test_a_network_without_such_maps_is_refused(
    ref: NetworkRef, detector: Detector, message: str
) -> None:
    with pytest.raises(NetworkError) as error:
        describe_detector(ref, detector, 2, SHAPE)
    assert str(error.value) == message


def detector(kind: str, seed: int = 0, init: str = "he") -> Network:
    """Return a small network with a detector, each layer with first weights of a seed."""
    settings = Detector(kind=kind, width=8)  # type: ignore[arg-type]
    network = with_detector(build(CONV, 2, SHAPE), settings, 2, SHAPE)
    initialise(network, Recipe(init=init), [seed, seed + 1, seed + 2, seed + 3])  # type: ignore[arg-type]
    return network


@pytest.mark.parametrize("kind", DETECTORS)
def test_a_head_has_first_weights_of_torchvision(kind: str) -> None:
    """They depend on the seed of the last layer alone, and not on the rule of other layers."""
    one, other = detector(kind), detector(kind, init="torch")
    for name, tensor in one[-1].state_dict().items():
        assert torch.equal(tensor, other[-1].state_dict()[name]), name
    assert not torch.equal(one[0].conv.weight, other[0].conv.weight)
    assert not torch.equal(one[-1].neck.weight, detector(kind, seed=1)[-1].neck.weight)
    if kind != "faster_rcnn":  # a prior of 1 % that a place has an object
        bias = one[-1].model.head.classification_head.cls_logits.bias
        assert torch.sigmoid(bias).tolist() == pytest.approx([0.01] * len(bias))


@pytest.mark.parametrize("kind", DETECTORS)
def test_a_detector_learns_one_image_by_heart(kind: str) -> None:
    """The loss falls, gradients reach the first layer, and the larger object is found."""
    network = detector(kind)
    head = network[-1]
    assert isinstance(head, DetectorHead)
    image = torch.zeros(1, *SHAPE)
    image[:, 0, 4:16, 4:16], image[:, 1, 14:30, 16:30] = 2.0, 2.0
    true = [objects((4, 4, 16, 16), (16, 14, 30, 30))]
    optimiser = torch.optim.Adam(network.parameters(), 0.003)
    losses = []
    for step in range(120):
        torch.manual_seed(step)
        loss = head.loss(network(image), true)
        optimiser.zero_grad()
        loss.backward()
        if not step:
            assert network[0].conv.weight.grad.abs().max() > 0
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    (found,) = head.detections(network.eval()(image))
    assert np.abs(found.boxes[found.labels == 1][0] - true[0].boxes[1]).max() < 5
    assert (np.diff(found.scores) <= 0).all()
    assert found.scores.min() > 0.05


def test_difficult_objects_are_left_out_of_the_loss() -> None:
    """An image whose only object is difficult is an image without objects."""
    network = detector("fcos")
    features = network(torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0)))
    one, none = objects((4, 4, 16, 16)), objects()
    hidden = Objects(one.boxes, one.labels, np.ones(1, bool))
    losses = [network[-1].loss(features, [x]).item() for x in (one, hidden, none)]
    assert losses[1] == losses[2] != losses[0]


def test_equal_detectors_are_equal() -> None:
    """FCOS has no anchors; whole numbers are numbers."""
    assert Detector(anchors=(1,)) == Detector(ratios=(3.0,)) == Detector()
    one = Detector(kind="retinanet", anchors=(1,), ratios=(2,))
    assert one == Detector(kind="retinanet", anchors=(1.0,), ratios=(2.0,)) != Detector()
    assert (Detector().label, one.label) == ("fcos", "retinanet (anchors 1, ratios 2)")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("backbone", 0),
        ("width", 0),
        ("width", 30),
        ("anchors", ()),
        ("anchors", (0.1, -0.2)),
        ("ratios", (0.0,)),
        ("least_score", 1.0),
        ("overlap", 0.0),
    ],
)
def test_a_wrong_setting_is_named(field: str, value: object) -> None:
    with pytest.raises(ConfigError) as error:
        Detector(**{field: value})  # type: ignore[arg-type]
    assert error.value.field == field
