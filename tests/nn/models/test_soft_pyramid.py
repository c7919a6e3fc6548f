"""SOFT: the counts of its specification, its growth with the image, and the released network written out by hand."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import gossamer
from expected_errors import expect_error
from gossamer.checkpoint import load_model, save_model
from gossamer.nn.attention import MECHANISMS, AdaptiveConfig, SoftConfig, SoftmaxConfig, SoftNormConfig
from gossamer.nn.layers.block import Block
from gossamer.nn.models.soft_pyramid import PRESETS, PostNormBlock, SoftPyramid, SoftPyramidConfig
from gossamer.profiling.macs import count_macs

TINY: dict[str, Any] = {
    "image_size": (44, 36),
    "in_channels": 2,
    "num_classes": 3,
    "dims": (8, 12, 16, 20),
    "depths": (1, 2, 1, 1),
    "num_heads": (1, 2, 2, 5),
    "drop_path": 0.0,
}
VARIANTS = ["soft_tiny", "soft_norm_tiny", "soft_tiny_official", "soft_norm_tiny_official", "soft_pyramid_small"]
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def small(variant: str = "soft_tiny", **changes: Any) -> SoftPyramid:
    torch.manual_seed(0)
    return dataclasses.replace(PRESETS[variant], **{**TINY, **changes}).build()


def on_meta(config: SoftPyramidConfig) -> SoftPyramid:
    with torch.device("meta"):
        return config.build().eval()


def soft_stages(config: SoftPyramidConfig, size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Return blocks x heads, tokens, landmarks and head width of each SOFT stage."""
    found = []
    for stage in range(3 if config.last_stage == "softmax" else 4):
        attention, grid = config.stage_attention(stage), config.stage_grid(stage, size)
        assert isinstance(attention, SoftConfig)
        pooled = attention.landmarks == "pooling"
        landmarks = math.prod(min(7, side) if pooled else side // (8, 4, 2)[stage] for side in grid)
        width = config.dims[stage] // config.num_heads[stage]
        found.append((config.depths[stage] * config.num_heads[stage], math.prod(grid), landmarks, width))
    return found


def newton_macs(config: SoftPyramidConfig, side: int = 224) -> int:
    return sum(heads * 20 * 2 * m**3 for heads, _, m, _ in soft_stages(config, (side, side)))


def macs(config: SoftPyramidConfig, side: int = 224) -> int:
    """Return the multiply-accumulates without Newton's iteration."""
    return on_meta(config).cost((side, side)).macs - newton_macs(config, side)


@pytest.mark.parametrize(
    ("size", "count", "gmacs", "newton"),
    [
        ("tiny", 12_431_112, 1.8610, 0.3388),
        ("small", 22_913_288, 3.2386, 0.6965),
        ("medium", 44_260_008, 7.2177, 1.6706),
        ("large", 63_100_936, 11.0266, 2.3247),
        ("huge", 85_436_776, 15.7626, 3.0165),
    ],
)
def test_the_linear_form_has_the_counts_of_its_specification(
    size: str, count: int, gmacs: float, newton: float
) -> None:
    config = PRESETS[f"soft_{size}"]
    assert sum(parameter.numel() for parameter in on_meta(config).parameters()) == count
    assert macs(config) == pytest.approx(1e9 * gmacs, rel=5e-3)
    assert newton_macs(config) == pytest.approx(1e9 * newton, rel=5e-4)


@pytest.mark.parametrize(
    ("size", "count", "linear", "with_products", "newton", "softmax"),
    [
        ("tiny", 13_069_056, 1.8297, 1.9637, 0.1882, 0.0051),
        ("small", 24_110_092, 3.1847, 3.4000, 0.3953, 0.0102),
        ("small_20", 38_858_462, 6.0882, 6.4945, 1.0071, 0.0102),
        ("medium", 45_812_707, 7.0172, 7.5132, 1.2941, 0.0128),
        ("large", 64_700_646, 10.7124, 11.4126, 1.9483, 0.0128),
        ("huge", 87_108_273, 15.3153, 16.2650, 2.6400, 0.0128),
    ],
)
def test_the_released_form_has_the_counts_of_its_specification(
    size: str, count: int, linear: float, with_products: float, newton: float, softmax: float
) -> None:
    config = PRESETS[f"soft_{size}_official"]
    assert sum(parameter.numel() for parameter in on_meta(config).parameters()) == count
    assert newton_macs(config) == pytest.approx(1e9 * newton, rel=5e-4)
    # Ours are evaluated from the right, the released ones are not: m^2 d of a product here, n m^2 there.
    stages = soft_stages(config, (224, 224))
    ours = sum(heads * (3 * n * m * d + 2 * m * m * d) for heads, n, m, d in stages)
    released = sum(heads * (3 * n * m * d + m * m * d + n * m * m) for heads, n, m, d in stages)
    without = macs(config) - 1e9 * softmax - ours
    assert without == pytest.approx(1e9 * linear, rel=1e-4)
    assert without + released == pytest.approx(1e9 * with_products, rel=1e-4)


def test_the_linear_form_grows_with_the_area() -> None:
    config = PRESETS["soft_tiny"]
    assert macs(config, 448) <= 4.2 * macs(config)
    assert macs(config, 896) == pytest.approx(16 * macs(config), rel=0.01)
    with_newton = [macs(config, side) + newton_macs(config, side) for side in (224, 448, 896)]
    assert 3.4 <= with_newton[1] / with_newton[0] <= 3.53
    assert 13.1 <= with_newton[2] / with_newton[0] <= 13.7


def test_the_released_form_grows_460_fold() -> None:
    config = PRESETS["soft_tiny_official"]
    found = {}
    for side, published in ((224, 2.22), (448, 24.7), (672, 199), (896, 1022)):
        # The published count has three products for each distance, and the released order of the products.
        further = sum(
            heads * (2 * n * m * d + 2 * m * m * d + n * m * m - m * m * d)
            for heads, n, m, d in soft_stages(config, (side, side))
        )
        found[side] = macs(config, side) + newton_macs(config, side) + further
        assert found[side] == pytest.approx(1e9 * published, rel=2e-3)
    assert found[896] / found[224] == pytest.approx(460, rel=2e-3)


@pytest.mark.parametrize("attention", sorted(MECHANISMS))
@pytest.mark.parametrize("last_stage", ["same", "softmax"])
def test_closed_form_equals_counted_macs(attention: str, last_stage: str) -> None:
    network = small(attention=MECHANISMS[attention](), last_stage=last_stage, local_kernels=(3, 5, 0, 3))
    for size in ((44, 36), (51, 70)):
        assert network.cost(size).macs == count_macs(network, torch.zeros(1, 2, *size)).total


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": SoftConfig(landmarks="convolution", local_kernel=3)},
        {"attention": SoftNormConfig(scale="full", inverse="cholesky"), "block_norm": "pre"},
        {"pooling": "class_token", "stem_stride": 2, "convolution_norm": "group"},
    ],
)
def test_closed_form_equals_counted_macs_of_each_option(changes: dict[str, Any]) -> None:
    network = small(**changes)
    assert network.cost((44, 36)).macs == count_macs(network, torch.zeros(1, 2, 44, 36)).total


