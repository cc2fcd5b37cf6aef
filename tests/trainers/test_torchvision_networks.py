"""torchvision's networks as layers: equal outputs, first weights, counts, and bad options."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models
from torchvision.models.swin_transformer import SwinTransformerBlock
from torchvision.models.vision_transformer import VisionTransformer

from tests.trainings import result, training
from trainers import torchvision_networks
from trainers.canonical import ConfigError, freeze_options
from trainers.config import NetworkRef
from trainers.first_weights import initialise
from trainers.learner import Learner
from trainers.networks import (
    Network,
    NetworkError,
    build,
    describe,
    fingerprint,
    is_random,
    options_of,
    set_dropout,
)
from trainers.recipe import Recipe
from trainers.task_data import task_data
from trainers.torchvision_networks import Builder, find

TINY = {"patch_size": 4, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 24}
SHAPE = (1, 12, 12)


def ref(name: str, **options: Any) -> NetworkRef:
    return NetworkRef(name=f"torchvision:{name}", options=freeze_options(options))


VIT = ref("vit_b_16", **TINY)


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


def of_torchvision(name: str, **options: Any) -> nn.Module:
    """Return torchvision's own network, without the parts that it adds for training alone."""
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    return models.get_model(name, weights=None, num_classes=5, **options)


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


# Facts for planning -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "shape"),
    [
        (VIT, SHAPE),
        (ref("resnet18"), SHAPE),
        (ref("swin_t"), (3, 40, 32)),  # windows of 7×7: padded maps
        (ref("mobilenet_v3_small"), (3, 32, 32)),
        pytest.param(ref("maxvit_t"), (3, 224, 224), marks=pytest.mark.slow),
    ],
)
def test_multiply_adds_are_those_that_torch_counts(one: NetworkRef, shape: Any) -> None:
    info = describe(one, 5, shape)
    network, images = build(one, 5, shape).eval(), torch.zeros(2, *shape)
    torch.backends.mha.set_fastpath_enabled(False)  # which torch does not count
    try:
        for layer, macs in zip(network, info.macs, strict=True):
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                images = layer(images)
            assert counter.get_total_flops() == 2 * len(images) * macs
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_counts_of_a_tiny_vision_transformer_by_hand() -> None:
    """Nine patches of 4×4 pixels and the class token are 16 wide, and 24 within each block."""
    tokens, width, middle = 10, 16, 24
    block = tokens * (4 * width**2 + 2 * width * middle) + 2 * tokens**2 * width
    weights = 4 * width**2 + 4 * width + 2 * width * middle + middle + width + 4 * width
    info = describe(VIT, 5, SHAPE)
    assert info.macs == (9 * 16 * width, block, block, 5 * width)
    assert info.parameters == (
        (16 + 1) * width + (1 + tokens) * width,
        weights,
        weights + 2 * width,  # and the normalisation after the last block
        (width + 1) * 5,
    )
    assert info.shapes == ((10, 16), (10, 16), (16,), (5,))


def test_the_first_convolution_sees_as_many_channels_as_images_have() -> None:
    torch.manual_seed(0)
    for channels in (1, 3, 5):
        network = build(ref("resnet18"), 5, (channels, 12, 12))
        weight = network[0].conv1.weight
        assert weight.shape == (64, channels, 7, 7)
        assert weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 49)), rel=0.05)
    assert describe(ref("resnet18"), 5, SHAPE).shapes[-1] == (5,)


def test_ids_do_not_depend_on_torchvisions_release() -> None:
    assert fingerprint("torchvision:resnet18") == ""
    given = freeze_options({"zero_init_residual": False})
    assert options_of("torchvision:resnet18", given) == given  # a default that may change


# First weights ----------------------------------------------------------------------------------


def started(one: NetworkRef, seeds: list[int], **recipe: Any) -> Network:
    network = build(one, 5, SHAPE if one is VIT else (3, 32, 32))
    initialise(network, Recipe(**recipe), seeds)
    return network


@pytest.mark.parametrize("init", ["he", "torch", "network"])
@pytest.mark.parametrize("one", [VIT, ref("shufflenet_v2_x0_5")])
def test_first_weights_come_from_each_layers_own_seed(one: NetworkRef, init: str) -> None:
    depth = 4 if one is VIT else 6
    seeds = list(range(depth))
    before = torch.random.get_rng_state()
    first, second, third = (
        started(one, chosen, init=init) for chosen in (seeds, seeds, [seeds[0], 77, *seeds[2:]])
    )
    for number in range(depth):
        state, again, other = (n[number].state_dict() for n in (first, second, third))
        assert all(torch.equal(state[name], again[name]) for name in state)
        assert all(torch.equal(state[name], other[name]) for name in state) == (number != 1)
    torch.random.set_rng_state(before)


