"""torchvision's networks as layers: equal outputs, trainings, and options that do not fit."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.vision_transformer import VisionTransformer

from tests.trainers.runs import SHAPE, TINY, VIT, of_torchvision, ref
from tests.trainings import result, training
from trainers import torchvision_networks
from trainers.canonical import ConfigError
from trainers.learner import Learner
from trainers.networks import Network, NetworkError, build, describe
from trainers.task_data import task_data
from trainers.torchvision_networks import Builder

# The default of trainings: small networks gain nothing from more threads.
pytestmark = pytest.mark.usefixtures("one_thread")


# Number of layers of one network per family; the slow tests check those in `SLOW`.
DEPTHS = {
    "alexnet": 8,
    "convnext_tiny": 9,  # stem, four stages, three reductions, head
    "densenet121": 9,  # stem, four blocks, three transitions, head
    "efficientnet_b0": 10,  # stem, seven stages, last convolution, head
    "inception_v3": 17,
    "mnasnet0_5": 11,
    "mobilenet_v2": 20,
    "mobilenet_v3_small": 15,  # stem, eleven blocks, last convolution, two fully connected
    "regnet_y_400mf": 6,
    "resnet18": 6,
    "shufflenet_v2_x0_5": 6,
    "squeezenet1_1": 10,
    "swin_t": 9,
}
SLOW = {"googlenet": 13, "maxvit_t": 7, "resnet50": 6, "swin_v2_t": 9, "vgg11_bn": 11}
SIZES = {"alexnet": 63, "inception_v3": 75, "maxvit_t": 224}  # the others take 32×32


def assert_same(own: nn.Module, network: Network, size: int) -> None:
    """Assert scores equal to the last bit, also in training mode with the same dropout."""
    assert sum(p.numel() for p in own.parameters()) == sum(p.numel() for p in network.parameters())
    images = torch.randn(2, 3, size, size)
    for learning in (False, True):
        own.train(learning)
        network.train(learning)
        scores = []
        for one in (own, network):
            torch.manual_seed(2)
            with torch.no_grad():
                scores.append(one(images.clone()))
        assert torch.equal(*scores), learning
        assert scores[0].any()


@pytest.mark.parametrize(
    "name", [*DEPTHS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_layers_give_what_torchvisions_own_network_gives(name: str) -> None:
    """Both start from one random state, and so from the same weights."""
    size = SIZES.get(name, 32)
    torch.manual_seed(1)
    own = of_torchvision(name)
    torch.manual_seed(1)
    network = Network.of(Builder(name).layers(5, (3, size, size), {}))
    assert len(network) == {**DEPTHS, **SLOW}[name]
    assert_same(own, network, size)


@pytest.mark.parametrize("options", [{}, {"representation_size": 9, "dropout": 0.1}])
def test_layers_give_what_a_tiny_vision_transformer_gives(options: dict[str, Any]) -> None:
    torch.manual_seed(1)
    own = VisionTransformer(image_size=8, num_classes=5, **TINY, **options)
    torch.manual_seed(1)
    network = Network.of(Builder("vit_b_16").layers(5, (3, 8, 8), TINY | options))
    assert len(network) == (5 if options else 4)
    for head in (own.heads.head, network[-1].heads_head):  # which starts at 0
        torch.manual_seed(3)
        nn.init.normal_(head.weight)
    assert_same(own, network, 8)


@pytest.mark.parametrize("name", ["vit_b_16", "vit_l_32", "vit_h_14"])
def test_a_vision_transformer_has_the_sizes_that_its_name_says(name: str) -> None:
    with torch.device("meta"):
        own = of_torchvision(name)
        layers = Builder(name).layers(5, (3, 224, 224), {})
    shapes = [[tuple(p.shape) for p in it.parameters()] for it in (own, Network.of(layers))]
    assert sorted(shapes[0]) == sorted(shapes[1])


@pytest.mark.slow
def test_every_network_is_cut_without_losing_a_weight() -> None:
    """RegNets are left out: the meta device cannot build them, and one is tested above."""
    known = [n for n in models.list_models(module=models) if not n.startswith("regnet")]
    assert len(known) >= 65
    for name in known:
        with torch.device("meta"):
            network = Builder(name).construct(5, (3, 224, 224), {})
            layers = torchvision_networks._cut(network, list)
        weights = [p for layer in layers for p in layer.parameters()]
        assert sorted(map(id, weights)) == sorted(map(id, network.parameters())), name
        assert all(list(layer.parameters()) for layer in layers), name
        assert len(layers) > 5, name


def parts(name: str, **options: Any) -> list[str]:
    layers = build(ref(name, **options), 5, (3, 32, 32))
    return ["+".join(name for name, _ in layer.named_children()) for layer in layers]


def test_where_networks_are_cut() -> None:
    """A layer begins with a part that has weights; the parts without weights follow."""
    assert parts("resnet18") == [
        "conv1+bn1+relu+maxpool",
        "layer1",
        "layer2",
        "layer3",
        "layer4+avgpool+flatten",
        "fc",
    ]
    assert parts("shufflenet_v2_x0_5") == [
        *("conv1+maxpool", "stage2", "stage3", "stage4", "conv5+mean", "fc")
    ]
    assert parts("vit_b_16", **TINY) == [
        "tokens",
        "encoder_layers_encoder_layer_0",
        "encoder_layers_encoder_layer_1+encoder_ln+classtoken",
        "heads_head",
    ]
    densenet = parts("densenet121")
    assert densenet[0] == "features_conv0+features_norm0+features_relu0+features_pool0"
    assert densenet[7].startswith("features_denseblock4+features_norm5+relu+")
    assert parts("mobilenet_v3_small")[-3:] == [
        "features_12+avgpool+flatten",
        "classifier_0+classifier_1+classifier_2",
        "classifier_3",
    ]


def test_another_forward_pass_than_the_one_known_here_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = {**torchvision_networks.FORWARD}
    rules["ShuffleNetV2"] = lambda it: [nn.Tanh(), *known(it)]
    known = torchvision_networks.FORWARD["ShuffleNetV2"]
    monkeypatch.setattr(torchvision_networks, "FORWARD", rules)
    message = (
        r"^network torchvision:shufflenet_v2_x0_5 cannot be built: its layers one after the other "
        "do not give what torchvision's network gives"
    )
    with pytest.raises(NetworkError, match=message):
        describe(ref("shufflenet_v2_x0_5"), 7, (3, 32, 32))


def test_a_vision_transformer_is_trained_copied_and_frozen() -> None:
    recipe = {"network": VIT, "init": "network", "optimiser": "adamw", "rate": 0.01}
    base = result(training(target="A", **recipe))
    one = result(training("transfer", 2, **recipe), base.checkpoint)
    assert one.frozen_hash_start == one.frozen_hash_end != ""
    assert one.train_loss < math.log(5)


def test_frozen_layers_of_a_resnet_see_each_image_once() -> None:
    """No part draws random numbers, so that the outputs for all images can be kept."""
    one = training("random", 3, network=ref("resnet18"), batch=8)
    data = task_data(one, torch.device("cpu"))
    learner = Learner(one, data, None, 2**28)
    assert (learner.cached_layers, learner.is_random) == (3, False)


@pytest.mark.parametrize(
    ("name", "options", "field", "message"),
    [
        ("resnet8", {}, "name", "unknown torchvision network 'resnet8'; did you mean 'torchvi"),
        ("mine", {}, "name", "unknown torchvision network 'mine'; known: alexnet, convnext_base,"),
        ("resnet18", {"zero_init": True}, "zero_init", "did you mean 'zero_init_residual'?"),
        ("resnet18", {"num_classes": 9}, "num_classes", "unknown key 'num_classes'; known: zer"),
        ("resnet18", {"layers": [1, 1]}, "layers", "unknown key 'layers'; known: zero_init_res"),
        ("resnet18", {"zero_init_residual": 1}, "zero_init_residual", "expected true or false, f"),
        (
            "resnet50",
            {"replace_stride_with_dilation": [1]},
            "replace_stride_with_dilation",
            "expected a list of true or false, found (1,)",
        ),
        (
            "densenet121",
            {"growth_rate": 8},
            "growth_rate",
            "torchvision:densenet121 sets 'growth_rate' itself: ",
        ),
        ("resnext50_32x4d", {"groups": 8}, "groups", "torchvision:resnext50_32x4d sets 'groups' "),
        ("vit_b_16", {"image_size": 12}, "image_size", "unknown key 'image_size'; did you mean"),
        (
            "vit_b_16",
            {},
            "patch_size",
            "expected a patch_size that divides 12, the size of the images, found 16",
        ),
        ("vit_b_16", TINY | {"mlp_dim": 0}, "mlp_dim", "expected x ≥ 1"),
        ("vit_b_16", TINY | {"num_heads": 3}, "num_heads", "expected a divisor of hidden_dim, 16"),
        ("vit_b_16", TINY | {"num_heads": 2.0}, "num_heads", "expected a whole number, found 2.0"),
        ("mobilenet_v3_small", {"width_mult": "x"}, "width_mult", "expected a number, found 'x'"),
    ],
)
def test_options_that_do_not_fit(
    name: str, options: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        describe(ref(name, **options), 5, SHAPE)
    assert error.value.field == field
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "shape", "message"),
    [
        (
            "squeezenet1_1",
            {},
            SHAPE,
            "it does not take images 1×12×12: Given input size: (256x1x1). ",
        ),
        ("vit_b_16", TINY, (1, 12, 16), "expected square images, found 12×16"),
        ("resnet18", {"groups": 2}, SHAPE, "BasicBlock only supports groups=1 and base_width=64"),
        ("maxvit_t", {}, (3, 32, 32), "Input size (8, 8) of block 0 is not divisible by partition"),
    ],
)
def test_images_that_do_not_fit(
    name: str, options: dict[str, Any], shape: Any, message: str
) -> None:
    with pytest.raises(NetworkError) as error:
        describe(ref(name, **options), 5, shape)
    start = f"network torchvision:{name} cannot be built: {message}"
    assert str(error.value).startswith(start)
    assert "\n" not in str(error.value)