@every_variant
@pytest.mark.parametrize("side", [230, 240, 256])
def test_sides_that_no_stride_divides(variant: str, side: int) -> None:
    network = small(variant, image_size=(224, 224), stem_stride=4).eval()
    with torch.inference_mode():
        logits = network(torch.randn(2, 2, side, side - 7))
    assert logits.isfinite().sum() == 2 * 3


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("soft_norm")])
def test_every_normalized_form_can_be_constructed_and_run(name: str) -> None:
    plain = PRESETS[name.replace("_norm", "", 1)]
    assert isinstance(PRESETS[name].attention, SoftNormConfig)
    assert dataclasses.replace(PRESETS[name], attention=plain.attention) == plain
    shapes = [{key: value.shape for key, value in on_meta(of).state_dict().items()} for of in (PRESETS[name], plain)]
    assert shapes[0] == shapes[1]
    network = small(name, depths=(1, 1, 1, 1))
    logits = network(torch.randn(2, 2, 44, 36))
    assert bool(logits.isfinite().all())
    logits.square().sum().backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []


@every_variant
def test_a_result_does_not_depend_on_batch_mates(variant: str) -> None:
    network = small(variant).double().eval()
    images = torch.randn(3, 2, 44, 36, dtype=torch.float64)
    alone = network(images[1:2])
    images[0] *= 100.0
    torch.testing.assert_close(network(images)[1:2], alone, rtol=1e-9, atol=1e-9)