def test_the_networks_own_first_weights_are_its_constructors() -> None:
    layers = Builder("shufflenet_v2_x0_5").layers(5, (3, 32, 32), {})
    torch.manual_seed(5)
    layers[2].fill_parameters()
    torch.manual_seed(5)
    own = of_torchvision("shufflenet_v2_x0_5")
    assert isinstance(own.stage3, nn.Module)
    for name, tensor in own.stage3.state_dict().items():
        assert torch.equal(tensor, layers[2].stage3.state_dict()[name])
    assert not torch.equal(own.fc.weight, layers[5].fc.weight)


def test_a_vision_transformers_first_weights() -> None:
    """Class token and head are 0; positions have deviation 0.02.

    Patches have the variance that torchvision gives to three channels, 1 / (3 × 4 × 4).
    """
    sizes = TINY | {"hidden_dim": 128, "num_heads": 4}
    for init in ("network", "he", "torch"):
        network = build(ref("vit_b_16", **sizes), 5, SHAPE)
        initialise(network, Recipe(init=init), [1, 2, 3, 4])  # type: ignore[arg-type]
        tokens = network[0].tokens
        assert not tokens.class_token.any()
        assert tokens.pos_embedding.std().item() == pytest.approx(0.02, rel=0.1)
        deviation = {"network": 1 / 48, "he": 2 / 16, "torch": 1 / (3 * 16)}[init] ** 0.5
        assert tokens.conv_proj.weight.std().item() == pytest.approx(deviation, rel=0.1), init
        assert network[3].heads_head.weight.any() == (init != "network")
        [block] = network[1]
        attention = block.self_attention.in_proj_weight  # Xavier's, in all of them
        assert attention.std().item() == pytest.approx(math.sqrt(2 / (4 * 128)), rel=0.05)
        assert block.ln_1.weight.tolist() == [1] * 128


def test_a_module_without_reset_parameters_starts_as_the_networks_own() -> None:
    """So do ConvNeXt's scales and Swin's window biases, also if `init` is He's."""
    convnext = Network.of(Builder("convnext_tiny").layers(5, (3, 32, 32), {})[1:2])
    initialise(convnext, Recipe(), [1])
    block = convnext[0].features_1[0]
    assert block.layer_scale.unique().tolist() == pytest.approx([1e-6])
    assert block.block[3].weight.std().item() == pytest.approx(math.sqrt(1 / 96), rel=0.05)

    def table(seed: int) -> torch.Tensor:
        swin = Network.of(Builder("swin_t").layers(5, (3, 32, 32), {})[1:2])
        initialise(swin, Recipe(init="torch"), [seed])
        biases: torch.Tensor = swin[0].features_1[0].attn.relative_position_bias_table
        return biases.detach()

    first, again, other = table(1), table(1), table(2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.std().item() == pytest.approx(0.02, rel=0.1)


# Random numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "random"),
    [
        (ref("resnet18"), False),
        (ref("mobilenet_v3_small", dropout=0.0), False),
        (ref("mobilenet_v3_small"), True),
        (ref("efficientnet_b0", dropout=0.0), True),  # stochastic depth
        (ref("efficientnet_b0", dropout=0.0, stochastic_depth_prob=0.0), False),
        (ref("vit_b_16", **TINY), False),
        (ref("vit_b_16", attention_dropout=0.1, **TINY), True),
        (ref("densenet121"), False),
        (ref("densenet121", drop_rate=0.1), True),
    ],
)
def test_is_random_agrees_with_the_random_state(one: NetworkRef, random: bool) -> None:
    builder = find(one.name)
    size = 8 if "vit" in one.name else 32
    network = Network.of(builder.layers(5, (3, size, size), dict(one.options)))
    assert is_random(network) == random
    images = torch.randn(2, 3, size, size)
    network.train()
    with torch.random.fork_rng(), torch.no_grad():
        before = torch.random.get_rng_state()
        network(images)
        assert torch.equal(torch.random.get_rng_state(), before) != random


def test_dropout_inside_of_windows_draws_random_numbers() -> None:
    """torchvision's Swin has stochastic depth in all but its first block."""
    for rate in (0.0, 0.1):
        block = SwinTransformerBlock(8, 2, [2, 2], [0, 0], attention_dropout=rate)
        assert is_random(block) == (rate > 0)
    layers = Network.of(Builder("swin_t").layers(5, (3, 32, 32), {})[:2])
    assert [is_random(layers[:n]) for n in (1, 2)] == [False, True]


def test_the_recipes_dropout_replaces_that_of_modules_only() -> None:
    """Stochastic depth and attention's dropout are options of the network."""
    network = Network.of(Builder("efficientnet_b0").layers(5, (3, 32, 32), {}))
    assert [is_random(network[:n]) for n in (1, 2, 3)] == [False, False, True]
    set_dropout(network, 0)
    assert is_random(network[:3])
    assert not any(m.p for m in network.modules() if isinstance(m, nn.Dropout))


# Trainings --------------------------------------------------------------------------------------


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


# Misfits ----------------------------------------------------------------------------------------


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