@every_variant
def test_save_and_load_are_the_identity(variant: str, tmp_path: Path) -> None:
    network = small(variant).eval()
    save_model(network, tmp_path)
    again = load_model(tmp_path)
    images = torch.randn(2, 2, 44, 36)
    assert again.config == network.config
    assert torch.equal(network(images), again(images))


def newton(matrix: Tensor, jitter: float) -> Tensor:
    steps = 1.8 / matrix.sum(dim=-1).amax(dim=-1)[..., None, None] ** 2
    matrix = matrix + jitter * torch.eye(matrix.shape[-1], dtype=matrix.dtype)
    inverse = steps * matrix
    for _ in range(20):
        inverse = 2 * inverse - inverse @ matrix @ inverse
    return inverse


def released_logits(network: SoftPyramid, images: Tensor) -> Tensor:
    """Return the logits of the released network, from the equations of its specification and the weights alone."""
    config, weights = network.config, dict(network.state_dict())

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, x: Tensor, eps: float) -> Tensor:
        deviation = x - x.mean(dim=-1, keepdim=True)
        root = (deviation.square().mean(dim=-1, keepdim=True) + eps).sqrt()
        return deviation / root * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def convolutions(name: str, x: Tensor, strides: tuple[int, ...]) -> Tensor:
        for index, stride in enumerate(strides):
            of = {key: weights[f"{name}.{index}.{key}"] for key in ("convolution.weight", "convolution.bias")}
            x = F.conv2d(x, *of.values(), stride=stride, padding=1)
            mean, var, scale, shift = (
                weights[f"{name}.{index}.norm.{key}"][:, None, None]
                for key in ("running_mean", "running_var", "weight", "bias")
            )
            x = F.relu((x - mean) / (var + 1e-5).sqrt() * scale + shift)
        return x

    def soft(name: str, x: Tensor, stage: int, height: int, width: int) -> Tensor:
        heads, ratio = config.num_heads[stage], (8, 4, 2)[stage]
        (batch, n, channels), d = x.shape, x.shape[2] // heads
        q, v = (linear(f"{name}.{key}", x).view(batch, n, heads, d).transpose(1, 2) for key in ("shared", "value"))
        q = q / d**0.25
        plane = q.reshape(batch * heads, n, d).transpose(1, 2).reshape(batch * heads, d, height, width)
        found = F.conv2d(plane, weights[f"{name}.landmark.weight"], stride=ratio).flatten(2).transpose(1, 2)
        found = F.gelu(norm(f"{name}.landmark_norm", found, 1e-5)).reshape(batch, heads, -1, d)
        square = torch.exp(-0.5 * torch.cdist(found, found, compute_mode="donot_use_mm_for_euclid_dist") ** 2)
        kernel = torch.exp(-0.5 * torch.cdist(found, q, compute_mode="donot_use_mm_for_euclid_dist") ** 2)
        normalized = isinstance(config.attention, SoftNormConfig)
        inverse = newton(square, 0.0 if normalized else 0.01)
        if normalized:
            root = square.sum(dim=-1) ** -0.5
            inverse = root[..., :, None] * inverse * root[..., None, :]
        local = weights[f"{name}.local.weight"]
        planes = v.permute(0, 3, 1, 2).reshape(batch * d, heads, height, width)
        planes = F.conv2d(planes, local, padding=local.shape[-1] // 2, groups=heads)
        beside = planes.reshape(batch, d, heads, n).permute(0, 2, 3, 1)
        y = kernel.transpose(-2, -1) @ inverse @ kernel @ v + beside
        return linear(f"{name}.output", y.transpose(1, 2).reshape(batch, n, channels))

    def softmax(name: str, x: Tensor) -> Tensor:
        heads, (batch, n, channels) = config.num_heads[3], x.shape
        q, k, v = linear(f"{name}.qkv", x).view(batch, n, 3, heads, channels // heads).permute(2, 0, 3, 1, 4)
        y = torch.softmax(q @ k.transpose(-2, -1) / (channels // heads) ** 0.5, dim=-1) @ v
        return linear(f"{name}.output", y.transpose(1, 2).reshape(batch, n, channels))

    def mlp(name: str, x: Tensor, approximate: str) -> Tensor:
        return linear(f"{name}.contract", F.gelu(linear(f"{name}.expand", x), approximate=approximate))

    plane = images
    for stage in range(3):
        plane = convolutions(f"stages.{stage}.embed", plane, (2, 1, 2) if stage == 0 else (2,))
        height, width = plane.shape[2:]
        x = plane.flatten(2).transpose(1, 2) + weights[f"stages.{stage}.position.table"]
        for index in range(config.depths[stage]):
            name = f"stages.{stage}.blocks.{index}"
            x = norm(f"{name}.attention_norm", x + soft(f"{name}.attention", x, stage, height, width), 1e-5)
            x = norm(f"{name}.feed_forward_norm", x + mlp(f"{name}.feed_forward", x, "tanh"), 1e-5)
        plane = x.transpose(1, 2).reshape(-1, config.dims[stage], height, width)
    x = convolutions("stages.3.embed", plane, (2,)).flatten(2).transpose(1, 2)
    x = torch.cat([weights["stages.3.class_token"].expand(x.shape[0], -1, -1), x], dim=1)
    x = x + weights["stages.3.position.table"]
    for index in range(config.depths[3]):
        name = f"stages.3.blocks.{index}"
        x = x + softmax(f"{name}.attention", norm(f"{name}.attention_norm", x, 1e-6))
        x = x + mlp(f"{name}.feed_forward", norm(f"{name}.feed_forward_norm", x, 1e-6), "none")
    return linear("classifier", norm("norm", x, 1e-6)[:, 0])


@pytest.mark.parametrize("variant", ["soft_tiny_official", "soft_norm_tiny_official"])
def test_the_released_network_written_out(variant: str) -> None:
    network = small(variant, image_size=(72, 40), depths=(1, 2, 1, 2)).double().eval()
    generator = torch.Generator().manual_seed(1)
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator, dtype=torch.float64) - 0.5
            value.add_(noise.abs() if "running_var" in key else noise)
    images = torch.randn(2, 2, 72, 40, dtype=torch.float64)
    logits = network(images)
    assert float((logits[0] - logits[1]).abs().max().detach()) > 1e-3
    torch.testing.assert_close(logits, released_logits(network, images), rtol=1e-8, atol=1e-8)


def test_every_stage_has_its_own_ratio_and_local_kernel() -> None:
    network = small("soft_tiny_official")
    sides = [
        (stage.blocks[0].attention.landmark.kernel_size[0], stage.blocks[0].attention.local.kernel_size[0])
        for stage in list(network.stages)[:3]
    ]
    assert sides == [(8, 9), (4, 5), (2, 3)]
    assert isinstance(network.config.stage_attention(3), SoftmaxConfig)
    assert small(attention=SoftConfig(local_kernel=3)).config.stage_attention(3) == SoftConfig(local_kernel=3, ratio=1)


def test_blocks_normalize_where_they_are_told_to() -> None:
    def kinds(network: SoftPyramid) -> list[type]:
        return [type(stage.blocks[0]) for stage in network.stages]  # type: ignore[index]

    assert kinds(small()) == [PostNormBlock] * 4
    assert kinds(small(block_norm="pre")) == [Block] * 4
    assert kinds(small("soft_tiny_official")) == [PostNormBlock] * 3 + [Block]


def test_stochastic_depth_skips_whole_branches_of_a_sample() -> None:
    torch.manual_seed(0)
    block = PostNormBlock(SoftConfig().build(8, 2, grid=(3, 5)), 2.0, 0.0, 0.5).double()
    tokens = torch.randn(40, 15, 8, dtype=torch.float64)
    found = block(tokens, (3, 5))
    first = [block.attention_norm(tokens + factor * block.attention(tokens, (3, 5))) for factor in (0.0, 2.0)]
    choices = [block.feed_forward_norm(y + factor * block.feed_forward(y)) for y in first for factor in (0.0, 2.0)]
    distances = torch.stack([(found - choice).abs().amax(dim=(1, 2)) for choice in choices])
    assert float(distances.amin(dim=0).max().detach()) < 1e-9
    assert set(distances.argmin(dim=0).tolist()) == {0, 1, 2, 3}


def test_stochastic_depth_rises_over_all_blocks() -> None:
    network = small(depths=(1, 2, 1, 1), drop_path=0.4)
    rates = [block.drop_path.probability for stage in network.stages for block in stage.blocks]  # type: ignore[union-attr]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_positions_are_resampled_bilinearly() -> None:
    position = small().stages[0].position
    tokens = torch.zeros(1, 7 * 13, 8)
    plane = position.table.transpose(1, 2).unflatten(2, (11, 9))  # type: ignore[union-attr]
    wanted = F.interpolate(plane, (7, 13), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
    torch.testing.assert_close(position(tokens, (7, 13)), wanted)  # type: ignore[operator]


def test_mean_replaces_an_unsupported_class_token() -> None:
    with_token = gossamer.create_model("soft_tiny_official", attention="local", **TINY)
    assert with_token.config.pooling == "class_token"  # type: ignore[attr-defined]
    changed = dataclasses.replace(PRESETS["soft_tiny_official"], last_stage="same", attention=MECHANISMS["local"]())
    assert changed.with_supported_readout().pooling == "mean"


def test_auxiliary_losses_of_all_blocks_are_averaged() -> None:
    network = small(attention=AdaptiveConfig(prior_weight=0.1)).eval()
    images = torch.randn(2, 2, 44, 36)
    parts: list[Tensor] = []
    plane = images
    for stage in network.stages:
        tokens, grid = stage(plane, parts)
        plane = tokens.transpose(1, 2).unflatten(2, grid)
    logits, _, loss, _ = network.training_output(images)
    assert len(parts) == 5
    torch.testing.assert_close(loss, torch.stack(parts).mean())
    torch.testing.assert_close(logits, network(images))
    assert small().training_output(images).penalty is None


@pytest.mark.parametrize("variant", ["soft_tiny", "soft_norm_tiny_official", "soft_pyramid_small"])
def test_one_batch_can_be_overfitted(variant: str) -> None:
    network = small(variant, depths=(1, 1, 1, 1), stem_stride=2, image_size=(20, 28))
    images, labels = torch.randn(6, 2, 20, 28), torch.tensor([0, 1, 2, 0, 1, 2])
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(60):
        loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1


def test_refuses_images_too_small_for_a_landmark() -> None:
    config = PRESETS["soft_tiny_official"]
    with expect_error("image_size", "28x64", "7x16", "stage 1", "8x8", 29):
        config.check_image_size((28, 64))
    config.check_image_size((29, 40))
    assert small("soft_tiny_official").eval()(torch.randn(2, 2, 29, 40)).shape == (2, 3)
    PRESETS["soft_tiny"].check_image_size((1, 1))


@pytest.mark.parametrize(
    ("changes", "where", "shown"),
    [
        ({"dims": (8, 12, 16, 21)}, "num_heads", "21"),
        ({"dims": (7, 12, 16, 20)}, "dims", "7"),
        ({"depths": (1, 0, 1, 1)}, "depths", "0"),
        ({"ratios": (8, 4, 2, 0)}, "ratios", "0"),
        ({"drop_path": 1.0}, "drop_path", "1.0"),
        ({"mlp_ratio": 0.0}, "mlp_ratio", "0.0"),
        ({"local_kernels": (9, 5, 3, 2)}, "local_kernel", "2"),
        ({"in_channels": 0}, "in_channels", "0"),
    ],
)
def test_refuses_bad_values(changes: dict[str, Any], where: str, shown: str) -> None:
    with expect_error(where, shown):
        dataclasses.replace(PRESETS["soft_tiny"], **{**TINY, **changes})
